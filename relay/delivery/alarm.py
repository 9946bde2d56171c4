"""One timer that fires no later than the earliest moment it was set for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """``ring`` is called; a timer may fire a little early, so who is called looks and sets it anew."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    def set(self, when: float) -> None:
        """Ring at ``when`` (loop time) at the latest."""
        if self._timer is not None:
            if self._at <= when:
                return
            self._timer.cancel()
        self._at = when  # uvloop gives a Handle without when() where the delay rounds to nothing
        self._timer = self._loop.call_at(when, self._rings)

    def stop(self) -> None:
        """Never ring again."""
        if self._timer is not None:
            self._timer.cancel()

    def _rings(self) -> None:
        self._timer = None
        self._ring()
