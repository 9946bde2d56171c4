"""What is wrong with a configuration, as values that say where, what was found and what is allowed.

A secret never enters a problem: values of unknown keys are not shown, nor what stands between a colon and an "@".
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 60
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_USERINFO: Final = re.compile(r":[^\n]*@")
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (dt.date, "a date"),
    (dt.time, "a time"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. ``table`` is "upstream.ses" or "" for the top, ``variable`` the environment's name for
    the key where the value came from there.
    """

    file: str
    table: str
    key: str
    found: str
    allowed: str
    variable: str | None = None

    def __str__(self) -> str:
        table = f"[{self.table}]" if self.table else ""
        source = f"(from {self.variable})" if self.variable else ""
        where = " ".join(part for part in (table, self.key, source) if part)
        place = f"{self.file}: {where}" if where else self.file
        text = f"{place}: found {self.found}; allowed: {self.allowed}"
        # TOML lets a key hold any control character; a terminal obeys some.
        return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` holds all that is wrong with it, table by table."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class Unreadable(ValueError):
    """A value is not what its key takes; ``part`` is "[2]" for the third element of an array."""

    def __init__(self, found: str, allowed: str, *, part: str = "") -> None:
        super().__init__(f"found {found}; allowed: {allowed}")
        self.found = found
        self.allowed = allowed
        self.part = part


def describe(value: object) -> str:
    """Show a value as TOML spells it, with its type; long texts cut, what may be a password in a URL masked."""
    kind = kind_of(value)
    if isinstance(value, list | dict):
        return kind if value else kind.replace(" ", " empty ", 1).replace("a e", "an e")
    if isinstance(value, str):
        shown = _USERINFO.sub(":********@", value)
        shown = json.dumps(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…", ensure_ascii=False)
    else:
        shown = str(value).lower() if isinstance(value, bool) else str(value)[:_SHOWN]
    return f"{shown} ({kind})"


def kind_of(value: object) -> str:
    """The type of a TOML value, as TOML calls it."""
    return next((name for of, name in _KINDS if isinstance(value, of)), "a value")


def table_name(section: str, name: str) -> str:
    """A table's name as TOML spells it: quoted where it is no bare key."""
    return f"{section}.{name}" if _BARE.fullmatch(name) else f"{section}.{json.dumps(name, ensure_ascii=False)}"


def unknown(key: str, known: Iterable[str]) -> tuple[str, str]:
    """``found`` and ``allowed`` for a key, table or variable that is not in the schema, with its nearest neighbour."""
    names = sorted(known)
    nearest = difflib.get_close_matches(key.lower(), names, n=1)
    hint = f", did you mean {nearest[0]}?" if nearest else ""
    return f"an unknown key{hint}", ", ".join(names)
