"""One session's conversation: command lines in, each to its ``smtp_VERB`` coroutine, within limits; those are
``protocol``'s.

aiosmtpd's loop is replaced because of what it gets wrong: an exception told to the client as a permanent 500 with its
text, a session stuck behind it, no bound on idle chatter, lines that end in a bare LF, other protocols obeyed line by
line. Kept is its shape: one task per session, coroutines named by verb, the handler's hooks.
"""

from __future__ import annotations

import re
import secrets
import traceback
from typing import Any, Final

from relay.events import Disconnected
from relay.listener.connection import Connection
from relay.listener.inbox import LineTooLong
from relay.outcome import Reply
from relay.smtp.address import has_control

ERROR_LIMIT: Final = 20
"""4yz and 5yz replies in a session since its last message before it is ended (Postfix's smtpd_hard_error_limit)."""
JUNK_LIMIT: Final = 100
"""Commands that lead nowhere, since the last message, before each more counts as an error (…_junk_command_limit)."""
_REPLIES_HELD: Final = 500
"""Replies kept back for one write while the client's pipelined commands last."""

_JUNK: Final = frozenset({"NOOP", "RSET", "VRFY", "HELP", "EHLO", "HELO", "EXPN"})
_FOREIGN_VERBS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"}
)
# Verbs that a client may know of, from extensions that aren't offered here.
_NOT_IMPLEMENTED: Final = frozenset({"AUTH", "STARTTLS", "EXPN", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML"})
# RFC 3207 §4.
_BEFORE_STARTTLS: Final = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT"})
_VERB: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*+\Z")

_TOO_LONG: Final = {
    LineTooLong.COMMAND: Reply(500, "Error: command line too long", "5.5.2"),
    # RFC 4954 §4 and §6.
    LineTooLong.AUTH: Reply(500, "Error: authentication exchange line is too long", "5.5.6"),
}
_BARE_LF: Final = Reply(500, "Error: bare LF at the end of a command", "5.5.2")
_CONTROL: Final = Reply(500, "Error: control character in command", "5.5.2")
_STARTTLS_FIRST: Final = Reply(530, "Error: must issue a STARTTLS command first", "5.7.0")
_NO_SECURITY: Final = Reply(554, "Error: command refused due to lack of security", "5.7.0")
_UNKNOWN: Final = Reply(500, "Error: command not recognized", "5.5.2")
_NOT_OFFERED: Final = Reply(502, "Error: command not implemented", "5.5.1")


class Conversation(Connection):
    """A session up to its commands; the keywords are :class:`Connection`'s."""

    def __init__(self, handler: Any, **keywords: Any) -> None:
        super().__init__(handler, **keywords)
        self._counts: dict[str, list[int]] = {}
        self._junk = 0

    async def _handle_client(self) -> None:
        try:
            await self._converse()
            await self._flush()
            if self._dismissed:
                await self._linger()
        except Exception as error:  # noqa: BLE001 - whatever it is, the session is over and the others go on
            self._report(error)
        finally:
            self._end()
            await self._abandon()
            self._writer.close()
            counts = tuple((verb, accepted, given) for verb, (accepted, given) in self._counts.items())
            self._emit(Disconnected(self._clock.now(), self.client.peer, counts))
            if self._gatekeeper is not None:
                self._gatekeeper.closed(self)

    async def _abandon(self) -> None:
        """Forget the transaction: what of its content is kept so far won't come to its end."""
        self._set_rset_state()

    async def _converse(self) -> None:
        if self._refusal is not None:
            self.reject("CONNECT", self._refusal)
            return
        self.say(f"220 {self.hostname} {self.__ident__}")
        while not self._ended:
            line = self._inbox.line()
            if line is not None:
                await self._command(line)
                self._since = self.loop.time() - self._slowness
                if len(self._replies) >= _REPLIES_HELD:
                    await self._flush()
                continue
            if _is_foreign(self._inbox.peek()):
                # A TLS hello may hold no line end to wait for.
                self._other_protocol()
                return
            await self._flush()
            # Between chunks (RFC 3030) the client is amid its content as it is within one.
            if self.envelope.chunks is not None:
                more = await self._receive_content()
            else:
                self._at_rest = True
                more = await self._receive()
                self._at_rest = False
            if not more:
                return

    async def _command(self, line: bytes | LineTooLong) -> None:
        if isinstance(line, LineTooLong):
            self.refuse(_TOO_LONG[line])
        elif not line.endswith(b"\r\n"):
            # RFC 5321 §2.3.8: a bare LF ends no line.
            if _is_foreign(line[:1]):
                self._other_protocol()
            else:
                self.refuse(_BARE_LF)
        else:
            text = line[:-2].decode("utf-8", "surrogateescape")
            verb, _, argument = text.partition(" ")
            verb = verb.upper()
            method = self._smtp_methods.get(verb) if verb.isascii() else None
            if method is None:
                self._unknown(verb, text)
            elif verb not in {"MAIL", "RCPT"} and has_control(text):
                self.refuse(_CONTROL)
            elif not self._tls_handshake_okay and verb != "QUIT":
                self.refuse(_NO_SECURITY)
            elif self.require_starttls and self._tls_protocol is None and verb not in _BEFORE_STARTTLS:
                self.refuse(_STARTTLS_FIRST)
            else:
                await self._run(verb, method, argument.strip(" ") or None)
        if self._errors >= ERROR_LIMIT and not self._ended:
            self._dismiss(f"421 4.7.0 {self.hostname} Error: too many errors")
        elif self._stopping and not self.in_transaction and not self._ended:
            self._dismiss(self._shutting_down)

    async def _run(self, verb: str, method: Any, argument: str | None) -> None:
        before = self._errors + self._own_trouble
        count = self._counts.setdefault(verb, [0, 0])
        count[1] += 1
        if verb in _JUNK:
            self._count_junk()
        try:
            await method(argument)
        except Exception as error:  # noqa: BLE001 - aiosmtpd would call it a permanent 500; the mail isn't at fault
            self._set_rset_state()
            status = await self.handle_exception(error)
            self._errors += 1
            self.say(status)
        # A message that was taken sets the errors back.
        count[0] += self._errors + self._own_trouble <= before

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk > JUNK_LIMIT:
            self._errors += 1

    async def handle_exception(self, error: Exception) -> str:
        """451 with an opaque id for our own trouble, unless the handler has an answer; the log has the same id."""
        if hasattr(self.event_handler, "handle_exception"):
            try:
                status: str = await self.event_handler.handle_exception(error)
            except Exception as another:  # noqa: BLE001 - as above
                error = another
            else:
                return status
        return f"451 4.3.0 Error: internal error {self._report(error)}"

    def _report(self, error: Exception) -> str:
        """Tell the log where it happened, not what it says: an exception's text may hold mail or secrets."""
        reference = secrets.token_hex(4)
        frames = traceback.extract_tb(error.__traceback__)
        where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
        text = f"internal error {reference}: {type(error).__name__}{where} (client {self.client.peer})"
        self._tell(text, warning=True)
        return reference

    def _unknown(self, verb: str, text: str) -> None:
        # A browser made to speak to this port, another protocol, or content taken for commands: every further line
        # would be obeyed, so none is read (Postfix: smtpd_forbidden_commands).
        if verb[:1].isascii() and verb[:1].isalpha() and has_control(text):
            self.refuse(_CONTROL)
        elif verb in _FOREIGN_VERBS or (text and not _VERB.match(verb) and text[0] != " "):
            self._other_protocol()
        elif verb in _NOT_IMPLEMENTED:
            self.refuse(_NOT_OFFERED)
        else:
            self.refuse(_UNKNOWN)

    def _other_protocol(self) -> None:
        self.reject("CONNECT", Reply(421, f"{self.hostname} Error: this is SMTP", "4.7.0"))
        self._end(dismissed=True)

    def _accepted(self) -> None:
        """A message was taken: what led here is forgiven."""
        self._errors = 0
        self._junk = 0


def _is_foreign(first: bytes) -> bool:
    """Whether no command, nor a mistyped one, begins with that octet."""
    return not first.isalpha() and first not in b" \r\n"
