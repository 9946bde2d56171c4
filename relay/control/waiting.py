"""How much mail waits for each upstream: of what delivery holds it knows itself, of what is in the spool by its turns.

The spool reads all that waits for that, so it is asked only where several upstreams come into question, and for no more
than a part of the time; in between its answer is scaled to what waits now.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from relay.clock import Clock
from relay.control.views import DeliveryView
from relay.delivery.turns import way_of
from relay.spool import Spool

GRAIN: Final = 60.0
"""Seconds to which due times are rounded up."""
PART_OF_TIME: Final = 10
"""Reading takes one part in so many of the time at the most."""
QUICK: Final = 0.05
"""Seconds of it that don't count."""


class WaitingMail:
    """Shares ``waiting`` messages out among upstreams."""

    def __init__(self, spool: Spool, clock: Clock, delivery: DeliveryView) -> None:
        self._spool = spool
        self._clock = clock
        self._delivery = delivery
        self._known: Counter[int] = Counter()
        self._next_look = float("-inf")

    async def by_upstream(self, waiting: int, preferred: str | None) -> Counter[str]:
        """How many of ``waiting`` messages each would take; what nobody knows of is the ``preferred`` one's."""
        counted = Counter(self._delivery.waiting_for())
        takers = self._delivery.takers()
        rest = waiting - counted.total()
        if rest > 0 and len(set(takers.values())) > 1:
            in_memory = counted.copy()
            by_turn = await self._look()
            spooled: Counter[str] = Counter()
            for way, count in by_turn.items():
                spooled[takers.get(way, preferred or "")] += count
            spooled -= in_memory
            known = spooled.total()
            for name, count in spooled.items():
                counted[name] += min(count, rest) if known <= rest else rest * count // known
        if preferred is not None:
            counted[preferred] = max(0, waiting - counted.total() + counted[preferred])
        return counted

    async def _look(self) -> Counter[int]:
        """Messages that are due or leased, by way."""
        started = self._clock.monotonic()
        if started >= self._next_look:
            now = self._clock.now()
            known: Counter[int] = Counter()
            for each in await self._spool.dues(now, GRAIN):
                if each.due - now < GRAIN / 2:
                    known[way_of(each.turn)] += each.messages
            self._known = known
            ended = self._clock.monotonic()
            self._next_look = ended + max(0.0, ended - started - QUICK) * PART_OF_TIME
        return self._known
