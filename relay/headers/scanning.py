"""Where a header block ends and where its fields stand (RFC 5322 §2.2). Positions only; nothing is copied."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_LINE: Final = 1000
"""Octets of a line (RFC 5321 §4.5.3.1.6)."""

# RFC 5322 §2.2: printable ASCII but the colon; obsolete syntax allows white space before the colon (§4.5).
_FIELD_NAME: Final = rb"[!-9;-~]++[ \t]*+:"
_FIELD_LINE: Final = re.compile(_FIELD_NAME + rb"|[ \t]")
# From one LF to the next: Python goes to a pattern's first octet four times as fast as it tries "^" at each.
_NO_FIELD: Final = re.compile(rb"\n(?!" + _FIELD_NAME + rb"|[ \t])")
_MAILBOX_LINE: Final = re.compile(rb">*+From ")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")


def finder(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """A pattern that finds the fields with these names (lower case) in a header block with an LF put before it.

    Group 1 is the name as it was written, group 2 the value with its folds. Found from ``start`` to ``end`` there, the
    field stands from ``start`` to ``end`` in the block itself: the LF before is the first octet, its own is left out.
    """
    return re.compile(
        rb"\n(" + b"|".join(map(re.escape, names)) + rb")[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE
    )


def header_end(octets: bytes, *, whole: bool = False) -> int:
    """Where the header block ends in a message that begins with ``octets`` (line ends are CRLF).

    That is behind the CRLF of its last field; ``len(octets)`` where nothing ended it yet. The empty line, or else the
    first line that is neither a field nor the continuation of one, belongs to the body. ``whole``: nothing follows.
    """
    empty = octets.find(b"\r\n\r\n")
    stop = empty + 2 if empty >= 0 else len(octets)
    if octets.startswith((b" ", b"\t", b"\r\n")):
        return 0
    start = mailbox_line_end(octets)
    if _FIELD_LINE.match(octets, start, stop) is not None:
        found = _NO_FIELD.search(octets, start, stop)
        if found is None:
            return stop
        start = found.end()
    # A line cut off by the end of what was read may still become a field, as long as it isn't too long for one.
    cut_off = octets.find(b"\r\n", start) < 0 and len(octets) - start <= MAX_LINE
    return len(octets) if cut_off and not whole else start


def mailbox_line_end(octets: bytes) -> int:
    """Where the mbox separator that a message begins with ends; 0 where there is none."""
    if octets[:1] not in {b"F", b">"} or _MAILBOX_LINE.match(octets) is None:
        return 0
    end = octets.find(b"\r\n")
    return end + 2 if end >= 0 else len(octets)


def unfolded(value: bytes) -> bytes:
    """A field's value on one line (RFC 5322 §2.2.3)."""
    return _FOLD.sub(b"", value)


def values_of(octets: bytes, end: int, names: Iterable[str]) -> dict[str, list[str]]:
    """The values of the fields with these names (lower case) in a header block that ends at ``end``."""
    values: dict[str, list[str]] = {}
    for found in finder([name.encode() for name in names]).finditer(b"\n" + octets[:end]):
        value = unfolded(found[2].strip())
        values.setdefault(found[1].lower().decode(), []).append(value.decode("utf-8", "replace"))
    return values


def without(header: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """``header`` without what stands in ``spans``, which come in order and don't overlap."""
    kept = []
    position = 0
    for start, end in spans:
        kept.append(header[position:start])
        position = end
    kept.append(header[position:])
    return b"".join(kept)
