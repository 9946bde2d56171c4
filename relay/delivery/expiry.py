"""Expiring what waits in memory: lifetimes run on while every upstream is down or at its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from relay.clock import Clock
from relay.delivery.alarm import Alarm
from relay.delivery.items import Item
from relay.delivery.ready import Ready
from relay.delivery.settle import Attempt, Ended, Settler
from relay.events import Status
from relay.outcome import expired

HERE: Final = Attempt("", "none", 1, (0.0, 0.0, 0.0, 0.0))
"""Where an outcome came about that no upstream had a part in."""
APART: Final = 1.0
"""Seconds between two looks at all that waits."""


class Expiry:
    """``why`` tells what keeps mail waiting that was never attempted."""

    def __init__(self, ready: Ready, settler: Settler, clock: Clock, alarm: Alarm, why: Callable[[Item], str]) -> None:
        self._ready = ready
        self._settler = settler
        self._clock = clock
        self._alarm = alarm
        self._why = why
        self._loop = asyncio.get_running_loop()
        self._next_look = 0.0

    def is_over(self, item: Item, now: float) -> bool:
        """Whether its lifetime is over at ``now`` (Unix seconds)."""
        return now >= self._settler.expires(item.message)

    def expire(self, item: Item) -> None:
        """Its time is up."""
        why = self._why(item)
        outcomes = [expired(recipient.last or why) for recipient in item.message.envelope.recipients]
        attempt = replace(HERE, delays=(item.waited, self._loop.time() - item.active, 0.0, 0.0))
        self._settler.put(Ended(item, outcomes, attempt, Status.EXPIRED))

    def look(self, at: float) -> None:
        """Expire what is over now (``at`` in loop time), and wake for what will be."""
        if at < self._next_look:
            self._alarm.set(self._next_look)
            return
        self._next_look = at + APART
        now = self._clock.now()
        for item in self._ready.without(lambda item: self.is_over(item, now)):
            self.expire(item)
        nearest = min((self._settler.expires(item.message) for item in self._ready), default=None)
        if nearest is not None:
            self._alarm.set(at + max(APART, nearest - now))
