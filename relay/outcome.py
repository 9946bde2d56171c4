"""Replies and what follows from them: the only place where success, deferral or failure is decided.

A reply is judged by its first digit (RFC 5321 §4.2.1: a client must be able to act on it alone), then by a table of
named exceptions. The *scope* of an outcome says whose trouble it is, and so what follows: the recipient's or the
message's (back off, count an attempt), the session's (another session, nobody ages) or the upstream's (pause it,
spend nobody's attempts). Unknown trouble is temporary.

Before its digits what a reply *says* is looked at: a table of the provider's documented lines (:class:`ReplyRule`)
names the trouble, so that a spent quota is no failure of the mail, be it said with 550 and at any command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from relay.value import dataclass

_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")
_SAID: Final = re.compile(r" said: ([2-5][0-9]{2})(?: (.*))? \(in reply to [A-Za-z ]+ command\)\Z")
"""A reply within the detail of a refusal."""
_REPLY_SHOWN: Final = 500
"""Characters of a server's text that are kept: it is foreign input and ends in logs, rows and DSNs."""


class Command(StrEnum):
    """The step of a session that a reply answers."""

    __hash__ = str.__hash__  # Enum's is a function in Python, and each message asks for some ten

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

    __hash__ = str.__hash__

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SESSION = "session"
    UPSTREAM = "upstream"


class Trouble(StrEnum):
    """What a refusal is about, where more is known than its digits tell.

    The first five are between us and the provider and pause the upstream; the last two say whose failure it is.
    """

    QUOTA = "quota"
    RATE = "rate"
    CONNECTIONS = "connections"
    AUTH = "auth"
    ACCOUNT = "account"
    RECIPIENT = "recipient"
    CONTENT = "content"

    @property
    def passes(self) -> bool:
        """Whether it ends by itself, and soon: nobody need be called for it. A quota may take a day."""
        return self in {Trouble.RATE, Trouble.CONNECTIONS}


class Verdict(StrEnum):
    """What became of a recipient in one attempt."""

    __hash__ = str.__hash__

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
class ReplyRule:
    """One line of a reply table: refusals in which ``pattern`` is found are of the class ``trouble``.

    It is searched in the reply as the log shows it ("454 4.7.0 Throttling failure…"). Where its group ``seconds`` or
    ``date`` (RFC 5322, UTC) matches, that is when to try again. ``commands`` are those it is an answer to, empty: any.
    """

    trouble: Trouble
    pattern: re.Pattern[str]
    commands: frozenset[Command] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt means for one recipient.

    ``dsn`` is the RFC 3463 status; ``detail`` is what the log shows in parentheses: the reply, or what happened
    instead of one. ``in_doubt`` marks a final dot that nobody answered: the message may have arrived. ``unfit`` marks a
    message that this server can't have and another may. ``trouble`` is what the refusal is about, None where its digits
    are all that is known; ``wait`` (seconds) or ``until`` (Unix seconds) when the server said to try again.
    """

    verdict: Verdict
    scope: Scope
    dsn: str
    detail: str
    reply: Reply | None = None
    in_doubt: bool = False
    unfit: bool = False
    trouble: Trouble | None = None
    wait: float | None = None
    until: float | None = None


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


def is_taken(reply: Reply, command: Command) -> bool:
    """Whether ``reply`` says that a command of a transaction was obeyed (RFC 5321 §4.2.1)."""
    return 200 <= reply.code < 300 and command not in _NOT_TAKEN_BY_2YZ


def classify(reply: Reply, command: Command, *, host: str = "", rules: Iterable[ReplyRule] = ()) -> Outcome:
    """Judge ``reply`` to ``command``; ``host`` is named in the detail of a refusal as Postfix does.

    The first of ``rules`` that fits a refusal names its trouble; without one its digits decide.
    """
    if is_taken(reply, command):
        return Outcome(Verdict.RELAYED, Scope.RECIPIENT, _status(reply, 2), str(reply), reply)
    first = reply.code // 100
    if first in {4, 5}:
        for rule in rules:
            outcome = _by_rule(rule, reply, command, host)
            if outcome is not None:
                return outcome
    if reply.code == 421:
        # RFC 5321 §3.8: the server closes the channel; it says nothing about this mail.
        return _refusal(Verdict.DEFERRED, Scope.SESSION, reply, command, host)
    if command in _UPSTREAM_COMMANDS:
        trouble = Trouble.AUTH if command is Command.AUTH else _TROUBLES.get(reply.code)
        return _refusal(Verdict.DEFERRED, Scope.UPSTREAM, reply, command, host, trouble)
    scope = Scope.RECIPIENT if command is Command.RCPT else Scope.MESSAGE
    exception = _EXCEPTIONS.get((reply.code, command)) or _EXCEPTIONS.get((reply.code, None))
    if exception is not None:
        verdict, named_scope = exception
        trouble = _TROUBLES.get(reply.code) if named_scope is Scope.UPSTREAM else None
        return _refusal(verdict, named_scope or scope, reply, command, host, trouble)
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


def unavailable(what: str, dsn: str = "4.4.1", trouble: Trouble | None = None) -> Outcome:
    """The upstream can't be used now: refused, hanging, unknown host, failed TLS; or ``trouble`` with our account."""
    return Outcome(Verdict.DEFERRED, Scope.UPSTREAM, dsn, what, trouble=trouble)


def expired(last: str) -> Outcome:
    """The lifetime ran out; ``last`` is what the last attempt said (RFC 3463 §3.5: X.4.7, delivery time expired).

    Where that was a reply it is the outcome's too: a bounce quotes it.
    """
    said = _SAID.search(last)
    reply = parse_reply(int(said[1]), [said[2] or ""]) if said is not None else None
    return Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.4.7", last or "delivery time expired", reply)


_PAUSING: Final = frozenset({Trouble.QUOTA, Trouble.RATE, Trouble.CONNECTIONS, Trouble.AUTH, Trouble.ACCOUNT})

# RFC 4954 §6; 454 to MAIL is how providers say "too fast" too.
_TROUBLES: Final = {530: Trouble.AUTH, 535: Trouble.AUTH, 538: Trouble.AUTH, 454: Trouble.RATE}

_UPSTREAM_COMMANDS: Final = frozenset({Command.GREETING, Command.EHLO, Command.STARTTLS, Command.AUTH})
_NOT_TAKEN_BY_2YZ: Final = _UPSTREAM_COMMANDS | {Command.DATA}

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


def _by_rule(rule: ReplyRule, reply: Reply, command: Command, host: str) -> Outcome | None:
    """What ``rule`` makes of a refusal; None where it does not fit."""
    if rule.commands and command not in rule.commands:
        return None
    found = rule.pattern.search(str(reply))
    if found is None:
        return None
    if rule.trouble in _PAUSING:
        wait, until = _when(found)
        return _refusal(Verdict.DEFERRED, Scope.UPSTREAM, reply, command, host, rule.trouble, wait, until)
    if command in _UPSTREAM_COMMANDS or reply.code == 421:
        return None  # nobody's mail has been looked at
    verdict = Verdict.FAILED if reply.code // 100 == 5 else Verdict.DEFERRED
    scope = Scope.RECIPIENT if rule.trouble is Trouble.RECIPIENT else Scope.MESSAGE
    return _refusal(verdict, scope, reply, command, host, rule.trouble)


def _when(found: re.Match[str]) -> tuple[float | None, float | None]:
    """Seconds to wait, or the Unix time to wait for, as the reply gave them."""
    said = found.groupdict()
    wait = float(said["seconds"]) if said.get("seconds") else None
    try:
        date = parsedate_to_datetime(said["date"]) if said.get("date") else None
    except ValueError:
        date = None
    # Without a zone a date would be read as this machine's own time: only what says UTC is believed.
    return wait, None if date is None or date.tzinfo is None else date.timestamp()


def _status(reply: Reply, first: int) -> str:
    return reply.enhanced if reply.enhanced and reply.enhanced[0] == str(first) else f"{first}.0.0"


def _refusal(
    verdict: Verdict,
    scope: Scope,
    reply: Reply,
    command: Command,
    host: str,
    trouble: Trouble | None = None,
    wait: float | None = None,
    until: float | None = None,
) -> Outcome:
    first = 5 if verdict is Verdict.FAILED else 4
    said = f"host {host} said: {reply}" if host else f"{reply}"
    detail = f"{said} (in reply to {command} command)"
    return Outcome(verdict, scope, _status(reply, first), detail, reply, trouble=trouble, wait=wait, until=until)
