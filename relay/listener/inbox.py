"""What a session has received and not yet read: command lines, then content, from one buffer.

asyncio's StreamReader stays underneath, so that aiosmtpd's own methods (AUTH, STARTTLS) go on reading from it, but it
is read without a coroutine per line. This is the only place that knows its private parts: ``_buffer``, ``_eof``,
``_paused``, ``_transport`` (StreamWriter's too), ``_wait_for_data`` and ``_maybe_resume_transport``, the same in Python
3.11 to 3.14.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from typing import Any, Final

from relay.smtp import sasl

MAX_LINE: Final = 4096
"""Octets of a command line with its line end: RFC 5321 §4.5.3.1.4 asks for 512, each extension adds to it (RFC 3461
§5 alone some 600)."""

MAX_AUTH_LINE: Final = sasl.MAX_LINE
"""The same for AUTH, whose initial response may be that long (RFC 4954 §4)."""


class LineTooLong:
    """Stands for a command line over MAX_LINE, which was swallowed to its end."""


LINE_TOO_LONG: Final = LineTooLong()


class Inbox:
    """The octets between the transport and the session.

    The transport is paused by the StreamReader while more than twice its limit waits here: back-pressure for content
    that is being written.
    """

    __slots__ = ("_reader", "_swallowing")

    def __init__(self, reader: asyncio.StreamReader) -> None:
        # Any: private attributes, see above.
        self._reader: Any = reader
        self._swallowing = False

    def __len__(self) -> int:
        return len(self._reader._buffer)

    def line(self, limit: int = MAX_LINE) -> bytes | LineTooLong | None:
        """The next line with its LF, a marker for one that was too long, or None while none is complete."""
        buffer: bytearray = self._reader._buffer
        end = buffer.find(b"\n") + 1
        if (end or len(buffer)) > limit and buffer[:5].upper() == b"AUTH ":
            limit = max(limit, MAX_AUTH_LINE)
        if not end:
            if len(buffer) > limit:
                self._swallowing = True
                buffer.clear()
            return None
        line = bytes(buffer[:end]) if end <= limit else b""
        del buffer[:end]
        if self._swallowing or not line:
            self._swallowing = False
            return LINE_TOO_LONG
        return line

    def peek(self) -> bytes:
        """The first octet of an incomplete line; empty while nothing waits."""
        return bytes(self._reader._buffer[:1])

    def take(self, most: int | None = None) -> bytes:
        """All that waits, or ``most`` octets of it."""
        buffer: bytearray = self._reader._buffer
        if most is not None and most < len(buffer):
            octets = bytes(buffer[:most])
            del buffer[:most]
        else:
            octets = bytes(buffer)
            buffer.clear()
        return octets

    def discard(self) -> None:
        """Forget all that waits: octets in clear have no say once STARTTLS was given (RFC 3207 §4.2)."""
        self._reader._buffer.clear()
        self._reader._paused = False
        self._swallowing = False

    def move(self, transport: asyncio.Transport, writer: asyncio.StreamWriter) -> None:
        """Go on over another transport, TLS's."""
        self._reader._transport = transport
        writer._transport = transport  # type: ignore[attr-defined]

    def put_back(self, octets: bytes) -> None:
        """Return the end of what was taken."""
        self._reader._buffer[:0] = octets

    def resume(self) -> None:
        """Let the transport read on where the buffer has room again."""
        self._reader._maybe_resume_transport()

    async def more(self) -> bool:
        """Wait for more octets; False once the client has closed its side and all was given out."""
        if self._reader._eof:
            return False
        before = len(self._reader._buffer)
        await self._reader._wait_for_data("more")
        return len(self._reader._buffer) > before
