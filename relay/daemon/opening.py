"""A running relay's spool: opened once nobody else has it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from relay.clock import Clock
from relay.daemon.faults import fault_hook
from relay.settings import SpoolSettings
from relay.spool import Spool, SpoolLocked
from relay.spool.sqlite import open_spool

LOCK_PATIENCE: Final = 1.0
"""Seconds that a locked spool is tried for: offline commands and submissions hold it for some tens of milliseconds."""


async def open_patiently(settings: SpoolSettings, clock: Clock, on_broken: Callable[[str], None]) -> Spool:
    """Open the spool; a command that has it for a moment is waited for, another relay is not (SpoolLocked)."""
    deadline = clock.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return await open_spool(settings, clock=clock, fault=fault_hook(os.environ), on_broken=on_broken)
        except SpoolLocked:
            if clock.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.05)
