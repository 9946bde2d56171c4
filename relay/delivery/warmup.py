"""Warming up: a calendar of daily limits for an upstream that is to get used to us. Pure.

On its first day an upstream is given ``first_day`` messages, then each day ``growth`` times as many. At midnight of the
machine's time the next day's limit holds; it stays where it was after a day of which too many were deferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from relay.delivery.rehearsal import DAY, WARMUP, warmed_up
from relay.settings import Limit, Warmup

TOO_MANY: Final = 0.05
"""A day with a larger share of deferrals is not followed by a larger one."""
ENOUGH: Final = 20
"""Messages of a day that its share is told from."""


def limits_on(limits: Sequence[Limit], warmup: Warmup, held: int, today: datetime) -> tuple[Limit, ...]:
    """The limits that hold ``today``, local time, where the warm-up was ``held`` up for so many days."""
    count = warmed_up(warmup, max(0, (today.date() - warmup.start).days) - held)
    if count >= next((limit.count for limit in limits if limit.window == DAY), count + 1):
        return tuple(limits)
    return (*(limit for limit in limits if limit.window != DAY), Limit(count, DAY, WARMUP))


def until_midnight(now: datetime) -> float:
    """Seconds of local time until the next day."""
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(1.0, tomorrow.timestamp() - now.timestamp())


def is_held_by(tried: int, deferred: int) -> bool:
    """Whether a day's deferrals hold the growth up."""
    return tried >= ENOUGH and deferred > tried * TOO_MANY
