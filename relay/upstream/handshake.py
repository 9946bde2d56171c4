"""From a connected socket to an authenticated SMTP session: greeting, TLS, EHLO and AUTH, by aiosmtplib.

Where TLS is wanted nothing but EHLO and STARTTLS crosses the wire before it: a server that does not offer it, refuses
it or can't be verified is down. The library knows no pipelining and drops replies that it did not ask for, so once
the handshake is done its transport is handed to :class:`~relay.upstream.conversation.SmtpSession` and the library's
object is not called again. What it raises is put into words here, once; no password is in any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import NoReturn, cast

import aiosmtplib

from relay.outcome import Command, Outcome, classify, parse_reply, unavailable
from relay.settings import Secret, UpstreamSettings
from relay.upstream import UpstreamUnavailable
from relay.upstream.auth import (
    DISMISSAL,
    Bearer,
    complaint_of,
    mechanisms,
    token_mechanisms,
    token_response,
    without_secret,
)
from relay.upstream.connecting import Connected
from relay.upstream.conversation import QUIT_TIMEOUT
from relay.upstream.examined import Examined, certificate_of, tls_of
from relay.upstream.tls import NOT_TRUSTED, words_of
from relay.upstream.witness import Witness


class Step(StrEnum):
    """What a server was doing when it failed, in Postfix's words."""

    TLS = "performing the TLS handshake"
    GREETING = "receiving the initial server greeting"
    EHLO = "performing the EHLO handshake"
    AUTH = "performing the AUTH handshake"


class Handshake:
    """From a connected socket to an authenticated session over the channel that is wanted.

    ``context`` is None where there is to be no TLS. ``step`` tells how far it came.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        hostname: str,
        connected: Connected,
        context: ssl.SSLContext | None,
        token: Secret | None = None,
    ) -> None:
        implicit = settings.tls == "implicit"
        self.address = connected.address
        self.step = Step.TLS if implicit else Step.GREETING
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
        self._token = token
        self._complaint = ""
        self._greeting = self._mechanism = ""
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

    def examined(self, relay: str) -> Examined:
        """What was seen on the way."""
        connection = self.client.get_transport_info("ssl_object")
        extensions = tuple(f"{name.upper()} {rest}".rstrip() for name, rest in self.client.esmtp_extensions.items())
        certificate = certificate_of(connection)
        return Examined(relay, self._greeting, tls_of(connection), certificate, self._mechanism, extensions)

    async def leave(self) -> None:
        """QUIT, in place of a session."""
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await self.client.quit(timeout=QUIT_TIMEOUT)
        self._hang_up()

    async def _run(self) -> None:
        client, settings = self.client, self._settings
        greeting = await client.connect()
        self._greeting = str(parse_reply(greeting.code, greeting.message.splitlines()))
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
        if settings.username is not None and self._token is not None:
            await self._show_token(settings.username, self._token.value)

    async def _ehlo(self) -> None:
        self.step = Step.EHLO
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
        self.step = Step.TLS
        assert self._transport is not None
        # The library's protocol is one, though its type does not say so.
        witness = Witness(self._transport, cast("asyncio.Protocol", self.client.protocol))
        try:
            await self.client.starttls()
        except aiosmtplib.SMTPServerDisconnected:
            if witness.alarmed:
                self._fail(f"{self._where} sent clear text behind its reply to STARTTLS", NOT_TRUSTED)
            raise
        except aiosmtplib.SMTPResponseException as error:
            if _is_malformed(error):
                raise
            if required or error.code == 421:
                said = parse_reply(error.code, error.message.splitlines())
                self._fail(f"TLS is required, but host {self._where} refused to start TLS: {said}", "4.7.4")
            self.step = Step.EHLO
            witness.leave()
        self._keep_transport()

    async def _authenticate(self, username: str, password: str, *, protected: bool) -> None:
        self.step = Step.AUTH
        client, settings = self.client, self._settings
        trusted = ipaddress.ip_address(self.address).is_loopback or (protected and settings.tls_verify)
        known = mechanisms(settings.auth, client.server_auth_methods, trusted=trusted)
        if not known:
            self._fail_without_mechanism()
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
                self._mechanism = mechanism
                return

    async def _show_token(self, username: str, token: str) -> None:
        self.step = Step.AUTH
        client, settings = self.client, self._settings
        known = token_mechanisms(settings.auth, client.server_auth_methods)
        if not known:
            self._fail_without_mechanism()
        mechanism: Bearer = known[0]
        said = token_response(mechanism, username, token, settings.host, settings.port)
        reply = await client.execute_command(b"AUTH", mechanism.upper().encode(), said)
        if reply.code == 334:
            self._complaint = complaint_of(reply.message)
            reply = await client.execute_command(DISMISSAL[mechanism])
        if reply.code != 235:
            raise aiosmtplib.SMTPAuthenticationError(reply.code, reply.message)
        self._mechanism = mechanism

    def _fail_without_mechanism(self) -> NoReturn:
        offered = " ".join(self.client.server_auth_methods).upper() or "nothing"
        what = f"cannot authenticate to server {self._where}: no mechanism available (it offers {offered})"
        self._fail(f"SASL authentication failed; {what}", "4.7.0")

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
            self.step = Step.GREETING  # connect() reads it too
        match error:
            case aiosmtplib.SMTPResponseException() if _is_malformed(error):
                return unavailable(f"malformed reply from {where} while {self.step}", "4.5.0")
            case aiosmtplib.SMTPAuthenticationError():
                return self._auth_refused(error)
            case aiosmtplib.SMTPHeloError():
                return self._judged(error, Command.EHLO)
            case aiosmtplib.SMTPResponseException():
                return self._judged(error, Command.GREETING)
        causes = tuple(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLError):
                return unavailable(words_of(cause, where), NOT_TRUSTED)
        # asyncio calls a TLS handshake that takes too long a ConnectionAbortedError.
        slow = TimeoutError if self.step is not Step.TLS else (TimeoutError, ConnectionAbortedError)
        if any(isinstance(cause, slow) for cause in causes):
            return unavailable(f"conversation with {where} timed out while {self.step}", "4.4.2")
        if any(isinstance(cause, ConnectionError) for cause in causes):
            return unavailable(f"lost connection with {where} while {self.step}", "4.4.2")
        return unavailable(f"conversation with {where} failed while {self.step}: {type(error).__name__}")

    def _auth_refused(self, error: aiosmtplib.SMTPAuthenticationError) -> Outcome:
        settings = self._settings
        secret = self._token or settings.password
        password = secret.value if secret is not None else ""
        said = without_secret(error.message, settings.username or "", password)
        reply = parse_reply(error.code, said.splitlines())
        complaint = f" [{self._complaint}]" if self._complaint else ""
        what = f"SASL authentication failed; server {self._where} said: {reply}{complaint}"
        detail = f"{what} (in reply to {Command.AUTH} command)"
        return replace(classify(reply, Command.AUTH, rules=settings.provider.replies), detail=detail)

    def _judged(self, error: aiosmtplib.SMTPResponseException, command: Command) -> Outcome:
        reply = parse_reply(error.code, error.message.splitlines())
        return classify(reply, command, host=self._where, rules=self._settings.provider.replies)


def _is_malformed(error: aiosmtplib.SMTPResponseException) -> bool:
    """Whether the library could not read a reply: then its code is none."""
    return not 200 <= error.code <= 599


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
