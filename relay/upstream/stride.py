"""How far ahead of its replies one server is spoken to: less after it lost step, and more again in time.

That it *refuses* pipelined commands is an answer and stands for a day. That a connection went before its first
transaction was answered may be the server's dislike of them too, but most connections go for other reasons: this
counts for some minutes, and a network that hiccups does not cost a relay its speed for long. Pure.
"""

from __future__ import annotations

from typing import Final

from relay.smtp.client import Pipelining

REFUSED_FOR: Final = 86400.0
"""Seconds after which pipelining is tried again with a server that refused it: it may be another by then."""
LOST_FOR: Final = 600.0
"""Seconds after which it is tried again with a server that connections were merely lost with."""


class Stride:
    """``wanted`` is the most that the configuration allows. Times are monotonic seconds."""

    def __init__(self, wanted: Pipelining) -> None:
        self._wanted = wanted
        self._caps: list[tuple[Pipelining, float]] = []

    def now(self, now: float) -> Pipelining:
        """The most that a session which begins at ``now`` may do."""
        self._caps = [(most, until) for most, until in self._caps if now < until]
        return min((most for most, _ in self._caps), default=self._wanted)

    def lost_step(self, than: Pipelining, now: float, *, refused: bool) -> None:
        """A session that did ``than`` lost step: less for a while, longer where the server ``refused``.

        Sessions that were open beside each other and end for the same reason count once.
        """
        if than is Pipelining.OFF:
            return
        less = Pipelining(than - 1)
        if refused or less < self.now(now):
            self._caps.append((less, now + (REFUSED_FOR if refused else LOST_FOR)))
