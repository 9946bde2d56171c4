"""An SMTP server as upstream: aiosmtplib connects, does STARTTLS and AUTH; then the transport is ours.

The library knows no pipelining and drops replies that it did not ask for, so once the handshake is done its transport
is handed to :class:`~relay.upstream.conversation.SmtpSession` and the library's object is not called again.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Final, cast

import aiosmtplib

from relay.outcome import Command, Outcome, classify, parse_reply, unavailable
from relay.settings import UpstreamSettings
from relay.smtp.capabilities import capabilities_of
from relay.smtp.client import Pipelining, bearable
from relay.upstream import SessionObserver, UpstreamUnavailable
from relay.upstream.conversation import SessionLimits, SmtpSession

_MODES: Final = {
    "off": Pipelining.OFF,
    "on": Pipelining.WITHIN,
    "chained": Pipelining.CHAINED,
    "auto": Pipelining.CHAINED,
}
_HANDSHAKE_STEPS: Final = 4
"""Time-outs that a whole handshake (connect, TLS, EHLO, AUTH) may take together."""


class SmtpUpstream:
    """A smarthost. ``hostname`` is what we say in EHLO."""

    def __init__(self, settings: UpstreamSettings, hostname: str) -> None:
        self._settings = settings
        self._hostname = hostname
        self._mode = _MODES[settings.pipelining]
        if self._mode is Pipelining.CHAINED and settings.chunking == "auto":
            self._mode = Pipelining.WINDOWED
        self._tls: ssl.SSLContext | None = None

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
        settings = self._settings
        client: aiosmtplib.SMTP | None = None
        try:
            client = self._client()
            async with asyncio.timeout(settings.connect_timeout * _HANDSHAKE_STEPS):
                await client.connect()
                if client.is_ehlo_or_helo_needed:  # a plain connect() does not say it, and TLS forgets it
                    await client.ehlo()
            return self._take_over(client, observer, loop.time() - started)
        except (aiosmtplib.SMTPException, OSError, ValueError, TimeoutError) as error:
            raise UpstreamUnavailable(self._outcome(error)) from error
        except asyncio.CancelledError:
            if client is not None:
                client.close()
            raise

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        context = self._context() if settings.tls != "none" else None
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.password.value if settings.password is not None else None,
            local_hostname=self._hostname,
            timeout=settings.connect_timeout,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=context,
        )

    def _context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, verified against the system's or ``tls_ca``'s certificates (RFC 8314 §4)."""
        if self._tls is None:
            context = ssl.create_default_context(cafile=self._settings.tls_ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if not self._settings.tls_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._tls = context
        return self._tls

    def _take_over(self, client: aiosmtplib.SMTP, observer: SessionObserver, setup: float) -> SmtpSession:
        settings = self._settings
        # By cast: uvloop's transports are no subclasses of asyncio's.
        transport = cast("asyncio.Transport | None", client.transport)
        if transport is None or transport.is_closing():
            raise UpstreamUnavailable(unavailable(f"lost connection with {self.destination} after the handshake"))
        capabilities = capabilities_of(client.esmtp_extensions)
        if settings.max_message_size:
            capabilities = replace(capabilities, max_size=_least(settings.max_message_size, capabilities.max_size))
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else settings.host
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
            relay=f"{settings.name}[{address}]:{settings.port}",
            setup=setup,
            lost_step=lambda: self._plainer(mode),
        )
        session.attach(transport)
        return session

    def _plainer(self, than: Pipelining) -> None:
        """A session with that much pipelining lost step: use less of it with this host from now on."""
        if than is not Pipelining.OFF:
            self._mode = min(self._mode, Pipelining(than - 1))

    def _outcome(self, error: Exception) -> Outcome:
        """What stood in the way, in words (the map of I/O trouble, made once)."""
        where = self.destination
        match error:
            case aiosmtplib.SMTPAuthenticationError():
                return classify(parse_reply(error.code, error.message.splitlines()), Command.AUTH, host=where)
            case aiosmtplib.SMTPHeloError():
                return classify(parse_reply(error.code, error.message.splitlines()), Command.EHLO, host=where)
            case aiosmtplib.SMTPConnectResponseError() | aiosmtplib.SMTPResponseException():
                return classify(parse_reply(error.code, error.message.splitlines()), Command.GREETING, host=where)
            case aiosmtplib.SMTPServerDisconnected():
                return unavailable(f"lost connection with {where} during the handshake", "4.4.2")
            case TimeoutError():  # SMTPTimeoutError and its kinds are TimeoutErrors too
                return unavailable(f"connect to {where}: timed out")
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLError):
                return unavailable(f"TLS with {where} failed: {cause.reason or cause}", "4.7.5")
            if isinstance(cause, OSError) and cause.strerror:
                return unavailable(f"connect to {where}: {cause.strerror}")
            cause = cause.__cause__ or cause.__context__
        return unavailable(f"connect to {where}: {error}")


def _least(ours: int, theirs: int) -> int:
    """The lower of our limit and one that the server announced, of which 0 is none."""
    return min(ours, theirs) if theirs else ours
