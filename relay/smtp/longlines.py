"""Whether content has lines over the 998 octets that RFC 5322 §2.1.1 allows: seen, never wrapped. Sans-IO."""

from __future__ import annotations

from typing import Final

_LINE: Final = 1000
"""Octets of the longest line, its CRLF included (RFC 5321 §4.5.3.1.6)."""


class LongLines:
    """Looks at content in pieces; ``found`` once a line was too long. Some 1,000 octets cost one step."""

    __slots__ = ("_open", "found")

    def __init__(self) -> None:
        self.found = False
        self._open = 0

    def feed(self, octets: bytes) -> None:
        """Look at the next piece."""
        if self.found:
            return
        position = 0
        size = len(octets)
        room = _LINE - self._open
        # From one line end to the last that is near enough: what lies between is in lines that are short.
        while (end := octets.rfind(b"\n", position, position + room)) >= 0:
            position = end + 1
            room = _LINE
        self._open = _LINE - room + size - position
        self.found = self._open >= _LINE
