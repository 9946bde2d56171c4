"""One HTTP connection under bounds of ours: uvicorn's protocol for h11 has none for a client that is slow or silent.

h11 bounds a request's head in octets and refuses what is malformed or ambiguous (no Host, two, both kinds of length).
Here are the bounds in time and number: a head in 10 s, a body in 5 minutes, an answer that is read at all within 30 s,
64 connections. Who is over one is cut off; nobody else waits for them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 300.0
READING_SECONDS: Final = 30.0
CONNECTIONS_MOST: Final = 64
HEAD_MOST: Final = 32 * 1024
"""Octets of a request's head."""
KEPT_ALIVE: Final = 75
"""Seconds that an idle connection is kept: longer than metrics are mostly asked for."""

_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 21\r\n\r\n"
    b"too many connections\n"
)


class BoundedConnection(H11Protocol):
    """``head`` to ``reading`` are seconds, ``most`` connections; tests lower them."""

    head = HEAD_SECONDS
    body = BODY_SECONDS
    reading = READING_SECONDS
    most = CONNECTIONS_MOST

    _phase: Any = None
    _receiving: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or say that there are too many."""
        if len(self.connections) >= self.most:
            self.transport = transport
            transport.write(_BUSY)
            transport.close()
            self._cut_off_later()
            return
        super().connection_made(transport)
        self._watch(begun=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._watch(begun=True)

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._watch(begun=False)
        if self.transport.is_closing():
            self._cut_off_later()

    def timeout_keep_alive_handler(self) -> None:
        """An idle connection ends."""
        super().timeout_keep_alive_handler()
        self._cut_off_later()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._cut_off_later()

    def resume_writing(self) -> None:
        """It has read some."""
        super().resume_writing()
        if self._sending is not None and not self.transport.is_closing():
            self._sending.cancel()
            self._sending = None

    def _watch(self, *, begun: bool) -> None:
        """Bound the time of what the client is to send now; ``begun``: a request's head at least."""
        phase = self.conn.their_state
        if phase is self._phase and (self._receiving is not None or not begun):
            return
        self._phase = phase
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        # Between two requests uvicorn's own time for idle connections runs.
        if phase is h11.IDLE and begun:
            self._receiving = self.loop.call_later(self.head, self._cut_off)
        elif phase is h11.SEND_BODY:
            self._receiving = self.loop.call_later(self.body, self._cut_off)

    def _cut_off_later(self) -> None:
        if self._sending is None:
            self._sending = self.loop.call_later(self.reading, self._cut_off)

    def _cut_off(self) -> None:
        self.transport.abort()

    def _stop_waiting(self) -> None:
        for timer in (self._receiving, self._sending):
            if timer is not None:
                timer.cancel()
        self._receiving = self._sending = None
