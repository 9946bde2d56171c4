"""Reads a server's replies out of its bytes, however they are split (RFC 5321 §4.2).

Strict about framing, lenient about codes: any three digits from 200 to 599 are a reply, with or without text; a bare LF
ends a line too. What is no reply is a :class:`ProtocolError`: the conversation can't be trusted from there on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from relay.outcome import Reply, parse_reply

MAX_LINE: Final = 4096
"""Octets of one line; RFC 5321 §4.5.3.1.5 allows 512, servers write more."""
MAX_REPLY: Final = 65_536
"""Octets of one reply with all its lines."""


class ProtocolError(Exception):
    """The server sent what is no SMTP reply, or one that nobody asked for."""


class ReplyReader:
    """Collects bytes and gives whole replies; raises nothing."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []
        self._code = 0
        self._octets = 0
        self.broken: ProtocolError | None = None
        """What was wrong with the octets behind the last reply; nothing is read any more."""

    @property
    def partial(self) -> bool:
        """Whether a reply has begun and not ended."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that ``data`` completes, in order; those before a bad line are good (:attr:`broken`)."""
        buffer = self._buffer + data if self._buffer else data
        replies: list[Reply] = []
        start = 0
        try:
            while self.broken is None and (end := buffer.find(b"\n", start)) != -1:
                reply = self._line(buffer[start:end])
                if reply is not None:
                    replies.append(reply)
                start = end + 1
        except ProtocolError as error:
            self.broken = error
        self._buffer = buffer[start:]
        if self.broken is None and len(self._buffer) > MAX_LINE:
            self.broken = ProtocolError("reply line too long")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if not self._lines and len(line) <= _SHORT and (known := _known(line)) is not None:
            return known
        self._octets += len(line)
        if len(line) > MAX_LINE or self._octets > MAX_REPLY:
            raise ProtocolError("reply too long")
        code, separator, text = _parts(line)
        if self._lines and code != self._code:
            raise ProtocolError("reply with different codes")
        if separator == b"-":
            self._code = code
            self._lines.append(text)
            return None
        lines = [*self._lines, text] if self._lines else [text]
        self._lines = []
        self._octets = 0
        return parse_reply(code, lines)


_SEPARATORS: Final = frozenset((b" ", b"-", b""))
_SHORT: Final = 48
"""Octets of a line that is remembered: most replies to MAIL, RCPT and DATA are always the same."""


def _parts(line: bytes) -> tuple[int, bytes, str]:
    line = line.removesuffix(b"\r")
    digits, separator = line[:3], line[3:4]
    if len(digits) != 3 or not digits.isdigit() or not b"2" <= digits[:1] <= b"5" or separator not in _SEPARATORS:
        raise ProtocolError("not an SMTP reply")
    return int(digits), separator, line[4:].decode("utf-8", "replace")


@lru_cache(256)
def _known(line: bytes) -> Reply | None:
    """The reply that is this line; None where more lines follow."""
    code, separator, text = _parts(line)
    return None if separator == b"-" else parse_reply(code, [text])
