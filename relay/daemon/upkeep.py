"""Upkeep of a running relay: stories older than the history go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from relay.clock import Clock
from relay.spool import Spool, SpoolError

EVERY: Final = 3600.0
"""Seconds between two sweeps."""
_log = logging.getLogger(__name__)


async def sweep_hourly(spool: Spool, clock: Clock, history: Callable[[], float]) -> None:
    """Forget what is older than ``history()`` seconds, now and every hour, until cancelled."""
    while True:
        try:
            await spool.sweep(clock.now() - history())
        except SpoolError as error:
            _log.warning("old history can't be swept: %s", error)
        await asyncio.sleep(EVERY)
