"""One ``[listener.NAME]``: its socket, its sessions, the terms on which they begin, and their orderly end.

A session that isn't wanted is told why and closed: 521 where the client's network isn't allowed (RFC 7504), 421 where
there are too many. Other settings hold for sessions that begin from then on; who is in goes on as before.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from relay.clock import Clock
from relay.events import Emit, Notice
from relay.listener import sockets, tls
from relay.listener.accepting import Acceptor, Terms
from relay.listener.connection import Connection
from relay.listener.gate import Gate, Networks
from relay.listener.inherited import Inherited
from relay.listener.protocol import SMTP
from relay.listener.transaction import Receiver
from relay.listener.users import Users
from relay.mail import Client
from relay.outcome import Reply
from relay.settings import ListenerSettings


class Listener:
    """Messages go to ``receiver``; ``users`` are those who may log in.

    A socket that was ``inherited`` for its address is taken, else one is made.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        hostname: str,
        receiver: Receiver,
        clock: Clock,
        emit: Emit,
        users: Users,
        inherited: Inherited,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._receiver = receiver
        self._clock = clock
        self._emit = emit
        self._users = users
        self._inherited = inherited
        self._gate = Gate(settings)
        self._context = None
        self._sessions: set[Connection] = set()
        self._admitted: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._socket: socket.socket | None = None
        self._is_ours = True
        """Whether the socket, and a Unix socket's file, was made here and goes with us."""
        self._acceptor: Acceptor | None = None

    @property
    def address(self) -> str:
        """What it is bound to, spelled as in the configuration; as configured before :meth:`start`."""
        if self._acceptor is None or self._socket is None:
            return self._settings.address
        return sockets.bound_address(self._socket)

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def configured_address(self) -> str:
        """What the configuration says."""
        return self._settings.address

    @property
    def open(self) -> bool:
        """Whether it listens."""
        return self._acceptor is not None

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._sessions)

    async def start(self) -> None:
        """Bind and listen; OSError, with the address in its text, where that can't be."""
        settings = self._settings
        try:
            terms = self._terms(settings)
        except OSError as error:
            raise OSError(error.errno, _certificate_trouble(settings, error)) from error
        try:
            self._socket = self._inherited.take(settings)
            self._is_ours = self._socket is None
            if self._socket is None:
                self._socket = sockets.bind(settings.address, mode=settings.socket_mode, group=settings.socket_group)
            self._acceptor = Acceptor(self._socket, terms)
            self._acceptor.start()
        except OSError as error:
            self.close()
            why = error.strerror or error
            raise OSError(error.errno, f"can't listen on {settings.address}: {why}") from error

    def configure(self, settings: ListenerSettings) -> list[str]:
        """Take other settings for the same address; what of them can't be used is said, and stays as it was."""
        problems = []
        try:
            terms = self._terms(settings)
        except OSError as error:
            return [f"{_certificate_trouble(settings, error)}: all of it is kept as it was"]
        path = sockets.unix_path(settings.address)
        if path is not None and self._is_ours:
            try:
                sockets.restrict(path, mode=settings.socket_mode, group=settings.socket_group)
            except OSError as error:
                problems.append(f"[listener.{settings.name}] {settings.address}: {error.strerror or error}")
        self._settings = settings
        self._gate.configure(settings)
        if self._acceptor is not None:
            self._acceptor.terms = terms
        return problems

    def _terms(self, settings: ListenerSettings) -> Terms:
        """The terms of ``settings``; raises OSError where the certificate can't be used."""
        context = tls.context_of(settings)
        implicit = settings.tls == "implicit"

        def session(client: Client) -> SMTP:
            return SMTP(
                self._receiver,
                gatekeeper=self,
                clock=self._clock,
                emit=self._emit,
                client=client,
                hostname=self._hostname,
                tls_context=None if implicit else context,
                users=None if settings.auth == "none" else self._users,
                auth_required=settings.auth == "required",
                auth_require_tls=settings.tls == "starttls",
                data_size_limit=settings.max_message_size,
                enable_SMTPUTF8=True,
                timeout=settings.timeout,
                max_recipients=settings.max_recipients,
                reject_line_ends=settings.line_ends == "reject",
                loop=asyncio.get_running_loop(),
            )

        return Terms(
            settings.name,
            context if implicit else None,
            Networks(settings.proxy_networks),
            settings.max_sessions,
            settings.max_sessions_per_client,
            session,
            self._tell,
        )

    def _tell(self, text: str) -> None:
        self._emit(Notice(self._clock.now(), "smtpd", text))

    # -- sessions come and go ---------------------------------------------------------------------------------------
    def opened(self, session: Connection) -> Reply | None:
        """Count a session; a Reply turns it away."""
        self._sessions.add(session)
        self._empty.clear()
        local = sockets.unix_path(self._settings.address) is not None
        refusal = self._gate.enter(session.client.address, local=local)
        if refusal is None:
            # Only these count: others, turned away, must not keep them out.
            self._admitted.add(session)
        return refusal

    def closed(self, session: Connection) -> None:
        """A session is over."""
        self._sessions.discard(session)
        if session in self._admitted:
            self._admitted.discard(session)
            self._gate.leave(session.client.address)
        if not self._sessions:
            self._empty.set()

    # -- the end ----------------------------------------------------------------------------------------------------
    def stop_listening(self) -> None:
        """Take no more connections and no more transactions; idle sessions end now."""
        self._gate.stopping = True
        self.close()
        for session in tuple(self._sessions):
            session.shut_down()

    def close(self) -> None:
        """Take no more connections; sessions go on. It may :meth:`start` again."""
        if self._acceptor is not None:
            self._acceptor.stop()
        if self._socket is not None:
            self._socket.close()
            if self._is_ours:
                sockets.remove(self._settings.address)
        self._socket = self._acceptor = None

    async def ended(self) -> None:
        """Return once no session is left."""
        await self._empty.wait()

    def abort(self) -> None:
        """Cut off all sessions that are left."""
        for session in tuple(self._sessions):
            session.abort()


def _certificate_trouble(settings: ListenerSettings, error: OSError) -> str:
    unreadable = not isinstance(error, ssl.SSLError) and error.strerror
    why = unreadable or "no certificate with its unprotected key in PEM"
    return f"[listener.{settings.name}] tls_cert: {why}"
