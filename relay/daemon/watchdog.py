"""Life signs to systemd (WatchdogSec=): sent while the event loop turns and the spool's writer answers, and only then.

A loop that hangs sends nothing, nor does one whose writer is stuck in an fsync that never returns: systemd ends such a
relay and starts it anew. A full disk or a lock that another program holds is no reason to: the writer answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from relay.spool import Spool, SpoolBroken, SpoolError


def watchdog_period(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two life signs, half of what systemd waits (sd_watchdog_enabled(3)); None: none are wanted."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 else None


async def keep_watch(spool: Spool, period: float, live: Callable[[], Awaitable[None]]) -> None:
    """Call ``live`` every ``period`` seconds for as long as ``spool`` answers; ends with it."""
    while True:
        try:
            await spool.beat()
        except SpoolBroken:
            return
        except SpoolError:
            pass  # it can't write just now, and says so: that is for the mail log, and gets no better by a restart
        await live()
        await asyncio.sleep(period)
