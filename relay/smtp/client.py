"""The client's side of a session as one machine with two cursors over one list of steps: sent, and answered.

A server without PIPELINING is the same machine with a window of one step. *Within a message* MAIL, RCPT and DATA go in
one group (RFC 2920 §3.1: DATA must be last in its group) and the content in the next. *Chained*, the content leads the
group of the next message's MAIL, RCPT and DATA (the same section allows it): one round trip a message. *Windowed*, the
content goes as one BDAT LAST (RFC 3030), which needs no 354: several whole messages are on their way at a time, and
throughput no longer depends on the round trip.

Rules that live here and nowhere else: content follows a 354 only; a 354 without an accepted recipient is answered by a
lone dot; RSET only after an interrupted transaction, never as a probe, but before a MAIL that follows an unanswered
BDAT: should that be refused, its envelope must not stay open for the next message; 421 belongs to the session; a reply
that nobody asked for ends the session; octets in flight are capped. Every request begun gets exactly one outcome per
recipient, whatever the server says and wherever the connection is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Generic

from relay.mail import Envelope
from relay.outcome import Command, Outcome, Reply, ReplyRule, Scope, Trouble, classify, is_taken, lost
from relay.smtp.capabilities import Capabilities
from relay.smtp.replies import ProtocolError, ReplyReader
from relay.smtp.steps import COMMANDS, Done, Key, Kind, Step, Transaction, steps_of
from relay.smtp.stuffing import Stuffer, stuff

MAX_COMMAND_OCTETS_IN_FLIGHT: Final = 16_384
"""Unanswered command octets; more RCPTs wait. Keeps a server that reads only between replies from blocking."""
MAX_CONTENT_OCTETS_IN_FLIGHT: Final = 1_048_576
"""Unanswered content octets beyond which a windowed session begins no further content."""


class Pipelining(IntEnum):
    """How far the sent cursor may run ahead of the answered one."""

    OFF = 0
    WITHIN = 1
    CHAINED = 2
    WINDOWED = 3


def bearable(wanted: Pipelining, capabilities: Capabilities) -> Pipelining:
    """The most of ``wanted`` that a server with these capabilities takes."""
    if not capabilities.pipelining:
        return Pipelining.OFF
    if wanted is Pipelining.WINDOWED and not capabilities.chunking:
        return Pipelining.CHAINED
    return wanted


class ClientSession(Generic[Key]):
    """One conversation after greeting, TLS, AUTH and EHLO. ``host`` is named in outcomes as the log shows it.

    ``window`` is how many messages a windowed session has unanswered at the most: what a broken connection leaves in
    doubt. ``rules`` tell what the server's refusals mean (:func:`~relay.outcome.classify`).
    """

    def __init__(
        self,
        capabilities: Capabilities,
        pipelining: Pipelining,
        *,
        host: str,
        window: int = 8,
        rules: tuple[ReplyRule, ...] = (),
    ) -> None:
        self._capabilities = capabilities
        self._pipelining = bearable(pipelining, capabilities)
        self._host = host
        self._rules = rules
        self._depth = {Pipelining.WINDOWED: window, Pipelining.CHAINED: 2}.get(self._pipelining, 1)
        self._reader = ReplyReader()
        self._transactions: deque[Transaction[Key]] = deque()
        self._unsent: deque[Step[Key]] = deque()
        self._unanswered: deque[Step[Key]] = deque()
        self._command_octets = 0
        self._content_octets = 0
        self._stuffer: Stuffer | None = None
        self._streaming = False
        self._needs_reset = False
        self._closing: Outcome | None = None  # why nothing more is said; what was said is still answered
        self._end: Outcome | None = None

    # -- what the caller may ask ------------------------------------------------------------------------------------
    @property
    def pipelining(self) -> Pipelining:
        """How far it runs ahead with this server."""
        return self._pipelining

    @property
    def depth(self) -> int:
        """How many requests are worth having begun at a time."""
        return self._depth if self._closing is None else 0

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
        """Whether the oldest unanswered step is the end of a content."""
        return bool(self._unanswered) and self._unanswered[0].kind in _ENDS

    @property
    def awaits_reply(self) -> bool:
        """Whether anything that was sent is unanswered."""
        return bool(self._unanswered)

    @property
    def wants_content(self) -> Key | None:
        """The request whose content is to be fed now, piece by piece; None where none is."""
        if not self._streaming:
            return None
        transaction = self._unsent[0].transaction
        assert transaction is not None
        return transaction.key

    @property
    def oldest(self) -> Key | None:
        """The first request begun of those that are not done."""
        return self._transactions[0].key if self._transactions else None

    # -- requests in ------------------------------------------------------------------------------------------------
    def begin(self, key: Key, envelope: Envelope, content: bytes | None, size: int) -> None:
        """Put a request on the list. ``content`` None: it is fed when :attr:`wants_content` asks for it.

        ``size`` counts the content's octets before dots are doubled: what SIZE= declares (RFC 1870), and BDAT counts.
        """
        transaction = Transaction(key, envelope, content, size, [None] * len(envelope.recipients))
        chunked = self._pipelining is Pipelining.WINDOWED
        self._unsent.extend(steps_of(transaction, self._capabilities, chunked=chunked))
        self._transactions.append(transaction)

    def withdraw(self) -> list[Done[Key]]:
        """Take back requests of which nothing was sent yet."""
        taken: list[Done[Key]] = []
        while self._transactions and not self._transactions[-1].sent_any:
            transaction = self._transactions.pop()
            self._drop_unsent(transaction, data_answered=True)
            taken.append(transaction.done(lost("not begun", host=""), None))
        return taken[::-1]

    def feed_content(self, octets: bytes) -> bytes:
        """The next octets of the content that :attr:`wants_content` asked for, as they go over the wire."""
        assert self._streaming
        self._begin_content()
        return octets if self._stuffer is None else self._stuffer.piece(octets)

    def end_content(self) -> bytes:
        """The end of that content; steps behind it may follow."""
        assert self._streaming
        self._begin_content()
        ending = b"" if self._stuffer is None else self._stuffer.end()
        self._stuffer, self._streaming = None, False
        step = self._unsent.popleft()
        assert step.transaction is not None
        step.transaction.content_sent = True
        self._unanswered.append(step)
        return ending

    def _begin_content(self) -> None:
        transaction = self._unsent[0].transaction
        assert transaction is not None
        transaction.content_begun = True

    # -- bytes out --------------------------------------------------------------------------------------------------
    def bytes_to_send(self) -> list[bytes]:
        """Advance the sent cursor as far as the rules allow; what to write, in one go."""
        out: list[bytes] = []
        unsent, unanswered = self._unsent, self._unanswered
        if self._closing is not None or self._end is not None:
            return out
        while unsent and not self._streaming:
            step = unsent[0]
            kind = step.kind
            if unanswered and not self._may_follow(kind):
                break
            transaction = step.transaction
            assert transaction is not None
            if kind is Kind.MAIL:
                transaction.sent_any = True
                if self._needs_reset or self._envelope_may_stay_open:
                    self._needs_reset = False
                    out.append(_RSET)
                    unanswered.append(Step(Kind.RSET, None, _RSET))
                    self._command_octets += len(_RSET)
            elif kind in _ENDS and not self._content(step, transaction, out):
                break
            unsent.popleft()
            if step.octets:
                out.append(step.octets)
                self._command_octets += len(step.octets)
            unanswered.append(step)
            if kind is Kind.BDAT and transaction.content is not None:
                out.append(transaction.content)
        return out

    def _may_follow(self, kind: Kind) -> bool:
        """Whether a step may be sent before what was sent is answered."""
        pipelining = self._pipelining
        if pipelining is Pipelining.OFF:
            return False
        if kind is Kind.CONTENT:
            return False  # RFC 2920 §3.1: DATA was last in its group, its reply comes first
        if kind is Kind.MAIL and pipelining is Pipelining.WITHIN:
            return False
        if kind is Kind.BDAT and self._content_octets >= MAX_CONTENT_OCTETS_IN_FLIGHT:
            return False
        return self._command_octets < MAX_COMMAND_OCTETS_IN_FLIGHT

    @property
    def _envelope_may_stay_open(self) -> bool:
        return self._pipelining is Pipelining.WINDOWED and any(step.kind is Kind.BDAT for step in self._unanswered)

    def _content(self, step: Step[Key], transaction: Transaction[Key], out: list[bytes]) -> bool:
        """Put the content of ``step`` on the wire; False where the caller is to feed it."""
        if transaction.lone_dot:
            step.octets = b".\r\n"
            return True
        self._content_octets += transaction.size
        content = transaction.content
        if content is None:
            self._streaming = True
            self._stuffer = Stuffer() if step.kind is Kind.CONTENT else None
            if step.octets:
                out.append(step.octets)
                self._command_octets += len(step.octets)
            return False
        transaction.content_begun = transaction.content_sent = True
        if step.kind is Kind.CONTENT:
            out.append(stuff(content))
        return True

    # -- bytes in ---------------------------------------------------------------------------------------------------
    def receive(self, data: bytes) -> list[Done[Key]]:
        """Advance the answered cursor; the requests that are done now."""
        if self.over is not None:
            return []
        done: list[Done[Key]] = []
        try:
            for reply in self._reader.feed(data):
                done += self._answer(reply)
                if self._closing is not None and not self._unanswered:
                    self._end = self._closing
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

    def _answer(self, reply: Reply) -> Sequence[Done[Key]]:
        if not self._unanswered:
            if reply.code == 421:
                self._end = self._judged(reply, Command.GREETING)
                return ()
            raise ProtocolError("reply without a command")
        step = self._unanswered.popleft()
        kind, transaction = step.kind, step.transaction
        self._command_octets -= len(step.octets)
        if kind in _ENDS and transaction is not None and not transaction.lone_dot:
            self._content_octets -= transaction.size
        if reply.code == 421:
            # It answers this step: a dot it answers was refused, not left in doubt.
            # Nor was anything behind it heard: the server is closing.
            self._end = self._judged(reply, COMMANDS[kind])
            for each in self._transactions:
                each.content_sent = False
            return ()
        if transaction is None:
            return ()  # RSET: whatever it says, the next MAIL's reply tells whether it helped
        if kind is Kind.MAIL:
            self._answer_mail(transaction, reply)
        elif kind is Kind.RCPT:
            self._answer_rcpt(transaction, step.n, reply)
        elif kind is Kind.DATA:
            self._answer_data(transaction, reply)
        else:
            self._answer_content(transaction, reply, COMMANDS[kind])
        transaction.open_steps -= 1
        return () if transaction.open_steps else (self._finish(transaction),)

    def _judged(self, reply: Reply, command: Command) -> Outcome:
        return classify(reply, command, host=self._host, rules=self._rules)

    def _answer_mail(self, transaction: Transaction[Key], reply: Reply) -> None:
        if not is_taken(reply, Command.MAIL):
            transaction.mail_refused = True
            self._fill(transaction, self._judged(reply, Command.MAIL))
            self._drop_unsent(transaction)

    def _answer_rcpt(self, transaction: Transaction[Key], n: int, reply: Reply) -> None:
        if transaction.mail_refused:
            return
        if is_taken(reply, Command.RCPT):
            transaction.accepted += 1
            return
        outcome = self._judged(reply, Command.RCPT)
        transaction.outcomes[n] = outcome
        self._note_scope(outcome)
        if transaction.accepted == 0 and all(transaction.outcomes):
            self._needs_reset = True
            self._drop_unsent(transaction)

    def _answer_data(self, transaction: Transaction[Key], reply: Reply) -> None:
        if reply.code // 100 == 3:
            # RFC 2920 §3.1: content must follow a 354, also where no recipient is left to have it.
            transaction.lone_dot = transaction.accepted == 0
            if transaction.lone_dot:
                self._needs_reset = False
            return
        self._needs_reset = True
        self._drop_unsent(transaction, data_answered=True)
        if transaction.accepted:
            self._fill(transaction, self._judged(reply, Command.DATA))

    def _answer_content(self, transaction: Transaction[Key], reply: Reply, command: Command) -> None:
        if reply.code // 100 == 3:
            raise ProtocolError("intermediate reply to the end of data")
        if command is Command.BDAT and reply.code // 100 != 2:
            self._needs_reset = True
        if transaction.accepted:
            self._fill(transaction, self._judged(reply, command))

    def _fill(self, transaction: Transaction[Key], outcome: Outcome) -> None:
        transaction.outcomes = [outcome if known is None else known for known in transaction.outcomes]
        self._note_scope(outcome)

    def _note_scope(self, outcome: Outcome) -> None:
        if outcome.scope not in (Scope.SESSION, Scope.UPSTREAM) or self._closing is not None:
            return
        # What goes too fast for the server goes on more slowly: to log in anew would be one thing more.
        if outcome.trouble is not Trouble.RATE or outcome.reply is None or outcome.reply.code == 421:
            self._closing = outcome

    def _drop_unsent(self, transaction: Transaction[Key], *, data_answered: bool = False) -> None:
        """Forget the steps of ``transaction`` that were not sent. Where its DATA is out, content waits for the answer:
        a 354 obliges us to send at least the lone dot.
        """
        own = [step for step in self._unsent if step.transaction is transaction]
        if self._streaming and own and own[0] is self._unsent[0]:
            return  # its BDAT has promised as many octets
        if len(own) == 1 and own[0].kind is Kind.CONTENT and not data_answered:
            return
        kept = [step for step in self._unsent if step.transaction is not transaction]
        transaction.open_steps -= len(self._unsent) - len(kept)
        self._unsent = deque(kept)

    def _finish(self, transaction: Transaction[Key]) -> Done[Key]:
        finished = self._transactions.popleft()
        assert finished is transaction, "replies come in the order of the steps"
        return transaction.done(None, None)

    def _abandon(self, plain: Outcome, doubtful: Outcome | None = None) -> list[Done[Key]]:
        doubtful = doubtful or lost("lost connection", host=self._host, in_doubt=True)
        done = [transaction.done(plain, doubtful) for transaction in self._transactions]
        self._transactions.clear()
        self._unsent.clear()
        self._unanswered.clear()
        self._stuffer, self._streaming = None, False
        return done


_RSET: Final = b"RSET\r\n"
_ENDS: Final = frozenset({Kind.CONTENT, Kind.BDAT})
