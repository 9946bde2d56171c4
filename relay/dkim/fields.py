"""Header fields as DKIM sees them: where they begin and end, their canonical form, who the author is.

The header is what is kept: CR LF ended fields and nothing else. Everything is linear in its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")
_FROM: Final = re.compile(rb"^from[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_BLANKS: Final = re.compile(rb"[ \t]++")
_DOMAIN_TAG: Final = re.compile(rb"(?:\A|;)[ \t]*+d[ \t]*+=([^;]*+)")
# RFC 5322 §3.2: what may hold any other sign without meaning it.
_SPECIAL: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|\\.|[()]', re.DOTALL)
# The first mailbox of a list: up to a comma outside angle brackets.
_FIRST: Final = re.compile(rb"[^,<]*+(?:<[^>]*+)?")
_ENDS: Final = b" \t;>."
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_MAX_AUTHOR: Final = 10_000
"""Octets of a From field that is looked into."""


def header_of(octets: bytes) -> bytes:
    """The header block of a message that begins with ``octets``: all up to its empty line."""
    end = octets.find(b"\r\n\r\n")
    return octets[: end + 2] if end >= 0 else octets


def split(header: bytes) -> list[tuple[bytes, bytes]]:
    """Each field as its name in lower case and all its octets but the final CR LF, from the top."""
    fields = []
    for field in _FIELD_END.split(header):
        name, colon, _ = field.partition(b":")
        if colon:
            fields.append((name.rstrip(b" \t").lower(), field))
    return fields


def relaxed(field: bytes) -> bytes:
    """RFC 6376 §3.4.2: name in lower case, unfolded, one space for each run of blanks, none around the value."""
    name, _, value = field.partition(b":")
    if b"\r\n" in value:
        value = _FOLD.sub(b"", value)
    if b"  " in value or b"\t" in value:
        value = _BLANKS.sub(b" ", value)
    return name.rstrip(b" \t").lower() + b":" + value.strip(b" ")


def value_of(field: bytes) -> bytes:
    """A field's value on one line."""
    return _FOLD.sub(b"", field.partition(b":")[2])


def author_of(header: bytes) -> str | None:
    """The domain of who wrote a message: that of its first From field's first mailbox."""
    found = _FROM.search(header)
    if found is None:
        return None
    end = _FIELD_END.search(header, found.end())
    return author_domain(_FOLD.sub(b"", header[found.end() : end.start() if end is not None else len(header)]))


def signed_domains(fields: list[tuple[bytes, bytes]]) -> Iterator[str]:
    """The d= of each DKIM-Signature that is there, in lower case."""
    for name, field in fields:
        if name == b"dkim-signature" and (found := _DOMAIN_TAG.search(value_of(field))) is not None:
            yield _BLANKS.sub(b"", found[1]).decode("utf-8", "replace").lower()


def author_domain(value: bytes) -> str | None:
    """The domain of the first mailbox in the value of a From field, in lower case and ASCII; None where there is none.

    A domain beyond ASCII is told by its A-labels (RFC 5891 §5), as keys are configured by these.
    """
    if len(value) > _MAX_AUTHOR:
        return None
    first = _FIRST.match(_plain(value))
    assert first is not None
    mailbox = first[0].rpartition(b"<")[2]
    _, at, domain = mailbox.rpartition(b"@")
    return ascii_domain(domain.strip(_ENDS).decode("utf-8", "replace")) if at else None


def ascii_domain(domain: str) -> str | None:
    """A domain in lower case with its A-labels; None where it can't be one."""
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode() if len(domain) <= 255 else ""
        except UnicodeError:
            return None
    return domain.lower() if _DOMAIN.fullmatch(domain) is not None else None


def _plain(value: bytes) -> bytes:
    """Without comments; ``x`` for each quoted string or pair."""
    kept = []
    depth = position = 0
    for found in _SPECIAL.finditer(value):
        if depth == 0:
            kept.append(value[position : found.start()])
        sign = found[0]
        if sign == b"(":
            depth += 1
        elif sign == b")":
            depth = max(0, depth - 1)
        elif depth == 0:
            kept.append(b"x")
        position = found.end()
    if depth == 0:
        kept.append(value[position:])
    return b"".join(kept)
