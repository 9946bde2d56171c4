"""The body hash, while the body is read (RFC 6376 §3.4.3, §3.4.4): any split of the octets gives the same hash.

The body is CR LF ended and holds no bare CR or LF, as all content here. Only what may still turn out to be the end of
the body is held back, and that as a count; the time is linear whatever the body is made of (a regular expression for
"blanks before CR LF" is quadratic in runs of blanks).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_EMPTY_LINES: Final = b"\r\n" * 8192
_UNNOTICED: Final = 2047
"""Octets that hashlib hashes without letting go of the interpreter's lock, which takes longer to win back than they do;
after the first larger piece it lets go for each, however small.
"""
_WORTH_LETTING_GO: Final = 16_384


class BodyHash:
    """Feed it the body; ``relaxed`` says by which canonicalisation, else simple. SHA-256 (RFC 8301 §3.1)."""

    __slots__ = ("_carry", "_empty", "_hash", "_line_ends", "_relaxed")

    def __init__(self, *, relaxed: bool) -> None:
        self._relaxed = relaxed
        self._hash = hashlib.sha256()
        self._carry = b""  # the last octets, where they may be the first half of a line's end
        self._line_ends = 0  # CR LFs behind all that was hashed
        self._empty = True

    def feed(self, octets: bytes) -> None:
        """Take the next octets, in any split."""
        data = self._carry + octets if self._carry else octets
        if self._relaxed:
            data = _collapsed(data)
        end = len(data)
        if data.endswith(b"\r"):
            end -= 1
        if self._relaxed and data.endswith(b" ", 0, end):
            end -= 1
        self._carry = data[end:]
        if self._carry:
            data = data[:end]
        if self._relaxed:
            data = data.replace(b" \r\n", b"\r\n")
        self._take(data)

    def finish(self) -> str:
        """The hash as ``bh=`` has it; nothing can be fed after this."""
        carry, self._carry = self._carry, b""
        # A last line without its end gets one (§3.4.3), and blanks before that go in relaxed canonicalisation.
        self._take(carry.removeprefix(b" ") if self._relaxed else carry)
        # An empty body is one line end in simple canonicalisation, nothing in relaxed.
        if not (self._empty and self._relaxed):
            self._hash.update(b"\r\n")
        return base64.b64encode(self._hash.digest()).decode()

    def _take(self, data: bytes) -> None:
        text = data.rstrip(b"\r\n")
        if text:
            self._empty_lines(self._line_ends)
            if len(text) < _WORTH_LETTING_GO:
                for start in range(0, len(text), _UNNOTICED):
                    self._hash.update(text[start : start + _UNNOTICED])
            else:
                self._hash.update(text)
            self._line_ends = 0
            self._empty = False
        self._line_ends += (len(data) - len(text)) // 2

    def _empty_lines(self, count: int) -> None:
        most = len(_EMPTY_LINES) // 2
        while count > 0:
            self._hash.update(_EMPTY_LINES[: 2 * min(count, most)])
            count -= most


def _collapsed(data: bytes) -> bytes:
    """With one space for each run of blanks: each pass halves the runs, and most text has none for a second one."""
    data = data.replace(b"\t", b" ")
    while b"  " in data:
        data = data.replace(b"  ", b" ")
    return data
