"""BDAT: the command's argument, and the content of its chunks as it is read (RFC 3030 §2, §3).

Octets are counted, so nothing in them ends anything and dots mean nothing. Line ends become CR LF as DATA's do, however
they are split over reads and chunks. Whether the last line has one is the sender's business.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from relay.smtp.lineends import TOO_LARGE, Content

# RFC 3030 §2 names no limit; twenty digits as SIZE has (RFC 1870 §4). \d would take other scripts' digits.
_CHUNK: Final = re.compile(r"([0-9]{1,20})(?: ++(LAST))?", re.IGNORECASE | re.ASCII)


class Chunk(NamedTuple):
    """An argument of BDAT: how many octets follow the line, and whether they are the message's last."""

    size: int
    last: bool


def parse_bdat(argument: str) -> Chunk | None:
    """Read what follows ``BDAT``; None where it can't be known how many octets follow."""
    found = _CHUNK.fullmatch(argument)
    return Chunk(int(found[1]), found[2] is not None) if found is not None else None


class ChunkReader(Content):
    """The content of one message, chunk after chunk."""

    __slots__ = ("_held",)

    def __init__(self, limit: int, *, reject: bool = False) -> None:
        super().__init__(limit, reject=reject)
        self._held = b""

    def announce(self, size: int) -> None:
        """A chunk of ``size`` octets begins; refused here where it can only become too large."""
        if self.size + size > self._limit:
            self.refusal = self.refusal or TOO_LARGE

    def feed(self, octets: bytes) -> bytes:
        """Take the next octets, in any split; return what is certain by now. Nothing once the content is refused."""
        data = self._held + octets
        # A CR may be the half of a line end whose LF comes with the next octets.
        self._held = b"\r" if data.endswith(b"\r") else b""
        return self._taken(data[:-1] if self._held else data)

    def end(self) -> bytes:
        """All is there: return what was held back."""
        data, self._held = self._held, b""
        return self._taken(data)
