"""Dates of RFC 5322 §3.3: spelled in UTC whatever the locale, read strictly."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import floor
from types import MappingProxyType
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NUMBER_OF_MONTH: Final = MappingProxyType({name.lower(): n for n, name in enumerate(_MONTHS, 1)})
# RFC 5322 §4.3: the obsolete names with a meaning of their own, in hours; "Z" is what ISO 8601's friends write.
_ZONES: Final = MappingProxyType(
    {"ut": 0, "gmt": 0, "utc": 0, "z": 0}
    | {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7}
)
_DATE_TIME: Final = re.compile(
    rf"(?:(?:{'|'.join(_DAYS)})[ \t]*+,)?+[ \t]*+"
    rf"([0-9]{{1,2}})[ \t]++({'|'.join(_MONTHS)})[ \t]++([0-9]{{4}})[ \t]++"
    r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?+[ \t]++"
    r"(?:([+-])([0-9]{2})([0-9]{2})|([A-Za-z]{1,3}))[ \t]*+(?:\([^()\\]*+\)[ \t]*+)?+",
    re.IGNORECASE,
)


def date_time(at: float) -> str:
    """``at`` (Unix seconds) as RFC 5322 §3.3 has it, in UTC, whatever the locale."""
    return _spelled(floor(at))


@lru_cache(2)
def _spelled(second: int) -> str:
    """Most messages come in the same second as the one before."""
    utc = datetime.fromtimestamp(second, UTC)
    return (
        f"{_DAYS[utc.weekday()]}, {utc.day} {_MONTHS[utc.month - 1]} {utc.year} "
        f"{utc.hour:02}:{utc.minute:02}:{utc.second:02} +0000"
    )


def parse_date_time(text: str) -> float | None:
    """A date as Unix seconds; None where ``text`` is none. It needs a zone; the name of the day is not checked.

    A comment may follow, as many programs name the zone in one.
    """
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes, zone = found.groups()
    if sign is not None:
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes)) * (-1 if sign == "-" else 1)
    elif zone.lower() in _ZONES:
        offset = timedelta(hours=_ZONES[zone.lower()])
    else:
        return None
    try:
        date = datetime(int(year), _NUMBER_OF_MONTH[month.lower()], int(day), int(hour), int(minute), tzinfo=UTC)
    except ValueError:
        return None
    # §3.3 allows a leap second; Unix time counts it as the next one.
    seconds = int(second or 0)
    return date.timestamp() + seconds - offset.total_seconds() if seconds <= 60 else None
