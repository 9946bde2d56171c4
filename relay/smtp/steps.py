"""The steps of a session as the client machine lists them: transactions, their commands, what each is waiting for."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from relay.mail import Body, Envelope, Recipient
from relay.outcome import Command, Outcome
from relay.smtp.capabilities import Capabilities
from relay.value import dataclass

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")

Key = TypeVar("Key")
"""What the caller knows a request by; handed back in :class:`Done`."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Key]):
    """A request's end: one outcome per recipient. ``untouched``: nothing of it was ever sent;
    ``content_begun``: some of its content was, and it was not refused before.
    """

    key: Key
    outcomes: tuple[Outcome, ...]
    untouched: bool = False
    content_begun: bool = False


class Kind(Enum):
    """What a step says. CONTENT is the content with its final dot, BDAT the content as one last chunk (RFC 3030)."""

    __hash__ = object.__hash__  # Enum's is a function in Python

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()
    BDAT = auto()


COMMANDS: Final = {
    Kind.RSET: Command.RSET,
    Kind.MAIL: Command.MAIL,
    Kind.RCPT: Command.RCPT,
    Kind.DATA: Command.DATA,
    Kind.CONTENT: Command.CONTENT,
    Kind.BDAT: Command.BDAT,
}
"""What a reply to a step is judged as."""


@dataclass(slots=True, eq=False)
class Transaction(Generic[Key]):
    """A request on its way. ``open_steps`` counts its steps that are neither answered nor dropped."""

    key: Key
    envelope: Envelope
    content: bytes | None
    size: int
    outcomes: list[Outcome | None]
    accepted: int = 0
    mail_refused: bool = False
    open_steps: int = 0
    content_sent: bool = False
    lone_dot: bool = False
    content_begun: bool = False
    sent_any: bool = False

    def done(self, plain: Outcome | None, doubtful: Outcome | None) -> Done[Key]:
        """Its end; recipients without an outcome get ``doubtful`` where all of the content was sent, else ``plain``."""
        # Content that followed a refusal before that was read (RFC 3030) is no message to the server.
        refused = self.mail_refused or (self.accepted == 0 and all(self.outcomes))
        missing = doubtful if self.content_sent else plain
        outcomes: list[Outcome] = []
        for known in self.outcomes:
            outcome = known or missing
            assert outcome is not None
            outcomes.append(outcome)
        return Done(
            self.key, tuple(outcomes), untouched=not self.sent_any, content_begun=self.content_begun and not refused
        )


@dataclass(slots=True, eq=False)
class Step(Generic[Key]):
    """One thing to say; ``octets`` are what stands on the wire besides content, ``n`` the recipient's position."""

    kind: Kind
    transaction: Transaction[Key] | None
    octets: bytes = b""
    n: int = 0


def steps_of(transaction: Transaction[Key], capabilities: Capabilities, *, chunked: bool) -> list[Step[Key]]:
    """MAIL, RCPT…, then DATA and the content, or the content as one BDAT."""
    envelope = transaction.envelope
    steps = [Step(Kind.MAIL, transaction, _mail(envelope, transaction.size, capabilities))]
    steps += [
        Step(Kind.RCPT, transaction, _rcpt(recipient, capabilities), n)
        for n, recipient in enumerate(envelope.recipients)
    ]
    if chunked:
        steps.append(Step(Kind.BDAT, transaction, b"BDAT %d LAST\r\n" % transaction.size))
    else:
        steps += [Step(Kind.DATA, transaction, b"DATA\r\n"), Step(Kind.CONTENT, transaction)]
    transaction.open_steps = len(steps)
    return steps


def _mail(envelope: Envelope, size: int, capabilities: Capabilities) -> bytes:
    line = f"MAIL FROM:<{envelope.sender}>"
    if capabilities.size:
        line += f" SIZE={size}"
    if capabilities.eightbit and envelope.body is Body.EIGHT_BIT:
        line += " BODY=8BITMIME"
    if capabilities.smtputf8 and envelope.smtputf8:
        line += " SMTPUTF8"
    if capabilities.dsn:
        # RFC 3461 §5.2.1: passed on as they came.
        line += f" RET={envelope.ret}" if envelope.ret else ""
        line += f" ENVID={envelope.envid}" if envelope.envid else ""
    return _command(line)


def _rcpt(recipient: Recipient, capabilities: Capabilities) -> bytes:
    line = f"RCPT TO:<{recipient.address}>"
    if capabilities.dsn:
        line += f" NOTIFY={recipient.notify}" if recipient.notify else ""
        line += f" ORCPT={recipient.orcpt}" if recipient.orcpt else ""
    return _command(line)


def _command(line: str) -> bytes:
    """The line on the wire. Addresses were checked at the door; a control character here would be an injection."""
    octets = line.encode()
    if _CONTROL.search(octets) is not None:
        raise ValueError("control character in a command")
    return octets + b"\r\n"
