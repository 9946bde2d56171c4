"""Time, passed in: the wall clock for what is stored, the monotonic one for how long."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the edges ask the time of; tests hand in one that stands still."""

    def now(self) -> float:
        """Unix time in seconds: for rows, headers and logs."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant, never stepping: for delays and time-outs."""
        ...


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
