"""The commands of a session: what is advertised, MAIL, RCPT and DATA by our own grammar (RFC 5321 §4.1).

Offered: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), ENHANCEDSTATUSCODES (RFC
2034). The parameters of DSN (RFC 3461) are read and kept. aiosmtpd's constructor and the handler's hooks go on working;
a handler with ``open_content`` is a :class:`~relay.listener.transaction.Receiver` instead and gets content in pieces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiosmtpd.smtp import MISSING, login_always_fail, syntax

from relay.listener.conversation import Conversation
from relay.listener.transaction import ContentSink, Receiver
from relay.mail import Client
from relay.outcome import Reply
from relay.smtp.arguments import parse_mail, parse_rcpt
from relay.smtp.datareader import TOO_LARGE, DataReader

_MAX_HELO: Final = 255
"""Characters of a HELO name that are kept (RFC 5321 §4.5.3.1.2)."""
_OVERSHOOT: Final = 1000
"""Recipients over the limit that are refused without ending the session (…_recipient_overshoot_limit)."""


class SMTP(Conversation):
    """An SMTP session. ``reject_line_ends`` refuses bare CR and LF in content instead of normalising them."""

    def __init__(
        self, handler: Any, *, max_recipients: int = 1000, reject_line_ends: bool = False, **keywords: Any
    ) -> None:
        super().__init__(handler, **keywords)
        self._max_recipients = max_recipients
        self._reject_line_ends = reject_line_ends
        self._receiver: Receiver | None = handler if hasattr(handler, "open_content") else None
        self._auth_offered = (
            self._auth_required
            or self._authenticator is not None
            or self._auth_callback is not login_always_fail
            or "AUTH" in self._handle_hooks
        )
        if not self._auth_offered:
            self._smtp_methods.pop("AUTH", None)
        if self.tls_context is None:
            self._smtp_methods.pop("STARTTLS", None)

    # -- EHLO, HELO -------------------------------------------------------------------------------------------------
    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str | None) -> None:  # noqa: N802 - aiosmtpd's names
        """RFC 5321 §4.1.1.1; the whole reply is one write."""
        if not hostname:
            self.refuse(Reply(501, "Syntax: EHLO hostname", "5.5.4"))
            return
        self._hello(hostname, "ESMTP")
        lines = [f"250-{self.hostname}", *(f"250-{extension}" for extension in self._extensions())]
        lines[-1] = f"250 {lines[-1][4:]}"
        if "EHLO" in self._handle_hooks:
            lines = await self._call_handler_hook("EHLO", hostname, lines)
        self.say("\r\n".join(lines))

    @syntax("HELO hostname")
    async def smtp_HELO(self, hostname: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.1."""
        if not hostname:
            self.refuse(Reply(501, "Syntax: HELO hostname", "5.5.4"))
            return
        self._hello(hostname, "SMTP")
        status = await self._call_handler_hook("HELO", hostname)
        self.say(f"250 {self.hostname}" if status is MISSING else status)

    def _hello(self, hostname: str, protocol: str) -> None:
        self._set_rset_state()
        assert self.session is not None
        self.session.extended_smtp = protocol == "ESMTP"
        self.session.host_name = hostname
        self.client = Client(
            self.client.name, self.client.address, hostname[:_MAX_HELO], protocol, self.client.listener
        )

    @property
    def _unready(self) -> bool:
        """Whether HELO or AUTH may still be wanting; spares most commands two coroutines."""
        return self.session is None or not self.session.host_name or self._auth_required

    def _extensions(self) -> list[str]:
        extensions = ["PIPELINING"]
        if self.data_size_limit:
            extensions.append(f"SIZE {self.data_size_limit}")
        extensions.append("8BITMIME")
        if self.enable_SMTPUTF8:
            extensions.append("SMTPUTF8")
        if self.tls_context is not None and self._tls_protocol is None:
            extensions.append("STARTTLS")
        if self._auth_offered and (not self._auth_require_tls or self._tls_protocol is not None):
            extensions.append(f"AUTH {' '.join(sorted(self._auth_methods))}")
        extensions.append("ENHANCEDSTATUSCODES")
        return extensions

    # -- MAIL, RCPT -------------------------------------------------------------------------------------------------
    @syntax("MAIL FROM:<address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.2."""
        if self._unready and (await self.check_helo_needed() or await self.check_auth_needed("MAIL")):
            return
        transaction = self.envelope
        if transaction.mail is not None:
            self.refuse(Reply(503, "Error: nested MAIL command", "5.5.1"))
            return
        given = parse_mail(arg or "")
        if isinstance(given, Reply):
            self.reject("MAIL", given)
            return
        if given.smtputf8 and not self.enable_SMTPUTF8:
            self.refuse(Reply(555, "Error: SMTPUTF8 not offered", "5.5.4"))
            return
        size = given.size or 0
        if self.data_size_limit and size > self.data_size_limit:
            self.reject("MAIL", TOO_LARGE, sender=given.address)
            return
        if self._receiver is not None:
            no_room = self._receiver.check_room(size)
            if no_room is not None:
                self.reject("MAIL", no_room, sender=given.address)
                return
        transaction.smtp_utf8 = given.smtputf8
        if "MAIL" in self._handle_hooks:
            options = _parameters(arg)
            status = await self._call_handler_hook("MAIL", given.address, options)
            if not status.startswith("2"):
                await self.push(status)
                return
        else:
            status = "250 2.1.0 Ok"
            if self._receiver is None:
                transaction.mail_from = given.address
                transaction.mail_options.extend(_parameters(arg))
        transaction.mail = given
        self.say(status)

    @syntax("RCPT TO:<address>", extended=" [SP <rcpt-parameters>]")
    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.3."""
        if self._unready and (await self.check_helo_needed() or await self.check_auth_needed("RCPT")):
            return
        transaction = self.envelope
        if transaction.mail is None:
            self.refuse(Reply(503, "Error: need MAIL command", "5.5.1"))
            return
        sender = transaction.mail.address
        given = parse_rcpt(arg or "", smtputf8=transaction.mail.smtputf8)
        if isinstance(given, Reply):
            transaction.refused += 1
            self.reject("RCPT", given, sender=sender)
            return
        if len(transaction.recipients) >= self._max_recipients:
            transaction.refused += 1
            self._too_many(sender, given.address, transaction.refused)
            return
        if "RCPT" in self._handle_hooks:
            options = _parameters(arg)
            status = await self._call_handler_hook("RCPT", given.address, options)
            if not status.startswith("2"):
                transaction.refused += 1
                await self.push(status)
                return
        else:
            status = "250 2.1.5 Ok"
            if self._receiver is None:
                transaction.rcpt_tos.append(given.address)
                transaction.rcpt_options.extend(_parameters(arg))
        transaction.add(given)
        self.say(status)

    def _too_many(self, sender: str, recipient: str, refused: int) -> None:
        """RFC 5321 §4.5.3.1.10: 452, which says that they go in another transaction; no error of the client's."""
        reply = Reply(452, "Error: too many recipients", "4.5.3")
        if refused > _OVERSHOOT:
            self.reject("RCPT", reply, sender=sender, recipient=recipient)
        else:
            self.say(str(reply))

    # -- DATA -------------------------------------------------------------------------------------------------------
    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.4: the content is read here, in pieces, and answered once it is kept."""
        if self._unready and (await self.check_helo_needed() or await self.check_auth_needed("DATA")):
            return
        transaction = self.envelope
        if transaction.mail is None:
            self.refuse(Reply(503, "Error: need MAIL command", "5.5.1"))
        elif not transaction.recipients:
            # RFC 5321 §4.2.4 and §3.3: 554 where all were refused, 503 where none was given.
            if transaction.refused:
                self.refuse(Reply(554, "Error: no valid recipients", "5.5.1"))
            else:
                self.refuse(Reply(503, "Error: need RCPT command", "5.5.1"))
        elif arg:
            self.refuse(Reply(501, "Syntax: DATA", "5.5.4"))
        else:
            self.say("354 End data with <CR><LF>.<CR><LF>")
            sink = self._open_content()
            try:
                reply = await self._content(sink)
            except Exception:
                await sink.discard()
                raise
            if reply is not None:
                self._answer_content(reply)

    def _open_content(self) -> ContentSink:
        if self._receiver is not None:
            return self._receiver.open_content(self.envelope.as_envelope(), self.client)
        return _HookedContent(self._ask_data_hook)

    async def _ask_data_hook(self, content: bytes) -> Reply:
        """The handler's ``handle_DATA``, which finds the content in the session's envelope."""
        self.envelope.original_content = content
        self.envelope.content = content.decode("utf-8", "surrogateescape") if self._decode_data else content
        status = await self._call_handler_hook("DATA")
        return Reply(250, "Ok", "2.0.0") if status is MISSING else Reply(int(status[:3]), status[4:])

    async def _content(self, sink: ContentSink) -> Reply | None:
        """Read to the end of the content; the reply to it, or None where the session ended before."""
        limit = self.data_size_limit or 1 << 62
        reader = DataReader(limit, reject=self._reject_line_ends)
        trouble: Exception | None = None
        while not reader.done:
            octets = self._inbox.take()
            if not octets:
                await self._flush()
                if not await self._receive():
                    await sink.discard()
                    self._end()
                    return None
                continue
            self._since = self.loop.time()
            piece = reader.feed(octets)
            if piece and trouble is None:
                try:
                    await sink.write(piece)
                except Exception as error:  # noqa: BLE001 - what follows is content still, not commands
                    trouble = error
            if reader.hopeless and not reader.done:
                await sink.discard()
                self._dismiss(f"421 4.3.0 {self.hostname} Error: no end of data in sight")
                return None
            self._inbox.resume()
        if reader.rest:
            self._inbox.put_back(reader.rest)
        if trouble is not None:
            raise trouble
        if reader.refusal is not None:
            await sink.discard()
            return reader.refusal
        return await sink.finish()

    def _answer_content(self, reply: Reply) -> None:
        sender = self.envelope.mail.address if self.envelope.mail is not None else ""
        self._set_post_data_state()
        if reply.code < 400:
            self._accepted()
            self.say(str(reply))
        else:
            self.reject("END-OF-MESSAGE", reply, sender=sender)

    # -- the rest ---------------------------------------------------------------------------------------------------
    @syntax("RSET")
    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.5."""
        if arg:
            self.refuse(Reply(501, "Syntax: RSET", "5.5.4"))
            return
        self._set_rset_state()
        status = await self._call_handler_hook("RSET")
        self.say("250 2.0.0 Ok" if status is MISSING else status)

    @syntax("NOOP [ignored]")
    async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.9: its argument means nothing."""
        status = await self._call_handler_hook("NOOP", arg)
        self.say("250 2.0.0 Ok" if status is MISSING else status)

    @syntax("VRFY <address>")
    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §3.5.3: neither confirmed nor denied."""
        if await self.check_auth_needed("VRFY"):
            return
        if not arg:
            self.refuse(Reply(501, "Syntax: VRFY <address>", "5.5.4"))
            return
        status = await self._call_handler_hook("VRFY", arg)
        self.say("252 2.0.0 Cannot VRFY user, but will accept message" if status is MISSING else status)

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.10."""
        if arg:
            self.refuse(Reply(501, "Syntax: QUIT", "5.5.4"))
            return
        status = await self._call_handler_hook("QUIT")
        self.say("221 2.0.0 Bye" if status is MISSING else status)
        self._end()


def _parameters(argument: str | None) -> list[str]:
    """What stands behind the path of an argument that was parsed without complaint: for hooks, as given."""
    _, separator, behind = (argument or "").rpartition(">")
    return behind.split() if separator else (argument or "").partition(":")[2].split()[1:]


class _HookedContent:
    """A sink for a handler that wants content whole; ``hook`` gets it and gives the reply."""

    def __init__(self, hook: Callable[[bytes], Awaitable[Reply]]) -> None:
        self._hook = hook
        self._pieces: list[bytes] = []

    async def write(self, octets: bytes) -> None:
        """See :class:`~relay.listener.transaction.ContentSink`."""
        self._pieces.append(octets)

    async def finish(self) -> Reply:
        """Ask the hook."""
        return await self._hook(b"".join(self._pieces))

    async def discard(self) -> None:
        """Forget it."""
        self._pieces.clear()
