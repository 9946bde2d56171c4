"""Taking back what delivery holds and no session has: for operators, and at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from relay.clock import Clock
from relay.delivery.expiry import HERE
from relay.delivery.fairness import Window
from relay.delivery.items import Item
from relay.delivery.ready import Ready
from relay.delivery.settle import Ended, Settler, returned
from relay.delivery.supply import Supply
from relay.outcome import Outcome
from relay.spool import Spool, SpoolError


class Withdrawal:
    """``take`` puts items among those that are ready again."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        ready: Ready,
        window: Window,
        supply: Supply,
        settler: Settler,
        take: Callable[[Sequence[Item]], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._ready = ready
        self._window = window
        self._supply = supply
        self._settler = settler
        self._take = take
        self._loop = asyncio.get_running_loop()

    async def withdraw(self, numbers: frozenset[int]) -> None:
        """Give leased messages that are not in a session back to the spool, due now; to be done while paused."""
        await self._supply.quiet()
        taken = self._ready.without(lambda item: item.number in numbers)
        if taken:
            # Shielded: who asked may go away, but what was taken out must arrive somewhere.
            await asyncio.shield(self._loop.create_task(self._back_or_kept(taken)))

    async def fail(self, numbers: Sequence[int], outcome: Outcome) -> int:
        """Fail what waits or is held of these messages, as an operator's decision, with a bounce; how many messages."""
        await self.withdraw(frozenset(numbers))
        return await asyncio.shield(self._loop.create_task(self._fail(numbers, outcome)))

    async def give_back_all(self) -> None:
        """Whatever is ready; the spool may raise."""
        await self._give_back(self._ready.without(lambda _: True))

    async def _back_or_kept(self, items: list[Item]) -> None:
        try:
            await self._give_back(items)
        except SpoolError:
            self._take(items)  # still leased, still ours
            raise

    async def _fail(self, numbers: Sequence[int], outcome: Outcome) -> int:
        leased = await self._spool.lease(numbers)
        for each in leased:
            item = self._supply.leased(each)
            outcomes = [outcome] * len(item.message.envelope.recipients)
            self._settler.put(Ended(item, outcomes, HERE, by_operator=True))
        await self._settler.drained()
        return len(leased)

    async def _give_back(self, items: Sequence[Item]) -> None:
        now = self._clock.now()
        await self._spool.settle([returned(item, now) for item in items])
        for item in items:
            if item.octets:
                self._window.free(item.octets, item.turn)
