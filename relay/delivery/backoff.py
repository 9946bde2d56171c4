"""When a deferred recipient is tried again, and how long an upstream that is down is left alone. Pure.

All retry times come from here; sessions and upstreams never retry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

JITTER: Final = 0.2
"""Each delay is shortened or lengthened by up to this share, lest an outage ends in a thundering herd."""
FIRST_PROBE: Final = 1.0
LAST_PROBE: Final = 60.0
"""Seconds until a down upstream is tried again: doubling from the first to the last (contract §4b)."""


def next_due(attempts: int, now: float, expires: float, delays: Sequence[float], chance: float) -> float:
    """Unix seconds of the next attempt after ``attempts`` charged ones, the last delay repeating.

    ``chance`` in [0, 1) makes the jitter. Never later than ``expires``: then the recipient is looked at to expire.
    """
    delay = delays[min(max(attempts, 1), len(delays)) - 1]
    return min(now + jittered(delay, chance), max(expires, now))


def jittered(delay: float, chance: float) -> float:
    """``delay`` seconds give or take 20 %."""
    return delay * (1 + JITTER * (2 * chance - 1))


@dataclass(frozen=True, slots=True)
class Circuit:
    """Whether an upstream is thought to be reachable. ``retry_at`` is monotonic seconds, None while it is up."""

    failures: int = 0
    retry_at: float | None = None

    @property
    def closed(self) -> bool:
        """Up, for all we know."""
        return self.retry_at is None

    def failed(self, now: float, chance: float) -> Circuit:
        """After one more failure at ``now``."""
        delay = min(FIRST_PROBE * 2.0**self.failures, LAST_PROBE)
        return Circuit(min(self.failures + 1, 16), now + jittered(delay, chance))

    def may_probe(self, now: float) -> bool:
        """Whether a down upstream is due for another try."""
        return self.retry_at is not None and now >= self.retry_at
