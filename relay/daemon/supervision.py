"""The service manager's view of a running relay: ready, reloading, stopping, alive, and one line of how it stands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from relay.daemon.notify import notify, notify_reloading
from relay.daemon.watchdog import keep_watch, watchdog_period
from relay.spool import Spool

Standing = Callable[[], Awaitable[str]]
"""Gives one line for ``systemctl status``."""


class Supervision:
    """Tells the manager that ``environ`` names; where there is none, nothing happens at all."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._environ = environ
        self._period = watchdog_period(environ, pid)
        self._watch: asyncio.Task[None] | None = None

    async def ready(self, spool: Spool, standing: Standing) -> None:
        """Say that mail is taken, and from now on, where a watchdog waits for it, that the relay lives."""
        notify(self._environ, "READY=1", f"STATUS={await standing()}")
        if self._period is not None:
            self._watch = asyncio.create_task(keep_watch(spool, self._period, lambda: self._live(standing)))

    async def _live(self, standing: Standing) -> None:
        notify(self._environ, "WATCHDOG=1", f"STATUS={await standing()}")

    def reloading(self) -> None:
        """Say that a reload begins."""
        notify_reloading(self._environ)

    def reloaded(self) -> None:
        """Say that it is over."""
        notify(self._environ, "READY=1")

    def stopping(self) -> None:
        """Say that the relay ends: how long that may take is TimeoutStopSec='s from here on."""
        notify(self._environ, "STOPPING=1", "STATUS=ending what is in flight")
        if self._watch is not None:
            self._watch.cancel()
