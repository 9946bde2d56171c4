"""What an upstream will bear, learned from its refusals: a rate, and a number of connections. Pure.

A rate is lowered by a share when the upstream says that it is too fast, and raised again while it is made full use of:
quickly at first, hardly at all near the rate that was too fast last time, then ever faster, as that may be over (the
cubic curve of RFC 9438 §4.1, over time in use). Each time the same rate is too fast it is neared more slowly: so a
limit is used nearly whole, and tried seldom. Nothing is raised while nothing waits: idle time proves nothing.

Times are seconds of one clock that never steps. Units are messages, or recipients.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

SHARE: Final = 0.9
"""Of the rate that was too fast it goes on with this share."""
FIRST_SPAN: Final = 8.0
LAST_SPAN: Final = 90.0
"""Seconds in use until it is at the bad rate again: doubling each time that the same rate was too fast."""
SAME: Final = 0.25
"""Bad rates that differ by less than this share are taken for the same limit."""
SLOWEST: Final = 1 / 60
"""Units a second that it is never slower than: below that an upstream pauses."""
OVER: Final = 8.0
"""So many times the bad rate without a refusal, and the limit is thought to be gone."""
FIRST_GAP: Final = 0.5
LAST_GAP: Final = 16.0
"""Seconds of silence after a refusal, doubling with each that follows without anything taken between."""
UNLIMITED: Final = 1 << 30
IN_VAIN: Final = 5
"""Refusals running, with nothing taken between, after which slowing down is no answer: the upstream pauses."""
MEASURED: Final = 1.0
"""Seconds over which the rate of what was taken is measured, at least."""
INTERVALS: Final = 10
"""Units that are measured, at least: at a slow pace a second tells nothing."""
REMEMBERED: Final = 256
"""Replies whose times are remembered for that."""
SLACK: Final = 0.010
"""Seconds by which the pace may be made up for: timers are late by as much."""
WAITED: Final = 0.05
"""Seconds after it was free, or an interval, within which what is taken is thought to have waited for it."""
PATIENCE: Final = 2.0
LAST_PATIENCE: Final = 3600.0
"""Seconds until one more connection is tried, doubling each time that it was one too many."""


class Refusal(Enum):
    """What a refusal came to."""

    LOWERED = auto()
    """The rate was lowered for it."""
    OLD = auto()
    """What it refused was on its way when the rate was lowered last: no answer to that."""
    IN_VAIN = auto()
    """Nothing goes, however slowly: the upstream is to be left alone."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A learned rate: ``bad`` units a second were too fast; ``busy`` seconds it was made full use of since."""

    bad: float
    span: float = FIRST_SPAN
    busy: float = 0.0

    @property
    def rate(self) -> float:
        """Units a second that may go now."""
        ahead = 1.0 - self.busy / self.span
        return max(SLOWEST, self.bad * (1.0 - (1.0 - SHARE) * ahead**3))

    @property
    def is_over(self) -> bool:
        """Whether so much more goes well that nothing of it holds any more."""
        return self.rate >= OVER * max(self.bad, SLOWEST)

    def lowered(self, measured: float) -> Pace:
        """After a refusal; ``measured`` is the rate of what was taken lately. At most halved at a time."""
        bad = max(SLOWEST, min(self.rate, max(measured, self.rate / 2)))
        known = abs(bad - self.bad) <= SAME * self.bad
        # Soon after it was lowered a refusal says that this was not enough, and nothing of how fast is too fast.
        early = self.busy < self.span / 4
        if known and not early:
            return Pace(bad, min(self.span * 2, LAST_SPAN))
        return Pace(bad, self.span if known else FIRST_SPAN)


class Tempo:
    """The working rate of one upstream. ``pace`` is None as long as none was ever too fast."""

    __slots__ = (
        "_before",
        "_lowered_at",
        "_measured_over",
        "_refusals",
        "_slot",
        "_taken",
        "_took_at",
        "_vain_at",
        "pace",
    )

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace = pace
        self._taken: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._slot = -math.inf
        self._took_at = -math.inf
        self._lowered_at = -math.inf
        self._refusals = 0
        self._vain_at = -math.inf
        self._before: Pace | None = None
        self._measured_over = 0.0

    # -- what it is told --------------------------------------------------------------------------------------------
    def took(self, units: int, now: float) -> None:
        """The upstream took so many units."""
        self._taken.append((now, units))
        self._refusals = 0
        if self.pace is None and now < self._vain_at + MEASURED:
            # What was on its way beside what was refused goes: it is not all in vain.
            self._lowered_at = self._vain_at
            self.pace = self._slower(self._measured(self._lowered_at))
            self._slot = now + self._gap
        elif self.pace is not None and self._took_at < self._lowered_at:
            # Begun before the rate was lowered, as nothing was since: it belongs to what was measured then. A refusal
            # of MAIL is heard a round trip before the reply to what was taken just before it.
            self.pace = self._slower(self._measured(self._lowered_at))

    def refused(self, begun: float, now: float) -> Refusal:
        """It refused, as too fast, what was begun at ``begun``."""
        if begun <= self._lowered_at:
            self._slot = max(self._slot, now + self._gap)
            return Refusal.OLD
        self._measured_over = self._window(now)
        measured = self._measured(now)
        if self._refusals >= IN_VAIN or (self.pace is None and not measured):
            self._before = self.pace
            self._vain_at = now
            return Refusal.IN_VAIN
        self._refusals += 1
        self._before, self._lowered_at = self.pace, now
        self.pace = self._slower(measured)
        self._slot = now + self._gap
        return Refusal.LOWERED

    # -- what it allows ---------------------------------------------------------------------------------------------
    @property
    def free_at(self) -> float:
        """When the next unit may start: in the past where it may at once."""
        return -math.inf if self.pace is None else self._slot

    def room(self, now: float) -> int:
        """How many units may start now."""
        if self.pace is None:
            return UNLIMITED
        if self._slot > now:
            return 0
        return 1 + int((now - max(self._slot, now - SLACK)) * self.pace.rate)

    def take(self, units: int, now: float) -> None:
        """So many units start. The pace rises with the time in use, and is forgotten where it is over."""
        if self.pace is None:
            return
        interval = units / self.pace.rate
        if now - self._slot <= max(WAITED, interval):
            elapsed = min(now - self._took_at, 2 * max(interval, WAITED))
            self.pace = replace(self.pace, busy=self.pace.busy + max(0.0, elapsed))
        self._slot = max(self._slot, now - SLACK) + interval
        self._took_at = now
        if self.pace.is_over:
            self.pace = None

    # -- inside -----------------------------------------------------------------------------------------------------
    @property
    def _gap(self) -> float:
        return min(FIRST_GAP * 2.0 ** max(0, self._refusals - 1), LAST_GAP)

    def _slower(self, measured: float) -> Pace:
        return Pace(max(measured, SLOWEST)) if self._before is None else self._before.lowered(measured)

    def _window(self, now: float) -> float:
        """Seconds to measure over: at a pace so slow that a second tells nothing, some intervals."""
        over = MEASURED if self.pace is None else max(MEASURED, INTERVALS / self.pace.rate)
        return over if len(self._taken) < REMEMBERED else min(over, max(now - self._taken[0][0], 0.001))

    def _measured(self, now: float) -> float:
        """Units a second that were taken within the window before ``now``, or have been since."""
        since = now - self._measured_over
        return sum(units for at, units in self._taken if at >= since) / self._measured_over


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many connections an upstream bears: ``most``; one more is tried from ``until`` on."""

    most: int
    until: float
    patience: float = PATIENCE

    def allowed(self, now: float) -> int:
        """How many there may be now."""
        return self.most if now < self.until else self.most + 1

    def joined(self, connections: int, now: float) -> Crowd:
        """So many are open now: where that is more than was thought, it bears them, and the next one is tried soon."""
        return self if connections <= self.most else Crowd(connections, now + PATIENCE)


def crowded(before: Crowd | None, others: int, now: float) -> Crowd:
    """After a connection more than ``others`` was too many; ``before`` is what was known."""
    most = max(1, others)
    if before is None or most < before.most:
        return Crowd(most, now + PATIENCE)
    if now < before.until:
        return before  # it was on its way when that was learned
    patience = min(before.patience * 2, LAST_PATIENCE)
    return Crowd(before.most, now + patience, patience)
