"""``[rewrite] aliases``: a table of addresses, checked by the grammar that SMTP commands are read with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.config.environment import Variable
from relay.config.problems import Unreadable, describe
from relay.mail import has_domain
from relay.outcome import Reply
from relay.smtp.address import parse_path
from relay.smtp.senders import is_pattern

_TABLE: Final = 'a table such as { root = "ops@example.com" }'
_SENDERS: Final = 'a table such as { "*@host.local" = "app@example.com" }'
_PATTERN: Final = 'an address, or one with "*" such as "*@host.local"'
_NAME: Final = "a local part or an address, once, whichever letters are capitals"
_TARGET: Final = 'an address with a domain, in ASCII, such as "ops@example.com"'


def read_aliases(value: object) -> tuple[tuple[str, str], ...]:
    """Pairs of a name and its target, in the table's order.

    Raises :class:`Unreadable` for what is no table, and all that is wrong inside as one ExceptionGroup.
    """
    if not isinstance(value, dict):
        raise Unreadable(describe(value), _TABLE)
    aliases = [(name, each.text if isinstance(each, Variable) else each) for name, each in value.items()]
    wrong = list(_flaws(aliases))
    if wrong:
        raise ExceptionGroup("aliases", wrong)
    return tuple((name, str(target)) for name, target in aliases)


def _flaws(aliases: list[tuple[str, object]]) -> Iterator[Unreadable]:
    seen: set[str] = set()
    for name, target in aliases:
        if name.lower() in seen or not _is_address(name):
            yield Unreadable(f"the name {describe(name).removesuffix(' (a string)')}", _NAME)
        elif not isinstance(target, str) or not target.isascii() or not _is_address(target, whole=True):
            # Not every message may have an address beyond ASCII (RFC 6531 §3.2).
            yield Unreadable(describe(target), _TARGET, part=f".{name}")
        seen.add(name.lower())


def read_senders(value: object) -> tuple[tuple[str, str], ...]:
    """``sender_rewrite`` of an upstream: pairs of a pattern and an address, in the table's order. Raises as above."""
    if not isinstance(value, dict):
        raise Unreadable(describe(value), _SENDERS)
    pairs = [(pattern, each.text if isinstance(each, Variable) else each) for pattern, each in value.items()]
    wrong: list[Unreadable] = []
    for pattern, target in pairs:
        if pattern == "<>" or not is_pattern(pattern):
            wrong.append(Unreadable(f"the name {describe(pattern).removesuffix(' (a string)')}", _PATTERN))
        elif not isinstance(target, str) or not target.isascii() or not _is_address(target, whole=True):
            wrong.append(Unreadable(describe(target), _TARGET, part=f".{pattern}"))
    if wrong:
        raise ExceptionGroup("senders", wrong)
    return tuple((pattern, str(target)) for pattern, target in pairs)


def _is_address(text: str, *, whole: bool = False) -> bool:
    """Whether ``text`` is an address and nothing else; ``whole``: with a domain."""
    path = parse_path(f"<{text}>")
    return not isinstance(path, Reply) and path.address == text and (has_domain(text) or not whole)
