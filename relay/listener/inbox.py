"""What a session has received and not yet read: command lines, then content, from one buffer.

asyncio's StreamReader stays underneath, so that aiosmtpd's own methods (AUTH, STARTTLS) go on reading from it, but it
is fed and read without a coroutine per line. This is the only place that knows its private parts: ``_buffer``,
``_eof``, ``_limit``, ``_paused``, ``_transport`` (StreamWriter's too), ``_waiter`` and ``_maybe_resume_transport``, the
same in Python 3.11 to 3.14.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any, Final

from relay.smtp import sasl

MAX_LINE: Final = 4096
"""Octets of a command line with its line end: RFC 5321 §4.5.3.1.4 asks for 512, each extension adds to it (RFC 3461
§5 alone some 600)."""

MAX_AUTH_LINE: Final = sasl.MAX_LINE
"""The same for an answer to AUTH's challenge (RFC 4954 §4); AUTH itself is longer by its own words."""


class LineTooLong(Enum):
    """Stands for a line over its limit, which was swallowed to its end; AUTH's has a code of its own."""

    COMMAND = auto()
    AUTH = auto()


class Inbox:
    """The octets between the transport and the session.

    The transport is paused by the StreamReader while more than twice its limit waits here: back-pressure for content
    that is being written.
    """

    __slots__ = ("_loop", "_reader", "_swallowing")

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Any: private attributes, see above.
        self._reader: Any = reader
        self._swallowing: LineTooLong | None = None

    def __len__(self) -> int:
        return len(self._reader._buffer)

    @property
    def is_empty(self) -> bool:
        """Whether what comes next begins a line."""
        return not self._reader._buffer and self._swallowing is None

    def line(self, limit: int = MAX_LINE) -> bytes | LineTooLong | None:
        """The next line with its LF, a marker for one that was too long, or None while none is complete."""
        buffer: bytearray = self._reader._buffer
        end = buffer.find(b"\n") + 1
        too_long = LineTooLong.COMMAND
        if (end or len(buffer)) > limit and buffer[:5].upper() == b"AUTH ":
            limit, too_long = sasl.MAX_COMMAND, LineTooLong.AUTH
        if not end:
            if len(buffer) > limit:
                self._swallowing = self._swallowing or too_long
                buffer.clear()
            return None
        line = bytes(buffer[:end]) if end <= limit else b""
        del buffer[:end]
        if self._swallowing is not None or not line:
            too_long, self._swallowing = self._swallowing or too_long, None
            return too_long
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
        self._swallowing = None

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

    def feed(self, octets: bytes) -> None:
        """Take what the transport received, and wake who waits for it."""
        reader = self._reader
        buffer: bytearray = reader._buffer
        buffer += octets
        self.wake()
        if len(buffer) > 2 * reader._limit and not reader._paused:
            reader._paused = True
            reader._transport.pause_reading()

    def wake(self) -> None:
        """Let who waits look again, though nothing may have come."""
        waiter: asyncio.Future[None] | None = self._reader._waiter
        if waiter is not None:
            # Forgotten here, as the StreamReader does: the end of input may come before the one who waits has looked.
            self._reader._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def more(self) -> bool:
        """Wait for more octets; False once the client has closed its side and all was given out."""
        reader = self._reader
        if reader._eof:
            return False
        before = len(reader._buffer)
        if reader._paused:
            # More than twice the limit waits and is not enough.
            reader._paused = False
            reader._transport.resume_reading()
        waiter = reader._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            reader._waiter = None
        return len(reader._buffer) > before
