"""Addresses as people and header fields write them (RFC 5322 §3.4) into addresses for an envelope (RFC 5321 §4.1.2).

Display names, comments (nested), quoted strings, groups, folding and source routes are understood; what stands between
the brackets, or alone, is taken without the white space that RFC 5322 allows around its dots. A local part may stand
without a domain, which the relay adds. The result is always one that ``smtp.address`` takes: nothing else gets into a
command. Linear in the length of the text. Pure.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from relay.outcome import Reply
from relay.smtp.address import parse_path

_TOKEN: Final = re.compile(
    r"""
      (?P<space> [ \t\r\n]++ )
    | (?P<word> "(?:[^"\\]|\\.)*+" | \[[^\[\]\\]*+\] | [^][ \t\r\n"(),.:;<>@\\]++ )
    | (?P<special> [.@<>,;:] )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PART: Final = re.compile(r"[^()\\]++|\\.|[()]", re.DOTALL)
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_ROUTE: Final = re.compile(r"@[^:]*+:")
_SHOWN: Final = 200


class NoAddress(ValueError):
    """Something is no address; it is shown, cut and made printable."""


def parse_list(text: str) -> list[str]:
    """The addresses of an address list, in order; without a domain where they were given so.

    Octets that are no UTF-8 come as surrogates. Raises :class:`NoAddress` for what is no address.
    """
    addresses = []
    item: list[str] = []
    opened: int | None = None  # where in the item the bracket is that was not closed yet
    for part in [*_tokens(text), ","]:
        if part == "," and opened is not None and item[opened + 1 : opened + 2] == ["@"]:
            item.append(part)  # of a source route, <@a,@b:c@d>
        elif part in {",", ";"}:
            if item:
                addresses.append(_address(item, text))
            item, opened = [], None
        elif part == ":" and opened is None:
            # A group's name; its members follow, its end is a semicolon.
            if "@" in item or not item:
                raise _no_address(text)
            item = []
        else:
            if part in {"<", ">"}:
                opened = len(item) if part == "<" else None
            item.append(part)
    return addresses


def parse_one(text: str) -> str:
    """The one address of ``text``; "" for the null one, ``<>`` or nothing. Raises :class:`NoAddress`."""
    if text.strip() in {"", "<>"}:
        return ""
    addresses = parse_list(text)
    if len(addresses) != 1:
        raise _no_address(text)
    return addresses[0]


def _address(item: list[str], text: str) -> str:
    """From the tokens of one list element."""
    if "<" in item:
        start = item.index("<")
        if item.count("<") != 1 or item[-1] != ">" or item.count(">") != 1:
            raise _no_address(text)
        item = item[start + 1 : -1]
    elif ">" in item:
        raise _no_address(text)
    # Two words in a row are no address, whatever stands between them.
    words = [token not in {".", "@", ":", ","} for token in item]
    if any(one and next_one for one, next_one in pairwise(words)):
        raise _no_address(text)
    address = _ROUTE.sub("", "".join(item), count=1) if item[:1] == ["@"] else "".join(item)
    path = parse_path(f"<{address}>")
    if isinstance(path, Reply):
        raise NoAddress(f"{_shown(address)}: {path.text.removeprefix('Error: ')}")
    return path.address


def _tokens(text: str) -> list[str]:
    """Words and specials; white space and comments are gone."""
    tokens = []
    position = 0
    while position < len(text):
        if text[position] == "(":
            position = _comment_end(text, position)
            continue
        found = _TOKEN.match(text, position)
        if found is None:
            raise _no_address(text)
        position = found.end()
        if found.lastgroup != "space":
            # RFC 5322 §2.2.3: folding ends lines, the white space behind it stays.
            tokens.append(_FOLD.sub("", found[0]))
    return tokens


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for found in _COMMENT_PART.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    raise _no_address(text)


def _no_address(text: str) -> NoAddress:
    return NoAddress(f"not an address: {_shown(text)}")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:_SHOWN])
