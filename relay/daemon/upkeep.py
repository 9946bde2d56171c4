"""Upkeep of a running relay: stories older than the history go, and so do dead letters that nobody looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from relay.clock import Clock
from relay.delivery.engine import Engine
from relay.spool import Selector, Spool, SpoolError

EVERY: Final = 3600.0
"""Seconds between two sweeps."""
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


async def sweep_hourly(spool: Spool, clock: Clock, history: Callable[[], float]) -> None:
    """Forget what is older than ``history()`` seconds, now and every hour, until cancelled."""
    while True:
        try:
            before = clock.now() - history()
            await _drop_dead_letters(spool, before, clock.now())
            await spool.sweep(before)
        except SpoolError as error:
            _log.warning("old history can't be swept: %s", error)
        await asyncio.sleep(EVERY)


def current_trouble(engine: Engine) -> str:
    """Why mail waits that was never attempted, as far as the upstreams tell; "" where they are up."""
    return next((lane.last_error for lane in engine.lanes if lane.last_error and not lane.circuit.closed), "")


async def _drop_dead_letters(spool: Spool, before: float, now: float) -> None:
    old = Selector(state="dead", arrived_before=before)
    while found := await spool.find(old, now, PAGE):
        await spool.remove([queued.message.number for queued in found], now)
