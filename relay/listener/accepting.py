"""From a listening socket to sessions: what comes before a session's first octet is seen to here.

That is the PROXY header of a proxy that is believed, then TLS where it is implicit: each under a deadline, and so many
at a time as there may be sessions. Clients never have the last descriptors: those are for delivery, the spool and
``relay status``. Running out all the same delays connections and ends nothing.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Final

from relay.listener import proxy
from relay.listener.connection import Connection, client_at
from relay.listener.gate import Networks
from relay.listener.sockets import peer_uid
from relay.listener.tls import HANDSHAKE_TIMEOUT, words_of
from relay.mail import Client

_BACKLOG: Final = 1024
_AT_ONCE: Final = 64
"""Connections accepted before others get their turn on the loop."""
_PAUSE: Final = 1.0
"""Seconds without accepting where the system has no more to give (asyncio waits as long)."""
_HEADER_TIMEOUT: Final = 10.0
_KEPT_BACK: Final = 64
"""Descriptors that are not for clients; of few at most half."""
_NO_ROOM: Final = b"421 4.7.0 Error: too many connections\r\n"
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms connections become sessions: the configuration's part that can change while it listens."""

    name: str
    context: SSLContext | None
    proxies: Networks
    at_a_time: int
    at_a_time_per_client: int
    session: Callable[[Client], Connection]
    """Makes the session of a client."""
    tell: Callable[[str], None]
    """Takes a line for the log."""

    @property
    def something_precedes(self) -> bool:
        """Whether there is anything to wait for before a session; else sessions alone are counted."""
        return self.context is not None or bool(self.proxies)

    def have_room(self, beginning: Counter[str], address: str) -> bool:
        """Whether one more from ``address`` may begin."""
        if beginning.total() >= self.at_a_time:
            return False
        return address in self.proxies or beginning[address] < self.at_a_time_per_client


class Acceptor:
    """Accepts on ``listening``, a bound socket, on ``terms`` that may be set anew at any time."""

    def __init__(self, listening: socket.socket, terms: Terms) -> None:
        self.terms = terms
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], socket.socket] = {}
        self._beginning: Counter[str] = Counter()
        self._paused: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen; OSError where that can't be."""
        self._listening.setblocking(False)
        self._listening.listen(_BACKLOG)
        self._loop.add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Accept no more; what has not become a session by now never does."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._loop.remove_reader(self._listening)
                    self._paused = self._loop.call_later(_PAUSE, self._resume)
                return
            if not _is_for_clients(connection.fileno()):
                if self.terms.context is None:
                    with suppress(OSError):
                        connection.send(_NO_ROOM, socket.MSG_DONTWAIT)
                connection.close()
                continue
            address = client_at(peer, "").address if self.terms.something_precedes else ""
            if address and not self.terms.have_room(self._beginning, address):
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection, peer, address))
            self._tasks[task] = connection
            task.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[None]) -> None:
        connection = self._tasks.pop(task)
        if task.cancelled():
            connection.close()
        else:
            task.result()  # a bug of ours is the loop's to report

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._listening, self._accept)

    async def _begin(self, connection: socket.socket, peer: Any, address: str) -> None:
        """Make a session of a connection, or close it."""
        terms = self.terms
        taken = False
        self._beginning[address] += 1
        try:
            client = await self._client(connection, peer, terms)
            if client is not None:
                session = terms.session(client)
                taken = True
                await self._hand_over(connection, session, terms)
        except (OSError, ValueError) as error:
            # A client's or a proxy's trouble: nothing that a session could report.
            if not isinstance(error, OSError) or isinstance(error, TimeoutError):
                terms.tell(f"no PROXY header from {client_at(peer, terms.name).peer}")
        finally:
            self._beginning[address] -= 1
            if not self._beginning[address]:
                del self._beginning[address]
            if not taken:
                connection.close()

    async def _client(self, connection: socket.socket, peer: Any, terms: Terms) -> Client | None:
        if connection.family == socket.AF_UNIX:
            uid = peer_uid(connection)
            return Client("localhost", "" if uid is None else f"uid={uid}", listener=terms.name)
        client = client_at(peer, terms.name)
        if client.address not in terms.proxies:
            return client
        header = b""
        async with asyncio.timeout(_HEADER_TIMEOUT):
            while wanted := proxy.wanted(header):
                octets = await self._loop.sock_recv(connection, wanted)
                if not octets:
                    return None
                header += octets
        source = proxy.source(header)
        return client if source is None else client_at((source,), terms.name)

    async def _hand_over(self, connection: socket.socket, session: Connection, terms: Terms) -> None:
        timeout = HANDSHAKE_TIMEOUT if terms.context is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: session, connection, ssl=terms.context, ssl_handshake_timeout=timeout
            )
        except OSError as error:  # ssl.SSLError is one
            terms.tell(f"SSL_accept error from {session.client.peer}: {words_of(error)}")


def _is_for_clients(descriptor: int) -> bool:
    """The system gives the lowest that is free (open(2)): it is the number of those in use at least."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit == resource.RLIM_INFINITY or descriptor < limit - min(_KEPT_BACK, limit // 2)
