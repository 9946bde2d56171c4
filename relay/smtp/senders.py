"""Which reverse-paths a user may give: the patterns of ``[user.NAME] senders``.

A pattern is an address whose local part or domain may begin or end with one ``*``, that stands for any characters
there: ``*@example.com``, ``bounce+*@example.com``, ``*@*.example.com``. ``<>`` is the null path, ``*`` any path.
Case does not matter: a receiver that tells ``Ops@`` from ``ops@`` is hardly found, a misspelt pattern is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_PART: Final = r"\*?[^*@\s]*\*?"
_PATTERN: Final = re.compile(rf'<>|\*|(?:{_PART}|"[^"\s]*")@{_PART}')


def is_pattern(text: str) -> bool:
    """Whether ``text`` is such a pattern."""
    if _PATTERN.fullmatch(text) is None:
        return False
    return text in {"<>", "*"} or all(part and part != "**" for part in text.rpartition("@"))


def may_send(address: str, patterns: Iterable[str]) -> bool:
    """Whether ``address`` ("" is the null path) is within ``patterns``."""
    return any(_matches(address, pattern) for pattern in patterns)


def _matches(address: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern == "<>" or not address:
        return pattern == "<>" and not address
    # The last "@" parts them: a quoted local part may hold others (RFC 5321 §4.1.2).
    local, _, domain = address.casefold().rpartition("@")
    wanted, _, within = pattern.casefold().rpartition("@")
    return _part_matches(local, wanted) and _part_matches(domain, within)


def _part_matches(part: str, pattern: str) -> bool:
    anything_before, anything_after = pattern.startswith("*"), pattern.endswith("*")
    fixed = pattern.strip("*")
    if not fixed:
        return True if anything_before else not part
    if anything_before and anything_after:
        return fixed in part
    if anything_before:
        return part.endswith(fixed)
    return part.startswith(fixed) if anything_after else part == fixed
