"""The upstream that a bench relays to: takes everything, answers after a round trip's delay, counts round trips.

A round trip is counted where octets come after replies went: what the client waited for, however TCP cut it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

_EHLO: Final = b"".join(
    b"250%c%b\r\n" % (b" " if last else b"-", line)
    for line, last in ((b"sink.invalid", False), (b"PIPELINING", False), (b"8BITMIME", False), (b"SMTPUTF8", True))
)
_REPLIES: Final = {
    b"EHLO": _EHLO,
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"DATA": b"354 Go on\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}
_TAKEN: Final = b"250 2.0.0 Ok\r\n"


class Sink:
    """What all its connections share. ``delay`` is a round trip in seconds, ``taken`` is called for each message."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.messages = 0
        self.round_trips = 0
        self.taken: Callable[[], None] = _nothing

    def connection(self) -> SinkConnection:
        """A protocol for one more connection."""
        return SinkConnection(self)


class SinkConnection(asyncio.Protocol):
    """One connection: a machine over lines and content."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._content = False
        self._answered = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(b"220 sink.invalid ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer what is complete, all in one flight."""
        if self._answered:
            self._answered = False
            self._sink.round_trips += 1
        self._buffer += data
        replies = bytearray()
        while (reply := self._next()) is not None:
            replies += reply
        if replies and self._sink.delay:
            self._loop.call_later(self._sink.delay, self._answer, bytes(replies))
        elif replies:
            self._answer(bytes(replies))

    def _answer(self, replies: bytes) -> None:
        self._answered = True
        if not self._transport.is_closing():
            self._transport.write(replies)

    def _next(self) -> bytes | None:
        """The reply to the next command or content; None while it is incomplete."""
        end = self._buffer.find(b"\r\n.\r\n" if self._content else b"\r\n")
        if end < 0:
            return None
        if self._content:
            self._content = False
            del self._buffer[: end + 5]
            self._sink.messages += 1
            self._sink.taken()
            return _TAKEN
        verb = bytes(self._buffer[:4]).upper()
        self._content = verb == b"DATA"
        # The line end of DATA stays: an empty content ends with it.
        del self._buffer[: end if self._content else end + 2]
        return _REPLIES.get(verb, b"500 5.5.2 What?\r\n")


def _nothing() -> None:
    """Nobody waits."""
