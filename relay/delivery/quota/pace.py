"""An even pace: how far apart transactions start so that a window never fills up before it is over. Pure.

A permit stays in its window for the window and the time until its reply. Where they start a window's share apart, the
window is full before the first one leaves it, and what follows comes in clumps for ever. So they start as far apart as
a permit stays there, divided among all: then each goes when its predecessor of one window ago leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.delivery.quota.window import GRAINS

SLACK: Final = 0.010
"""Seconds by which it may be made up for in any case: timers are late by as much."""
BUSY: Final = 0.050
BUSY_PART: Final = 0.4
"""And by so many where that is no more than this part of an interval: a busy machine is late by as much."""
PART: Final = 0.1
"""The part of an interval by which it may be made up for in any case."""
MEMORY: Final = 16
"""A mean follows one part in so many."""
STRAYS: Final = 2.0
"""Replies take longer or shorter by so many mean deviations, as far as the pace is concerned."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of the replies: seconds until they come on the average, and their mean deviation from it."""

    mean: float | None = None
    deviation: float = 0.0

    def after(self, took: float) -> Pace:
        """One more came, after ``took`` seconds."""
        if self.mean is None:
            return Pace(took)
        away = took - self.mean
        return Pace(self.mean + away / MEMORY, self.deviation + (abs(away) - self.deviation) / MEMORY)

    def interval(self, seconds: float, count: int) -> float:
        """Seconds from one start to the next where ``count`` may go in a window of ``seconds``.

        A use counts for up to two buckets longer than its window. Where replies stray it is shorter, lest what is lost
        by a late one is lost for good.
        """
        stays = 0.0 if self.mean is None else max(0.0, self.mean - STRAYS * self.deviation)
        return (seconds * (1 + 2.5 / GRAINS) + stays) / count

    def slack(self, interval: float) -> float:
        """By how many seconds a late start may be made up for: as timers are late, and as replies stray."""
        return max(SLACK, PART * interval, min(BUSY_PART * interval, BUSY), min(interval, STRAYS * self.deviation))
