"""Routes' conditions, shares and warm-ups of relay.toml into values."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from relay.config.limits import LIMIT_ALLOWED, read_limit
from relay.config.problems import Unreadable, describe
from relay.mail import Priority
from relay.settings import Limit, RouteMatch, Warmup

SHARE_ALLOWED: Final = 'a share from "0%" to "90%"'
_SHARE: Final = re.compile(r"(\d{1,2}(?:\.\d{1,2})?)%", re.ASCII)
_SHARE_MOST: Final = 90.0
_DOMAIN: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_FIELD: Final = re.compile(r"[!-9;-~]{1,128}", re.ASCII)
_WARMUP_ALLOWED: Final = (
    "a date, a count and a factor of 1 to 10 such as { start = 2026-12-01, first_day = 200, growth = 1.5 }"
)
_MATCH_ALLOWED: Final = "a table of sender_domain, recipient_domain, listener, user, priority and header"
_PRIORITIES: Final = tuple(priority.value for priority in Priority)
_LISTS: Final[Mapping[str, tuple[str, re.Pattern[str]]]] = {
    "sender_domain": ('domains such as "example.com" or "*.example.com"', _DOMAIN),
    "recipient_domain": ('domains such as "example.com" or "*.example.com"', _DOMAIN),
    "listener": ("names of listeners", re.compile(r".+")),
    "user": ("names of users", re.compile(r".+")),
    "priority": ('"urgent", "normal", "bulk"', re.compile("|".join(_PRIORITIES))),
}


def read_share(text: str, _folder: Path) -> float | None:
    """A percentage as a share of one."""
    found = _SHARE.fullmatch(text)
    share = float(found[1]) if found else None
    return share / 100 if share is not None and share <= _SHARE_MOST else None


def read_limits(value: object, folder: Path) -> tuple[Limit, ...]:
    """Limits, or none. Raises :class:`Unreadable`."""
    if not isinstance(value, list):
        raise Unreadable(describe(value), "an array")
    limits: list[Limit] = []
    for n, each in enumerate(value):
        limit = read_limit(each, folder) if isinstance(each, str) else None
        if limit is None:
            raise Unreadable(describe(each), LIMIT_ALLOWED, part=f"[{n}]")
        limits.append(limit)
    return tuple(limits)


def read_warmup(value: object) -> Warmup:
    """``{ start = DATE, first_day = N, growth = FACTOR }``. Raises :class:`Unreadable`."""
    if isinstance(value, Mapping) and value.keys() == {"start", "first_day", "growth"}:
        start, first_day, growth = value["start"], value["first_day"], value["growth"]
        is_date = isinstance(start, dt.date) and not isinstance(start, dt.datetime)
        is_factor = isinstance(growth, int | float) and not isinstance(growth, bool) and 1 <= growth <= 10
        if is_date and type(first_day) is int and 1 <= first_day <= 1_000_000_000 and is_factor:
            return Warmup(start, first_day, float(growth))
    raise Unreadable(describe(value), _WARMUP_ALLOWED)


def read_match(value: object) -> RouteMatch:
    """The conditions of a route. Raises :class:`Unreadable`."""
    if not isinstance(value, Mapping) or value.keys() - {*_LISTS, "header"}:
        found = min(value.keys() - {*_LISTS, "header"}) if isinstance(value, Mapping) else ""
        raise Unreadable(f"the key {found}" if found else describe(value), _MATCH_ALLOWED)
    given = {key: tuple(_words(key, value.get(key, []))) for key in _LISTS}
    return RouteMatch(**given, header=tuple(_fields(value.get("header", {}))))


def _words(key: str, value: object) -> Iterator[str]:
    allowed, pattern = _LISTS[key]
    if not isinstance(value, list):
        raise Unreadable(describe(value), f"an array of {allowed}", part=f".{key}")
    for n, each in enumerate(value):
        word = each.lower() if isinstance(each, str) and key != "listener" else each
        if not isinstance(word, str) or not pattern.fullmatch(word):
            raise Unreadable(describe(each), allowed, part=f".{key}[{n}]")
        yield word


def _fields(value: object) -> Iterator[tuple[str, str]]:
    allowed = 'a table of fields with patterns such as { X-Campaign = "news-*" }, each a string or an array of them'
    if not isinstance(value, Mapping):
        raise Unreadable(describe(value), allowed, part=".header")
    for name, patterns in value.items():
        texts = patterns if isinstance(patterns, list) else [patterns]
        if not _FIELD.fullmatch(name) or not texts or not all(_is_pattern(text) for text in texts):
            raise Unreadable(describe(patterns), allowed, part=f".header.{name}")
        yield from ((name.lower(), text) for text in texts)


def _is_pattern(text: object) -> bool:
    return isinstance(text, str) and text != "" and text.isprintable()
