"""How fast an upstream takes mail, measured in passing: seconds a message, and messages a second now. Pure.

What a session needs for a message is the time from the reply before it, or from its own first command where the session
was idle till then. Messages in a row, each begun before the reply to the one before it, are told apart from lone ones:
pipelined, a session needs a fraction of the time, and a backlog leaves pipelined.

Times are monotonic seconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

SPAN: Final = 3.0
SOME: Final = 64
"""A mean is of so many seconds, and of so many messages, at the least."""
RECENT: Final = 10
"""Seconds over which the rate of now is taken."""
ENOUGH: Final = 16
"""Pipelined messages from which on their mean is believed."""
ASSUMED: Final = 0.1
"""Seconds a message where nothing was measured yet: a round trip across a continent, and a little thought."""


class Mean:
    """An average over the last SPAN to twice as many seconds, of some messages at least, however long ago."""

    __slots__ = ("_before", "_count", "_since", "_sum")

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._since = -math.inf
        self._before = (0.0, 0)

    def add(self, value: float, now: float) -> None:
        """One more."""
        if now - self._since > SPAN and self._count >= SOME:
            self._before = (self._sum, self._count)
            self._sum, self._count, self._since = 0.0, 0, now
        elif not self._count:
            self._since = now
        self._sum += value
        self._count += 1

    @property
    def count(self) -> int:
        """How many it is of."""
        return self._count + self._before[1]

    @property
    def value(self) -> float:
        """The average; 0 of none."""
        return (self._sum + self._before[0]) / (self.count or 1)


class Rate:
    """Events a second, over the last RECENT whole seconds."""

    __slots__ = ("_began", "_second", "_seconds")

    def __init__(self, now: float) -> None:
        self._began = now
        self._second = int(now)
        self._seconds: deque[int] = deque((0,), maxlen=RECENT + 1)

    def add(self, now: float, count: int = 1) -> None:
        """So many at ``now``."""
        if int(now) > self._second:
            self._roll(now)
        self._seconds[-1] += count

    def at(self, now: float) -> float:
        """The rate; of the time that there is, where that is less than RECENT."""
        self._roll(now)
        over = min(float(RECENT), max(1.0, now - self._began))
        fraction = now - self._second
        oldest = self._seconds[0] * (1 - fraction) if len(self._seconds) > RECENT else 0.0
        whole = sum(self._seconds) - (self._seconds[0] if len(self._seconds) > RECENT else 0)
        return (whole + oldest) / over

    def _roll(self, now: float) -> None:
        for _ in range(min(int(now) - self._second, RECENT + 1)):
            self._seconds.append(0)
        self._second = max(self._second, int(now))


class Speed:
    """The gauge of one upstream."""

    __slots__ = ("_last", "_lone", "_pipelined", "latency", "sent")

    def __init__(self, now: float) -> None:
        self.sent = Rate(now)
        self.latency = Mean()
        """Seconds from a message's first command to its last reply."""
        self._lone = Mean()
        self._pipelined = Mean()
        # Of each session's last reply: when it came, and its seconds where the session was idle before.
        self._last: dict[object, tuple[float, float | None]] = {}

    def answered(self, session: object, now: float, transmission: float) -> None:
        """A message had its reply, after ``transmission`` seconds."""
        self.sent.add(now)
        self.latency.add(transmission, now)
        last, first = self._last.get(session, (-math.inf, None))
        if now - last < transmission:
            # Begun before the last one's reply: so was that one pipelined, had it itself found the session idle.
            if first is not None:
                self._pipelined.add(first, now)
            self._pipelined.add(now - last, now)
            self._last[session] = (now, None)
        else:
            if first is not None:
                self._lone.add(first, now)
            self._last[session] = (now, transmission)

    def ended(self, session: object) -> None:
        """A session is over."""
        self._last.pop(session, None)

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return self.latency.count > 0

    @property
    def busy(self) -> float:
        """Seconds that one session needs for a message of a backlog."""
        mean = self._pipelined if self._pipelined.count >= ENOUGH else self._lone
        return mean.value if mean.count else self.delay

    @property
    def delay(self) -> float:
        """Seconds from the start of a transaction to its end."""
        return self.latency.value if self.latency.count else ASSUMED
