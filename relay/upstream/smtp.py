"""An SMTP server as upstream: aiosmtplib does TLS, EHLO and AUTH on a connected socket; then the transport is ours.

Where TLS is wanted nothing but EHLO and STARTTLS crosses the wire before it: a server that does not offer it, refuses
it or can't be verified is down. The library knows no pipelining and drops replies that it did not ask for, so once
the handshake is done its transport is handed to :class:`~relay.upstream.conversation.SmtpSession` and the library's
object is not called again. What it raises is put into words here, once; no password is in any of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Final, NoReturn, cast

import aiosmtplib

from relay.outcome import Command, Outcome, classify, parse_reply, unavailable
from relay.settings import UpstreamSettings
from relay.smtp.capabilities import capabilities_of
from relay.smtp.client import Pipelining, bearable
from relay.upstream import SessionObserver, UpstreamUnavailable
from relay.upstream.auth import mechanisms, without_secret
from relay.upstream.connecting import Connected, Connector
from relay.upstream.conversation import SessionLimits, SmtpSession
from relay.upstream.tls import NOT_TRUSTED, context_of, files_of, words_of
from relay.upstream.watched import Watched

_MODES: Final = {
    "off": Pipelining.OFF,
    "on": Pipelining.WITHIN,
    "chained": Pipelining.CHAINED,
    "auto": Pipelining.CHAINED,
}
_HANDSHAKE_STEPS: Final = 4
"""Time-outs that a whole handshake (connect, TLS, EHLO, AUTH) may take together."""


class SmtpUpstream:
    """A smarthost. ``hostname`` is what we say in EHLO; ``connector`` connects as these settings want it."""

    def __init__(self, settings: UpstreamSettings, hostname: str, connector: Connector) -> None:
        self._settings = settings
        self._hostname = hostname
        self._connector = connector
        self._mode = _MODES[settings.pipelining]
        if self._mode is Pipelining.CHAINED and settings.chunking == "auto":
            self._mode = Pipelining.WINDOWED
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
        try:
            async with asyncio.timeout(self._settings.connect_timeout * _HANDSHAKE_STEPS):
                handshake = await self._shake_hands(encrypt=self._settings.tls != "none")
        except TimeoutError:
            # Each step has a time-out of its own: only a server that is slow in all of them comes here.
            raise UpstreamUnavailable(unavailable(f"handshake with {self.destination} timed out", "4.4.2")) from None
        return self._take_over(handshake, observer, loop.time() - started)

    async def _shake_hands(self, *, encrypt: bool) -> _Handshake:
        settings = self._settings
        context = await self._context() if encrypt else None
        connected = await self._connector.connect(settings.host, settings.port, settings.connect_timeout)
        handshake = _Handshake(settings, self._hostname, connected, context)
        try:
            await handshake.run()
        except UpstreamUnavailable:
            if encrypt and settings.tls == "opportunistic" and handshake.step is _Step.TLS:
                return await self._shake_hands(encrypt=False)
            self._connector.failed(connected.address)
            raise
        return handshake

    async def _context(self) -> ssl.SSLContext:
        try:
            async with self._reading:  # in a thread: the system's certificates alone take some 25 ms
                return await asyncio.to_thread(self._tls.value)
        except OSError as error:  # relay check reads the files too: they changed since
            what = f"TLS with {self.destination}: tls_ca, tls_cert or tls_key can't be used: {error.strerror}"
            raise UpstreamUnavailable(unavailable(what, NOT_TRUSTED)) from None

    def _take_over(self, handshake: _Handshake, observer: SessionObserver, setup: float) -> SmtpSession:
        settings = self._settings
        capabilities = capabilities_of(handshake.client.esmtp_extensions)
        if settings.max_message_size:
            capabilities = replace(capabilities, max_size=_least(settings.max_message_size, capabilities.max_size))
        mode = bearable(self._mode, capabilities)
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
            lost_step=lambda: self._plainer(mode),
        )
        session.attach(handshake.take_transport())
        return session

    def _plainer(self, than: Pipelining) -> None:
        """A session with that much pipelining lost step: use less of it with this host from now on."""
        if than is not Pipelining.OFF:
            self._mode = min(self._mode, Pipelining(than - 1))


class _Step(StrEnum):
    """What a server was doing when it failed, in Postfix's words."""

    TLS = "performing the TLS handshake"
    GREETING = "receiving the initial server greeting"
    EHLO = "performing the EHLO handshake"
    AUTH = "performing the AUTH handshake"


class _Handshake:
    """From a connected socket to an authenticated session over the channel that is wanted.

    ``context`` is None where there is to be no TLS. ``step`` tells how far it came.
    """

    def __init__(
        self, settings: UpstreamSettings, hostname: str, connected: Connected, context: ssl.SSLContext | None
    ) -> None:
        implicit = settings.tls == "implicit"
        self.address = connected.address
        self.step = _Step.TLS if implicit else _Step.GREETING
        self.client = aiosmtplib.SMTP(
            hostname=settings.host,  # for SNI and the certificate; the socket knows where it leads
            sock=connected.sock,
            local_hostname=hostname,
            timeout=settings.connect_timeout,
            use_tls=implicit,
            start_tls=False,
            tls_context=context,
        )
        self._settings = settings
        self._encrypt = context is not None
        self._where = f"{settings.host}[{connected.address}]"
        self._transport: asyncio.Transport | None = None

    async def run(self) -> None:
        """Raises :class:`UpstreamUnavailable`; then the connection is closed."""
        try:
            await self._run()
        except UpstreamUnavailable:
            self._hang_up(b"QUIT\r\n")
            raise
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:  # a TimeoutError is an OSError
            outcome = self._outcome(error)
            self._hang_up(b"QUIT\r\n" if outcome.reply is not None else b"")
            raise UpstreamUnavailable(outcome) from None
        except BaseException:
            self._hang_up()
            raise

    def take_transport(self) -> asyncio.Transport:
        """The transport, for good: the library's object must not be called after this."""
        if self._transport is None or self._transport.is_closing():
            self._fail(f"lost connection with {self._where} after the handshake", "4.4.2")
        return self._transport

    async def _run(self) -> None:
        client, settings = self.client, self._settings
        await client.connect()
        self._keep_transport()
        if self._encrypt and settings.tls != "implicit":
            await self._ehlo()
            await self._start_tls()
        protected = client.get_transport_info("sslcontext") is not None
        if not protected and settings.tls in {"starttls", "implicit"}:
            self._fail(f"TLS is required, but there is none with {self._where}", "4.7.4")
        if client.is_ehlo_or_helo_needed:  # a plain connect() does not say it, and TLS forgets it (RFC 3207 §4.2)
            await self._ehlo()
        if settings.username is not None and settings.password is not None:
            await self._authenticate(settings.username, settings.password.value, protected=protected)

    async def _ehlo(self) -> None:
        self.step = _Step.EHLO
        try:
            await self.client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code // 100 != 5:
                raise
            await self.client.helo()  # RFC 5321 §3.2: a server that knows no EHLO is spoken to as of old

    async def _start_tls(self) -> None:
        required = self._settings.tls == "starttls"
        if not self.client.supports_extension("starttls"):
            if required:  # taken out on the way perhaps (RFC 3207 §6)
                self._fail(f"TLS is required, but was not offered by host {self._where}", "4.7.4")
            return
        self.step = _Step.TLS
        try:
            await self.client.starttls()
        except aiosmtplib.SMTPResponseException as error:
            if _is_malformed(error):
                raise
            if required or error.code == 421:
                said = parse_reply(error.code, error.message.splitlines())
                self._fail(f"TLS is required, but host {self._where} refused to start TLS: {said}", "4.7.4")
            self.step = _Step.EHLO
        self._keep_transport()

    async def _authenticate(self, username: str, password: str, *, protected: bool) -> None:
        self.step = _Step.AUTH
        client, settings = self.client, self._settings
        trusted = ipaddress.ip_address(self.address).is_loopback or (protected and settings.tls_verify)
        known = mechanisms(settings.auth, client.server_auth_methods, trusted=trusted)
        if not known:
            offered = " ".join(client.server_auth_methods).upper() or "nothing"
            what = f"cannot authenticate to server {self._where}: no mechanism available (it offers {offered})"
            self._fail(f"SASL authentication failed; {what}", "4.7.0")
        ways = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
        for mechanism in known:
            try:
                await ways[mechanism](username, password)
            except aiosmtplib.SMTPAuthenticationError as error:
                # RFC 4954 §4: 504, it does not know what it offered. After any other refusal a second try with the
                # same password would only bring the lock-out nearer.
                if error.code != 504 or mechanism == known[-1]:
                    raise
            else:
                return

    def _keep_transport(self) -> None:
        # By cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport | None", self.client.transport)

    def _hang_up(self, last_word: bytes = b"") -> None:
        transport = self._transport
        if transport is not None and last_word and not transport.is_closing():
            transport.write(last_word)
        elif transport is not None:
            transport.abort()
        self.client.close()

    def _fail(self, what: str, dsn: str) -> NoReturn:
        raise UpstreamUnavailable(unavailable(what, dsn))

    def _outcome(self, error: Exception) -> Outcome:
        """What stood in the way, in words (the map of a handshake's trouble, made once)."""
        where = self._where
        if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(error.__cause__, aiosmtplib.SMTPException):
            self.step = _Step.GREETING  # connect() reads it too
        match error:
            case aiosmtplib.SMTPResponseException() if _is_malformed(error):
                return unavailable(f"malformed reply from {where} while {self.step}", "4.5.0")
            case aiosmtplib.SMTPAuthenticationError():
                return self._auth_refused(error)
            case aiosmtplib.SMTPHeloError():
                return classify(parse_reply(error.code, error.message.splitlines()), Command.EHLO, host=where)
            case aiosmtplib.SMTPResponseException():
                return classify(parse_reply(error.code, error.message.splitlines()), Command.GREETING, host=where)
        causes = tuple(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                return unavailable(words_of(cause, where), NOT_TRUSTED)
        # asyncio calls a TLS handshake that takes too long a ConnectionAbortedError.
        slow = TimeoutError if self.step is not _Step.TLS else (TimeoutError, ConnectionAbortedError)
        if any(isinstance(cause, slow) for cause in causes):
            return unavailable(f"conversation with {where} timed out while {self.step}", "4.4.2")
        if any(isinstance(cause, ConnectionError) for cause in causes):
            return unavailable(f"lost connection with {where} while {self.step}", "4.4.2")
        return unavailable(f"conversation with {where} failed while {self.step}: {type(error).__name__}")

    def _auth_refused(self, error: aiosmtplib.SMTPAuthenticationError) -> Outcome:
        settings = self._settings
        password = settings.password.value if settings.password is not None else ""
        said = without_secret(error.message, settings.username or "", password)
        reply = parse_reply(error.code, said.splitlines())
        detail = f"SASL authentication failed; server {self._where} said: {reply} (in reply to {Command.AUTH} command)"
        return replace(classify(reply, Command.AUTH), detail=detail)


def _is_malformed(error: aiosmtplib.SMTPResponseException) -> bool:
    """Whether the library could not read a reply: then its code is none."""
    return not 200 <= error.code <= 599


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _least(ours: int, theirs: int) -> int:
    """The lower of our limit and one that the server announced, of which 0 is none."""
    return min(ours, theirs) if theirs else ours
