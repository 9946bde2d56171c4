"""Time, passed in: the wall clock for what is stored, the monotonic one for how long."""

from __future__ import annotations

import time
from contextlib import suppress
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


class BootClock(Protocol):
    """A clock that no hand and no NTP step moves, for limits over a restart. ``boot`` names the boot it counts from; ""
    where that can't be told.
    """

    boot: str

    def boottime(self) -> float:
        """Seconds since the boot, suspend included."""
        ...


class SystemBootClock:
    """Linux's CLOCK_BOOTTIME (clock_gettime(2)); elsewhere the monotonic clock, and no name for the boot."""

    def __init__(self) -> None:
        self.boot = ""
        if hasattr(time, "CLOCK_BOOTTIME"):
            with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
                self.boot = file.read().strip()

    @staticmethod
    def boottime() -> float:
        """Seconds since the boot."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
