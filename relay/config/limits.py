"""Durations, limits and pauses of relay.toml into values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from relay.config.problems import Unreadable, describe
from relay.settings import Limit, Pause

LIMIT_ALLOWED: Final = 'a count and a window of 1s to 366d such as "14/second", "600/hour", "50000/day" or "100/10m"'
PAUSE_ALLOWED: Final = 'a count and a duration such as { after = 50, for = "5s" }'

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION_MAX: Final = 3650 * 86400.0
_LIMIT: Final = re.compile(r"(\d{1,12})\s?/\s?(\S+)", re.ASCII)
_WINDOWS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_WINDOW_MIN, _WINDOW_MAX = 1.0, 366 * 86400.0
"""A shorter window would be one in which the network's jitter counts for more than the limit."""


def read_period(text: str) -> float | None:
    """Seconds of a duration, 0 included; None where it is none."""
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _SECONDS[found[2]] if found else None
    return seconds if seconds is not None and seconds <= _DURATION_MAX else None


def read_limit(text: str, _folder: Path) -> Limit | None:
    """``N/window``, the window by its name or as a duration."""
    found = _LIMIT.fullmatch(text)
    if found is None or not int(found[1]):
        return None
    window = _WINDOWS.get(found[2]) or read_period(found[2])
    return Limit(int(found[1]), window, text) if window and _WINDOW_MIN <= window <= _WINDOW_MAX else None


def read_pause(value: object) -> Pause:
    """``{ after = N, for = DURATION }``. Raises :class:`Unreadable`."""
    if isinstance(value, Mapping) and value.keys() == {"after", "for"}:
        after, seconds = value["after"], value["for"]
        period = read_period(seconds) if isinstance(seconds, str) else None
        if type(after) is int and 1 <= after <= 1_000_000 and period:
            return Pause(after, period)
    raise Unreadable(describe(value), PAUSE_ALLOWED)
