"""Replies and what follows from them: the only place where success, deferral or failure is decided.

A reply is judged by its first digit (RFC 5321 §4.2.1: a client must be able to act on it alone), then by a table of
named exceptions. The *scope* of an outcome says whose trouble it is, and so what follows: the recipient's or the
message's (back off, count an attempt), the session's (another session, nobody ages) or the upstream's (pause it,
spend nobody's attempts). Unknown trouble is temporary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")
_SAID: Final = re.compile(r" said: ([2-5][0-9]{2})(?: (.*))? \(in reply to [A-Za-z ]+ command\)\Z")
"""A reply within the detail of a refusal."""
_REPLY_SHOWN: Final = 500
"""Characters of a server's text that are kept: it is foreign input and ends in logs, rows and DSNs."""


class Command(StrEnum):
    """The step of a session that a reply answers."""

    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    CONTENT = "end of DATA"
    BDAT = "BDAT"
    RSET = "RSET"
    QUIT = "QUIT"


class Scope(StrEnum):
    """Whose trouble an outcome is."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SESSION = "session"
    UPSTREAM = "upstream"


class Verdict(StrEnum):
    """What became of a recipient in one attempt."""

    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: three digits, an enhanced status code where the text began with one (RFC 3463), the text."""

    code: int
    text: str
    enhanced: str | None = None

    def __str__(self) -> str:
        status = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {status}{self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt means for one recipient.

    ``dsn`` is the RFC 3463 status; ``detail`` is what the log shows in parentheses: the reply, or what happened
    instead of one. ``in_doubt`` marks a final dot that nobody answered: the message may have arrived. ``unfit`` marks a
    message that this server can't have and another may.
    """

    verdict: Verdict
    scope: Scope
    dsn: str
    detail: str
    reply: Reply | None = None
    in_doubt: bool = False
    unfit: bool = False


def parse_reply(code: int, lines: list[str]) -> Reply:
    """Build a Reply from the texts of its lines; the enhanced code, repeated on each line, is taken off once a line.

    Control characters become "?" and the text is cut at 500 characters: what a server says goes into logs and mail.
    """
    texts = []
    enhanced = None
    for line in lines:
        found = _ENHANCED.match(line)
        if found is not None and found[1] == str(code)[0]:
            enhanced = enhanced or ".".join(found.groups())
            texts.append(line[found.end() :])
        else:
            texts.append(line)
    text = " ".join(texts).strip()
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return Reply(code, text[:_REPLY_SHOWN], enhanced)


def classify(reply: Reply, command: Command, *, host: str = "") -> Outcome:
    """Judge ``reply`` to ``command``; ``host`` is named in the detail of a refusal as Postfix does."""
    first = reply.code // 100
    if reply.code == 421:
        # RFC 5321 §3.8: the server closes the channel; it says nothing about this mail.
        return _refusal(Verdict.DEFERRED, Scope.SESSION, reply, command, host)
    if command in _UPSTREAM_COMMANDS:
        return _refusal(Verdict.DEFERRED, Scope.UPSTREAM, reply, command, host)
    if first == 2 and command is not Command.DATA:
        return Outcome(Verdict.RELAYED, Scope.RECIPIENT, _status(reply, 2), str(reply), reply)
    scope = Scope.RECIPIENT if command is Command.RCPT else Scope.MESSAGE
    exception = _EXCEPTIONS.get((reply.code, command)) or _EXCEPTIONS.get((reply.code, None))
    if exception is not None:
        verdict, named_scope = exception
        return _refusal(verdict, named_scope or scope, reply, command, host)
    if first == 5:
        return _refusal(Verdict.FAILED, scope, reply, command, host)
    if first == 4:
        return _refusal(Verdict.DEFERRED, scope, reply, command, host)
    # 1yz, 3yz where none belongs, or 2yz to DATA: the conversation is out of step, the mail is not at fault.
    return _refusal(Verdict.DEFERRED, Scope.SESSION, reply, command, host)


def lost(what: str, *, host: str, in_doubt: bool = False) -> Outcome:
    """The session ended without a reply: ``what`` tells how ("lost connection …", "timed out …").

    After the final dot the message may have arrived: the recipient's own attempt, in doubt (RFC 1047). Before it the
    session's trouble (RFC 5321 §3.8: to be treated as if 451 had been received).
    """
    detail = f"{what} with {host}" if host else what
    if in_doubt:
        return Outcome(Verdict.DEFERRED, Scope.MESSAGE, "4.4.2", f"in doubt: {detail}", in_doubt=True)
    return Outcome(Verdict.DEFERRED, Scope.SESSION, "4.4.2", detail)


def unavailable(what: str, dsn: str = "4.4.1") -> Outcome:
    """The upstream can't be used now: refused, hanging, unknown host, failed TLS."""
    return Outcome(Verdict.DEFERRED, Scope.UPSTREAM, dsn, what)


def expired(last: str) -> Outcome:
    """The lifetime ran out; ``last`` is what the last attempt said (RFC 3463 §3.5: X.4.7, delivery time expired).

    Where that was a reply it is the outcome's too: a bounce quotes it.
    """
    said = _SAID.search(last)
    reply = parse_reply(int(said[1]), [said[2] or ""]) if said is not None else None
    return Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.4.7", last or "delivery time expired", reply)


_UPSTREAM_COMMANDS: Final = frozenset({Command.GREETING, Command.EHLO, Command.STARTTLS, Command.AUTH})

_EXCEPTIONS: Final[dict[tuple[int, Command | None], tuple[Verdict, Scope | None]]] = {
    # RFC 5321 §4.5.3.1.10: 552 to RCPT was once "too many recipients" and is to be treated as 452.
    (552, Command.RCPT): (Verdict.DEFERRED, Scope.RECIPIENT),
    # RFC 5321 §4.5.3.1.10: too many recipients for one transaction: these go in another one.
    (452, Command.RCPT): (Verdict.DEFERRED, Scope.RECIPIENT),
    # RFC 4954 §6: authentication required, or its failure: our account's trouble, never the mail's.
    (530, None): (Verdict.DEFERRED, Scope.UPSTREAM),
    (535, None): (Verdict.DEFERRED, Scope.UPSTREAM),
    (538, None): (Verdict.DEFERRED, Scope.UPSTREAM),
    (454, Command.MAIL): (Verdict.DEFERRED, Scope.UPSTREAM),
    # Said of content, not of a command: aiosmtpd's "500 Line too long" is one. The message's own failure.
    (500, Command.CONTENT): (Verdict.FAILED, Scope.MESSAGE),
    # RFC 5321 §4.2.4: the server does not know, or not in this order, what every server knows: we are out of step.
    (500, None): (Verdict.DEFERRED, Scope.SESSION),
    (502, None): (Verdict.DEFERRED, Scope.SESSION),
    (503, None): (Verdict.DEFERRED, Scope.SESSION),
}


def _status(reply: Reply, first: int) -> str:
    return reply.enhanced if reply.enhanced and reply.enhanced[0] == str(first) else f"{first}.0.0"


def _refusal(verdict: Verdict, scope: Scope, reply: Reply, command: Command, host: str) -> Outcome:
    first = 5 if verdict is Verdict.FAILED else 4
    said = f"host {host} said: {reply}" if host else f"{reply}"
    return Outcome(verdict, scope, _status(reply, first), f"{said} (in reply to {command} command)", reply)
