"""Upkeep of a running relay: stories older than the history go, and so do dead letters that nobody looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from relay.clock import Clock
from relay.delivery.engine import Engine
from relay.delivery.settle import LAST_TRY
from relay.delivery.steps import Steps
from relay.spool import Selector, Spool, SpoolError

EVERY: Final = 3600.0
"""Seconds between two sweeps."""
EXPIRY_EVERY: Final = 60.0
"""Seconds between two looks for what is too old."""
PAGE: Final = 500
"""Dead letters that go at a time."""
_log = logging.getLogger(__name__)


class Upkeep:
    """What goes on beside serving mail, each in a task of its own, until it is cancelled."""

    def __init__(self, *chores: Coroutine[Any, Any, None]) -> None:
        self._tasks = [asyncio.create_task(chore) for chore in chores]

    def cancel(self) -> None:
        """End all of it."""
        for task in self._tasks:
            task.cancel()


async def sweep_hourly(
    spool: Spool, clock: Clock, history: Callable[[], float], forget: Callable[[], Awaitable[None]]
) -> None:
    """Forget what is older than ``history()`` seconds, imprints that are over, and what ``forget`` forgets: now and
    hourly, until cancelled.
    """
    while True:
        try:
            before = clock.now() - history()
            await _drop_dead_letters(spool, before, clock.now())
            await spool.sweep(before)
            await spool.forget_imprints(clock.now())
            await forget()
        except SpoolError as error:
            _log.warning("old history can't be swept: %s", error)
        await asyncio.sleep(EVERY)


async def expire_backlog(spool: Spool, engine: Engine, clock: Clock, lifetime: Callable[[], float]) -> None:
    """Every minute expire what is too old and has no room in memory, where its end would be seen, until cancelled; not
    before all that a start finds had its last try.
    """
    steps = Steps(clock)
    await asyncio.sleep(min(LAST_TRY, lifetime()))
    while True:
        await asyncio.sleep(EXPIRY_EVERY)
        try:
            await expire_old(spool, engine, clock.now() - steps.ahead(lifetime()), lifetime())
        except SpoolError as error:
            _log.warning("old mail can't be expired: %s", error)


async def expire_old(spool: Spool, engine: Engine, now: float, lifetime: float) -> None:
    """Expire what waits in the spool and arrived more than ``lifetime`` seconds before ``now``."""
    before = now - lifetime
    after = 0
    while engine.has_backlog and (oldest := await spool.oldest()) is not None and oldest < before:
        old = Selector(state="waiting", arrived_before=before, after=after)
        found = await spool.find(old, now, PAGE)
        if not found:
            return
        # What an operator holds stays held, and the message with it.
        await engine.expire([q.message.number for q in found if all(r.state != "held" for r in q.recipients)])
        after = found[-1].message.number


def current_trouble(engine: Engine) -> str:
    """Why mail waits that was never attempted, as far as the upstreams tell; "" where they are up."""
    return next((lane.last_error for lane in engine.lanes if lane.last_error and not lane.circuit.closed), "")


async def standing(spool: Spool, engine: Engine) -> str:
    """One line for ``systemctl status``."""
    totals = await spool.totals()
    return f"{totals.messages} queued; " + ", ".join(f"{lane.name} is {lane.state}" for lane in engine.lanes)


async def _drop_dead_letters(spool: Spool, before: float, now: float) -> None:
    old = Selector(state="dead", arrived_before=before)
    while found := await spool.find(old, now, PAGE):
        await spool.remove([queued.message.number for queued in found], now)
