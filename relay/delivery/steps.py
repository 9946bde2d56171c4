"""A wall clock that was set ahead: days that nobody lived through age no mail.

Arrivals are stored in wall time. A machine without a battery for its clock boots in the past and is set right minutes
later: mail that came before would be months old at once.
"""

from __future__ import annotations

from typing import Final

from relay.clock import Clock

LEAST: Final = 1.0
"""Seconds: less is a clock that is made to run a little faster."""


class Steps:
    """Compares the clocks whenever it is asked; what was set before it was made it cannot know."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._between = clock.now() - clock.monotonic()
        self._known = 0.0
        self._seen = 0.0

    def ahead(self, span: float) -> float:
        """By how many seconds the wall clock was set ahead. Forgotten after ``span`` seconds: what came before the step
        has lived through a span by then, and what came since counts right.
        """
        monotonic = self._clock.monotonic()
        ahead = self._clock.now() - monotonic - self._between
        if ahead > self._known + LEAST:
            self._seen = monotonic
        if ahead <= LEAST or monotonic - self._seen >= span:
            self._between += ahead
            ahead = 0.0
        self._known = ahead
        return ahead
