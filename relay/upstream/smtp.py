"""An SMTP server as upstream: a connected socket, a handshake, and a session that takes its transport over."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Final, Protocol

from relay.outcome import Trouble, unavailable
from relay.settings import Secret, UpstreamSettings
from relay.smtp.capabilities import capabilities_of
from relay.smtp.client import Pipelining, bearable
from relay.upstream import SessionObserver, UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.conversation import SessionLimits, SmtpSession
from relay.upstream.examined import Examined
from relay.upstream.handshake import Handshake, Step
from relay.upstream.stride import Stride
from relay.upstream.tls import NOT_TRUSTED, context_of, files_of
from relay.upstream.watched import Watched

_MODES: Final = {
    "off": Pipelining.OFF,
    "on": Pipelining.WITHIN,
    "chained": Pipelining.CHAINED,
    "auto": Pipelining.CHAINED,
}
_HANDSHAKE_STEPS: Final = 4
"""Time-outs that a whole handshake (connect, TLS, EHLO, AUTH) may take together."""


class Tokens(Protocol):
    """Where access tokens come from, where it is by them that we log in."""

    async def token(self) -> Secret:
        """A good one; raises :class:`UpstreamUnavailable`."""
        ...

    def refused(self, token: Secret) -> bool:
        """The server would not have it: the next one is a new one; whether that may fare better."""
        ...


class SmtpUpstream:
    """A smarthost. ``hostname`` is what we say in EHLO; ``connector`` connects as these settings want it."""

    def __init__(
        self, settings: UpstreamSettings, hostname: str, connector: Connector, tokens: Tokens | None = None
    ) -> None:
        self._tokens = tokens
        self._settings = settings
        self._hostname = hostname
        self._connector = connector
        wanted = _MODES[settings.pipelining]
        if wanted is Pipelining.CHAINED and settings.chunking == "auto":
            wanted = Pipelining.WINDOWED
        self._stride = Stride(wanted)
        self._tls = Watched(files_of(settings), lambda: context_of(settings))
        self._reading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SmtpUpstream {self.destination}>"

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def destination(self) -> str:
        """``name[host]:port``."""
        return f"{self._settings.name}[{self._settings.host}]:{self._settings.port}"

    async def connect(self, observer: SessionObserver) -> SmtpSession:
        """Open a session; raises :class:`UpstreamUnavailable` with what was in the way."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        handshake = await self._begin()
        return self._take_over(handshake, observer, loop.time() - started)

    async def examine(self) -> Examined:
        """Connect, log in, QUIT: what the server showed; raises :class:`UpstreamUnavailable`."""
        handshake = await self._begin()
        try:
            return handshake.examined(f"{self.name}[{handshake.address}]:{self._settings.port}")
        finally:
            await handshake.leave()

    async def _begin(self) -> Handshake:
        try:
            async with asyncio.timeout(self._settings.connect_timeout * _HANDSHAKE_STEPS):
                return await self._shake_hands(encrypt=self._settings.tls != "none")
        except TimeoutError:
            # Each step has a time-out of its own: only a server that is slow in all of them comes here.
            raise UpstreamUnavailable(unavailable(f"handshake with {self.destination} timed out", "4.4.2")) from None

    async def _shake_hands(self, *, encrypt: bool) -> Handshake:
        settings = self._settings
        context = await self._context() if encrypt else None
        # Before the server's clock runs: the token's server may be slow.
        token = await self._tokens.token() if self._tokens is not None else None
        connected = await self._connector.connect(settings.host, settings.port, settings.connect_timeout)
        handshake = Handshake(settings, self._hostname, connected, context, token)
        try:
            await handshake.run()
        except UpstreamUnavailable as error:
            if encrypt and settings.tls == "opportunistic" and handshake.step is Step.TLS:
                return await self._shake_hands(encrypt=False)
            self._connector.failed(connected.address)
            refused = token is not None and error.outcome.trouble is Trouble.AUTH
            if refused and self._tokens is not None and token is not None and self._tokens.refused(token):
                return await self._shake_hands(encrypt=encrypt)
            raise
        return handshake

    async def _context(self) -> ssl.SSLContext:
        try:
            async with self._reading:  # in a thread: the system's certificates alone take some 25 ms
                return await asyncio.to_thread(self._tls.value)
        except OSError as error:  # relay check reads the files too: they changed since
            what = f"TLS with {self.destination}: tls_ca, tls_cert or tls_key can't be used: {error.strerror}"
            raise UpstreamUnavailable(unavailable(what, NOT_TRUSTED)) from None

    def _take_over(self, handshake: Handshake, observer: SessionObserver, setup: float) -> SmtpSession:
        settings = self._settings
        capabilities = capabilities_of(handshake.client.esmtp_extensions)
        if settings.max_message_size:
            capabilities = replace(capabilities, max_size=_least(settings.max_message_size, capabilities.max_size))
        loop = asyncio.get_running_loop()
        mode = bearable(self._stride.now(loop.time()), capabilities)
        session = SmtpSession(
            observer,
            SessionLimits(
                max_messages=_least(settings.max_messages_per_connection, capabilities.max_messages),
                max_age=settings.max_connection_age,
                idle_timeout=settings.idle_timeout,
                reply_timeout=settings.reply_timeout,
                final_reply_timeout=settings.final_reply_timeout,
                window=settings.chunking_window,
            ),
            capabilities,
            mode,
            relay=f"{settings.name}[{handshake.address}]:{settings.port}",
            setup=setup,
            lost_step=lambda refused: self._stride.lost_step(mode, loop.time(), refused=refused),
            rules=settings.provider.replies,
        )
        session.attach(handshake.take_transport())
        return session


def _least(ours: int, theirs: int) -> int:
    """The lower of our limit and one that the server announced, of which 0 is none."""
    return min(ours, theirs) if theirs else ours
