"""The client's side of a session as one machine with two cursors over one list of steps: sent, and answered.

A server without PIPELINING is the same machine with a window of one step. *Within a message* MAIL, RCPT and DATA go in
one group (RFC 2920 §3.1: DATA must be last in its group) and the content in the next. *Chained*, the content leads the
group of the next message's MAIL, RCPT and DATA (the same section allows it): one round trip a message.

Rules that live here and nowhere else: content follows a 354 only; a 354 without an accepted recipient is answered by a
lone dot; RSET only after an interrupted transaction, never as a probe; 421 belongs to the session; a reply that nobody
asked for ends the session; command octets in flight are capped. Every request begun gets exactly one outcome per
recipient, whatever the server says and wherever the connection is lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Final, Generic, TypeVar

from relay.mail import Body, Envelope
from relay.outcome import Command, Outcome, Reply, Scope, Verdict, classify, lost
from relay.smtp.capabilities import Capabilities
from relay.smtp.replies import ProtocolError, ReplyReader
from relay.smtp.stuffing import Stuffer, stuff

MAX_COMMAND_OCTETS_IN_FLIGHT: Final = 16_384
"""Unanswered command octets; more RCPTs wait. Keeps a server that reads only between replies from blocking."""

Key = TypeVar("Key")
"""What the caller knows a request by; handed back in :class:`Done`."""


class Pipelining(IntEnum):
    """How far the sent cursor may run ahead of the answered one."""

    OFF = 0
    WITHIN = 1
    CHAINED = 2


@dataclass(frozen=True, slots=True)
class Done(Generic[Key]):
    """A request's end: one outcome per recipient. ``untouched``: nothing of it was ever sent."""

    key: Key
    outcomes: tuple[Outcome, ...]
    untouched: bool = False


class _Kind(Enum):
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()


@dataclass(slots=True, eq=False)
class _Transaction(Generic[Key]):
    key: Key
    envelope: Envelope
    content: bytes | None
    size: int
    outcomes: list[Outcome | None]
    accepted: int = 0
    mail_refused: bool = False
    open_steps: int = 0  # steps neither answered nor dropped
    dot_sent: bool = False
    lone_dot: bool = False
    sent_any: bool = False


@dataclass(slots=True, eq=False)
class _Step(Generic[Key]):
    kind: _Kind
    transaction: _Transaction[Key] | None
    octets: bytes = b""
    n: int = 0


@dataclass(slots=True)
class _Streaming:
    """Content that the caller feeds piece by piece."""

    stuffer: Stuffer = field(default_factory=Stuffer)


class ClientSession(Generic[Key]):
    """One conversation after greeting, TLS, AUTH and EHLO. ``host`` is named in outcomes as the log shows it."""

    def __init__(self, capabilities: Capabilities, pipelining: Pipelining, *, host: str) -> None:
        self._capabilities = capabilities
        self._pipelining = pipelining if capabilities.pipelining else Pipelining.OFF
        self._host = host
        self._reader = ReplyReader()
        self._transactions: deque[_Transaction[Key]] = deque()
        self._unsent: deque[_Step[Key]] = deque()
        self._unanswered: deque[_Step[Key]] = deque()
        self._command_octets = 0
        self._streaming: _Streaming | None = None
        self._needs_reset = False
        self._end: Outcome | None = None

    # -- what the caller may ask ------------------------------------------------------------------------------------
    @property
    def depth(self) -> int:
        """How many requests are worth having begun at a time."""
        return 2 if self._pipelining is Pipelining.CHAINED else 1

    @property
    def in_flight(self) -> int:
        """Requests begun and not done."""
        return len(self._transactions)

    @property
    def over(self) -> Outcome | None:
        """Why nothing more can be said here: 421, a protocol error, a session out of step; None while usable."""
        return self._end

    @property
    def awaits_final_reply(self) -> bool:
        """Whether the oldest unanswered step is a final dot."""
        return bool(self._unanswered) and self._unanswered[0].kind is _Kind.CONTENT

    @property
    def awaits_reply(self) -> bool:
        """Whether anything that was sent is unanswered."""
        return bool(self._unanswered)

    @property
    def wants_content(self) -> Key | None:
        """The request whose content is to be fed now, piece by piece; None where none is."""
        if self._streaming is None:
            return None
        transaction = self._unsent[0].transaction
        assert transaction is not None
        return transaction.key

    # -- requests in ------------------------------------------------------------------------------------------------
    def begin(self, key: Key, envelope: Envelope, content: bytes | None, size: int) -> None:
        """Put a request on the list. ``content`` None: it is fed when :attr:`wants_content` asks for it.

        ``size`` is what SIZE= declares (RFC 1870): the octets of the content before dots are doubled.
        """
        count = len(envelope.recipients)
        transaction = _Transaction(key, envelope, content, size, [None] * count)
        self._transactions.append(transaction)
        steps = [_Step(_Kind.MAIL, transaction, self._mail(envelope, size))]
        steps += [_Step(_Kind.RCPT, transaction, _rcpt(r.address), n) for n, r in enumerate(envelope.recipients)]
        steps.append(_Step(_Kind.DATA, transaction, b"DATA\r\n"))
        steps.append(_Step(_Kind.CONTENT, transaction))
        transaction.open_steps = len(steps)
        self._unsent.extend(steps)

    def withdraw(self) -> list[Done[Key]]:
        """Take back requests of which nothing was sent yet."""
        taken: list[Done[Key]] = []
        while self._transactions and not self._transactions[-1].sent_any:
            transaction = self._transactions.pop()
            self._drop_unsent(transaction)
            outcome = lost("not begun", host="")
            taken.append(Done(transaction.key, (outcome,) * len(transaction.outcomes), untouched=True))
        return taken[::-1]

    def feed_content(self, octets: bytes) -> bytes:
        """The next octets of the content that :attr:`wants_content` asked for, as they go over the wire."""
        assert self._streaming is not None
        return self._streaming.stuffer.piece(octets)

    def end_content(self) -> bytes:
        """The end of that content; steps behind it may follow."""
        assert self._streaming is not None
        ending = self._streaming.stuffer.end()
        self._streaming = None
        step = self._unsent.popleft()
        assert step.transaction is not None
        step.transaction.dot_sent = True
        self._unanswered.append(step)
        return ending

    # -- bytes out --------------------------------------------------------------------------------------------------
    def bytes_to_send(self) -> list[bytes]:
        """Advance the sent cursor as far as the rules allow; what to write, in one go."""
        out: list[bytes] = []
        while self._unsent and self._end is None and self._streaming is None and self._may_send(self._unsent[0]):
            step = self._unsent[0]
            transaction = step.transaction
            if step.kind is _Kind.MAIL and self._needs_reset:
                self._needs_reset = False
                self._send(_Step(_Kind.RSET, None, b"RSET\r\n"), out)
                continue
            assert transaction is not None
            transaction.sent_any = True
            if step.kind is _Kind.CONTENT and not self._content(step, transaction, out):
                break
            self._unsent.popleft()
            self._send(step, out)
        return out

    def _may_send(self, step: _Step[Key]) -> bool:
        if not self._unanswered:
            return True
        if self._pipelining is Pipelining.OFF:
            return False
        if step.kind is _Kind.CONTENT:
            return False  # RFC 2920 §3.1: DATA was last in its group, its reply comes first
        if step.kind is _Kind.MAIL and self._pipelining is not Pipelining.CHAINED:
            return False
        return self._command_octets < MAX_COMMAND_OCTETS_IN_FLIGHT

    def _content(self, step: _Step[Key], transaction: _Transaction[Key], out: list[bytes]) -> bool:
        """Put the content of ``step`` on the wire; False where the caller is to feed it."""
        if transaction.lone_dot:
            step.octets = b".\r\n"
            return True
        if transaction.content is None:
            self._streaming = _Streaming()
            return False
        transaction.dot_sent = True
        out.append(stuff(transaction.content))
        return True

    def _send(self, step: _Step[Key], out: list[bytes]) -> None:
        if step.octets:
            out.append(step.octets)
            self._command_octets += len(step.octets)
        self._unanswered.append(step)

    def _mail(self, envelope: Envelope, size: int) -> bytes:
        line = f"MAIL FROM:<{envelope.sender}>"
        if self._capabilities.size:
            line += f" SIZE={size}"
        if self._capabilities.eightbit and envelope.body is Body.EIGHT_BIT:
            line += " BODY=8BITMIME"
        if self._capabilities.smtputf8 and envelope.smtputf8:
            line += " SMTPUTF8"
        return _command(line)

    # -- bytes in ---------------------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> list[Done[Key]]:
        """Advance the answered cursor; the requests that are done now."""
        if self.over is not None:
            return []
        done: list[Done[Key]] = []
        try:
            for reply in self._reader.feed(data):
                done += self._answer(reply)
                if self._end is not None:
                    return done + self._abandon(self._end)
            if self._reader.broken is not None:
                raise self._reader.broken
        except ProtocolError as error:
            done += self.lost(f"protocol error: {error}")
        return done

    def lost(self, what: str) -> list[Done[Key]]:
        """The connection is gone, or no longer to be trusted: every unfinished request gets its outcomes."""
        if self._end is None:
            self._end = lost(what, host=self._host)
        return self._abandon(lost(what, host=self._host), lost(what, host=self._host, in_doubt=True))

    def _answer(self, reply: Reply) -> list[Done[Key]]:
        if not self._unanswered:
            if reply.code == 421:
                self._end = classify(reply, Command.GREETING, host=self._host)
                return []
            raise ProtocolError("reply without a command")
        step = self._unanswered.popleft()
        self._command_octets -= len(step.octets)
        command = _COMMANDS[step.kind]
        if reply.code == 421:
            # It answers this step: a dot it answers was refused, not left in doubt.
            self._end = classify(reply, command, host=self._host)
            if step.transaction is not None:
                step.transaction.dot_sent = False
            return []
        if step.transaction is None:
            return []  # RSET: whatever it says, the next MAIL's reply tells whether it helped
        transaction = step.transaction
        match step.kind:
            case _Kind.MAIL:
                self._answer_mail(transaction, reply)
            case _Kind.RCPT:
                self._answer_rcpt(transaction, step.n, reply)
            case _Kind.DATA:
                self._answer_data(transaction, reply)
            case _:
                self._answer_content(transaction, reply)
        transaction.open_steps -= 1
        return self._finish(transaction)

    def _answer_mail(self, transaction: _Transaction[Key], reply: Reply) -> None:
        outcome = classify(reply, Command.MAIL, host=self._host)
        if outcome.verdict is not Verdict.RELAYED:
            transaction.mail_refused = True
            self._fill(transaction, outcome)
            self._drop_unsent(transaction)

    def _answer_rcpt(self, transaction: _Transaction[Key], n: int, reply: Reply) -> None:
        if transaction.mail_refused:
            return
        outcome = classify(reply, Command.RCPT, host=self._host)
        if outcome.verdict is Verdict.RELAYED:
            transaction.accepted += 1
            return
        transaction.outcomes[n] = outcome
        self._note_scope(outcome)
        if transaction.accepted == 0 and all(transaction.outcomes):
            self._needs_reset = True
            self._drop_unsent(transaction)

    def _answer_data(self, transaction: _Transaction[Key], reply: Reply) -> None:
        if reply.code // 100 == 3:
            # RFC 2920 §3.1: content must follow a 354, also where no recipient is left to have it.
            transaction.lone_dot = transaction.accepted == 0
            if transaction.lone_dot:
                self._needs_reset = False
            return
        self._needs_reset = True
        self._drop_unsent(transaction, data_answered=True)
        if transaction.accepted:
            self._fill(transaction, classify(reply, Command.DATA, host=self._host))

    def _answer_content(self, transaction: _Transaction[Key], reply: Reply) -> None:
        if reply.code // 100 == 3:
            raise ProtocolError("intermediate reply to the end of data")
        if not transaction.lone_dot:
            self._fill(transaction, classify(reply, Command.CONTENT, host=self._host))

    def _fill(self, transaction: _Transaction[Key], outcome: Outcome) -> None:
        transaction.outcomes = [outcome if known is None else known for known in transaction.outcomes]
        self._note_scope(outcome)

    def _note_scope(self, outcome: Outcome) -> None:
        if outcome.scope in (Scope.SESSION, Scope.UPSTREAM) and self._end is None:
            self._end = outcome

    def _drop_unsent(self, transaction: _Transaction[Key], *, data_answered: bool = False) -> None:
        """Forget the steps of ``transaction`` that were not sent. Where its DATA is out, content waits for the answer:
        a 354 obliges us to send at least the lone dot.
        """
        own = [step for step in self._unsent if step.transaction is transaction]
        if len(own) == 1 and own[0].kind is _Kind.CONTENT and not data_answered:
            return
        kept = [step for step in self._unsent if step.transaction is not transaction]
        transaction.open_steps -= len(self._unsent) - len(kept)
        self._unsent = deque(kept)

    def _finish(self, transaction: _Transaction[Key]) -> list[Done[Key]]:
        if transaction.open_steps:
            return []
        finished = self._transactions.popleft()
        assert finished is transaction, "replies come in the order of the steps"
        return [_done(transaction, None, None)]

    def _abandon(self, plain: Outcome, doubtful: Outcome | None = None) -> list[Done[Key]]:
        doubtful = doubtful or lost("lost connection", host=self._host, in_doubt=True)
        done = [_done(transaction, plain, doubtful) for transaction in self._transactions]
        self._transactions.clear()
        self._unsent.clear()
        self._unanswered.clear()
        self._streaming = None
        return done


def _done(transaction: _Transaction[Key], plain: Outcome | None, doubtful: Outcome | None) -> Done[Key]:
    missing = doubtful if transaction.dot_sent else plain
    outcomes: list[Outcome] = []
    for known in transaction.outcomes:
        outcome = known or missing
        assert outcome is not None
        outcomes.append(outcome)
    return Done(transaction.key, tuple(outcomes), untouched=not transaction.sent_any)


def _rcpt(address: str) -> bytes:
    return _command(f"RCPT TO:<{address}>")


def _command(line: str) -> bytes:
    """The line on the wire. Addresses were checked at the door; a control character here would be an injection."""
    octets = line.encode()
    if not line.isprintable():
        raise ValueError("control character in a command")
    return octets + b"\r\n"


_COMMANDS: Final = {
    _Kind.RSET: Command.RSET,
    _Kind.MAIL: Command.MAIL,
    _Kind.RCPT: Command.RCPT,
    _Kind.DATA: Command.DATA,
    _Kind.CONTENT: Command.CONTENT,
}
