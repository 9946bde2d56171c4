"""Listening: sockets, who may connect, how many sessions there are, and their orderly end.

A session that isn't wanted is told why and closed: 521 where the client's network isn't allowed (RFC 7504), 421 where
there are too many. Running out of descriptors delays connections and ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from relay.clock import Clock
from relay.events import Emit
from relay.listener.connection import Connection
from relay.listener.protocol import SMTP
from relay.listener.transaction import Receiver
from relay.outcome import Reply
from relay.settings import ListenerSettings

_BACKLOG: Final = 1024
_LAST_COMMITS: Final = 10.0
"""Seconds that commits under way are waited for after the grace is over and all sessions were cut off."""

_TOO_MANY: Final = Reply(421, "Error: too many connections", "4.7.0")
_NOT_ALLOWED: Final = Reply(521, "Error: this host takes no mail from yours", "5.3.2")
_STOPPING: Final = Reply(421, "Service shutting down", "4.3.2")


class Listener:
    """One ``[listener.NAME]``: its socket and its sessions. Messages go to ``receiver``."""

    def __init__(self, settings: ListenerSettings, hostname: str, receiver: Receiver, clock: Clock, emit: Emit) -> None:
        self._settings = settings
        self._hostname = hostname
        self._receiver = receiver
        self._clock = clock
        self._emit = emit
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(n) for n in settings.networks)
        self._sessions: set[Connection] = set()
        self._admitted: set[Connection] = set()
        self._by_client: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._stopping = False

    @property
    def address(self) -> str:
        """``host:port`` or ``[v6]:port`` that it is bound to; as configured before :meth:`start`."""
        if self._server is None or not self._server.sockets:
            return self._settings.address
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Bind and listen; OSError, with the address in its text, where that can't be."""
        try:
            sock = _bound(self._settings.address)
        except OSError as error:
            raise OSError(
                error.errno, f"can't listen on {self._settings.address}: {error.strerror or error}"
            ) from error
        self._server = await asyncio.get_running_loop().create_server(self._session, sock=sock, backlog=_BACKLOG)

    def _session(self) -> SMTP:
        settings = self._settings
        return SMTP(
            self._receiver,
            gatekeeper=self,
            clock=self._clock,
            emit=self._emit,
            listener=settings.name,
            hostname=self._hostname,
            data_size_limit=settings.max_message_size,
            enable_SMTPUTF8=True,
            timeout=settings.timeout,
            max_recipients=settings.max_recipients,
            reject_line_ends=settings.line_ends == "reject",
            loop=asyncio.get_running_loop(),
        )

    # -- sessions come and go ---------------------------------------------------------------------------------------
    def opened(self, session: Connection) -> Reply | None:
        """Count a session; a Reply turns it away."""
        address = session.client.address
        self._sessions.add(session)
        self._empty.clear()
        refusal = self._refusal(address)
        if refusal is None:
            # Only these count: others, turned away, must not keep them out.
            self._admitted.add(session)
            self._by_client[address] += 1
        return refusal

    def closed(self, session: Connection) -> None:
        """A session is over."""
        self._sessions.discard(session)
        if session in self._admitted:
            self._admitted.discard(session)
            address = session.client.address
            self._by_client[address] -= 1
            if not self._by_client[address]:
                del self._by_client[address]
        if not self._sessions:
            self._empty.set()

    def _refusal(self, address: str) -> Reply | None:
        if not self._is_allowed(address):
            return _NOT_ALLOWED
        if self._stopping:
            return _STOPPING
        if len(self._admitted) >= self._settings.max_sessions:
            return _TOO_MANY
        if self._by_client[address] >= self._settings.max_sessions_per_client:
            return _TOO_MANY
        return None

    def _is_allowed(self, address: str) -> bool:
        try:
            client = ip_address(address)
        except ValueError:
            return False
        return any(client in network for network in self._networks)

    # -- the end ----------------------------------------------------------------------------------------------------
    def stop_listening(self) -> None:
        """Take no more connections and no more transactions; idle sessions end now."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for session in tuple(self._sessions):
            session.shut_down()

    async def ended(self) -> None:
        """Return once no session is left."""
        await self._empty.wait()

    def abort(self) -> None:
        """Cut off all sessions that are left."""
        for session in tuple(self._sessions):
            session.abort()


class Listeners:
    """All of ``[listener.*]``, started and stopped together."""

    def __init__(
        self,
        settings: Sequence[ListenerSettings],
        *,
        hostname: str,
        receiver: Receiver,
        clock: Clock,
        emit: Emit,
    ) -> None:
        # aiosmtpd logs dialogues, contents and failed passwords included; the events say what a log needs.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL + 1)
        self._listeners = tuple(Listener(one, hostname, receiver, clock, emit) for one in settings)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where they listen."""
        return tuple(listener.address for listener in self._listeners)

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return sum(listener.sessions for listener in self._listeners)

    async def start(self) -> None:
        """Bind and listen, all or none; OSError names the address."""
        try:
            for listener in self._listeners:
                await listener.start()
        except OSError:
            for listener in self._listeners:
                listener.stop_listening()
            raise

    async def stop(self, grace: float) -> None:
        """Stop taking mail: idle sessions get 421 4.3.2 now, open transactions ``grace`` seconds to end.

        Returns once all sessions are over; a commit that was under way has come to its end.
        """
        for listener in self._listeners:
            listener.stop_listening()
        if not await _within(grace, self._listeners):
            for listener in self._listeners:
                listener.abort()
            await _within(_LAST_COMMITS, self._listeners)


def has_ipv6_loopback() -> bool:
    """Whether this machine has ::1 to listen on."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.bind(("::1", 0))
        return True
    return False


async def _within(seconds: float, listeners: Iterable[Listener]) -> bool:
    try:
        async with asyncio.timeout(seconds):
            for listener in listeners:
                await listener.ended()
    except TimeoutError:
        return False
    return True


def _bound(address: str) -> socket.socket:
    """A socket bound to "host:port" or "[v6]:port"; numeric hosts only, so that nothing asks the DNS."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on what is accepted.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, int(port)))
    except OSError:
        sock.close()
        raise
    return sock
