"""The commands of a session: what is advertised, MAIL and RCPT by our own grammar (RFC 5321 §4.1).

Offered: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), ENHANCEDSTATUSCODES (RFC
2034), DSN (RFC 3461), CHUNKING (RFC 3030) without BINARYMIME, LIMITS (RFC 9422); STARTTLS and AUTH where configured.
aiosmtpd's constructor and the handler's hooks go on working; a handler with ``open_content`` is a
:class:`~relay.listener.transaction.Receiver` instead and gets content in pieces.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from aiosmtpd.smtp import MISSING, syntax

from relay.listener.content import Reading
from relay.outcome import Reply
from relay.smtp.arguments import parse_mail, parse_rcpt
from relay.smtp.lineends import TOO_LARGE

_MAX_HELO: Final = 255
"""Characters of a HELO name that are kept (RFC 5321 §4.5.3.1.2)."""
_OVERSHOOT: Final = 1000
"""Recipients over the limit that are refused without ending the session (…_recipient_overshoot_limit)."""


class SMTP(Reading):
    """An SMTP session; the keywords are those of the classes that it is made of."""

    def __init__(self, handler: Any, *, max_recipients: int = 1000, **keywords: Any) -> None:
        super().__init__(handler, **keywords)
        self._max_recipients = max_recipients

    # -- EHLO, HELO -------------------------------------------------------------------------------------------------
    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str | None) -> None:  # noqa: N802 - aiosmtpd's names
        """RFC 5321 §4.1.1.1; the whole reply is one write."""
        if not hostname:
            self.refuse(Reply(501, "Syntax: EHLO hostname", "5.5.4"))
            return
        # RFC 3848.
        protocol = "ESMTPS" if self.is_secure else "ESMTP"
        await self._hello(hostname, f"{protocol}A" if self._is_authenticated else protocol)
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
        await self._hello(hostname, "SMTP")
        status = await self._call_handler_hook("HELO", hostname)
        self.say(f"250 {self.hostname}" if status is MISSING else status)

    async def _hello(self, hostname: str, protocol: str) -> None:
        await self._abandon()
        assert self.session is not None
        self.session.extended_smtp = protocol != "SMTP"
        self.session.host_name = hostname
        self.client = dataclasses.replace(self.client, helo=hostname[:_MAX_HELO], protocol=protocol)

    def _extensions(self) -> list[str]:
        extensions = ["PIPELINING"]
        if self.data_size_limit:
            extensions.append(f"SIZE {self.data_size_limit}")
        extensions.append("8BITMIME")
        if self.enable_SMTPUTF8:
            extensions.append("SMTPUTF8")
        if self.tls_context is not None and not self.is_secure:
            extensions.append("STARTTLS")
        mechanisms = self._mechanisms
        if mechanisms:
            extensions.append(f"AUTH {mechanisms}")
        return [*extensions, "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", f"LIMITS RCPTMAX={self._max_recipients}"]

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
        if self._users is not None and self.client.user and not self._users.may_send(self.client.user, given.address):
            # Another's address; RFC 4954 has no code of its own for it, X.7.1 is "delivery not authorized".
            reply = Reply(553, "Error: sender address not allowed for this user", "5.7.1")
            self.reject("MAIL", reply, sender=given.address)
            return
        size = given.size or 0
        if self.data_size_limit and size > self.data_size_limit:
            self.reject("MAIL", TOO_LARGE, sender=given.address)
            return
        if self._receiver is not None:
            no_room = self._receiver.check_room(size, self.client)
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
        if self._is_chunked:
            self.refuse(Reply(503, "Error: RCPT after BDAT", "5.5.1"))
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
        if self._receiver is not None:
            refusal = self._receiver.check_recipient(given.address)
            if refusal is not None:
                transaction.refused += 1
                self.decline("RCPT", refusal, sender=sender, recipient=given.address)
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

    # -- the rest ---------------------------------------------------------------------------------------------------
    @syntax("RSET")
    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 §4.1.1.5."""
        if arg:
            self.refuse(Reply(501, "Syntax: RSET", "5.5.4"))
            return
        await self._abandon()
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
