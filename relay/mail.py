"""The words for mail itself: envelope, recipient, message.

Values only. Nothing here knows a socket, a database or a clock. The envelope is never derived from header
fields (RFC 5321 §2.3.1), and addresses are kept as the application gave them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from relay.value import dataclass

QUEUE_ID_SHIFT: Final = 4
"""A queue id is the arrival in milliseconds shifted by this many bits: 16 ids a millisecond before it runs ahead."""


class Body(StrEnum):
    """BODY= of MAIL FROM (RFC 6152 §2)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


class Priority(StrEnum):
    """How urgent a message is beside others that wait."""

    URGENT = "urgent"
    NORMAL = "normal"
    BULK = "bulk"


class RecipientState(StrEnum):
    """Where one recipient of one message is. A *deferred* recipient is WAITING with a due time ahead."""

    __hash__ = str.__hash__  # as in outcome

    WAITING = "waiting"
    LEASED = "leased"
    HELD = "held"
    RELAYED = "relayed"
    FAILED = "failed"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with the parameters that its RCPT carried (RFC 3461 §4.1, §4.2).

    ``n`` numbers the recipients of one message from 0; together with the queue id it names a recipient.
    ``attempts`` counts the attempts that were charged to it so far; ``last`` is what the last one said.
    """

    n: int
    address: str
    notify: str | None = None
    orcpt: str | None = None
    attempts: int = 0
    last: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, forward-paths and ESMTP parameters. The null reverse-path is the empty string."""

    sender: str
    recipients: tuple[Recipient, ...]
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class Signatures:
    """Our DKIM signatures of a message; they stand beside its content and go before it on the wire.

    ``fields`` are DKIM-Signature fields, CR LF ended, in a row. ``profile`` says for which kind of upstream they are;
    NO_SIGNATURE: for all, as there is none. ``body_hash`` is its canonicalisation, a colon and the hash, where known.
    """

    fields: bytes
    profile: str
    body_hash: str = ""


@dataclass(frozen=True, slots=True)
class Imprint:
    """By what a message is known when it comes again: ``digest`` stands for ``kind`` ("Message-ID", "Idempotency-Key")
    and all that has to be the same, for ``window`` seconds from its arrival.
    """

    kind: str
    digest: bytes
    window: float


NO_SIGNATURE: Final = "*"
"""The profile of a message that none of ours signs, whichever upstream has it."""
UNSIGNED: Final = Signatures(b"", NO_SIGNATURE)


@dataclass(frozen=True, slots=True)
class Message:
    """An accepted message without its octets.

    ``number`` is the queue id as an integer; ``size`` counts the octets kept; ``arrived`` is Unix time in seconds.
    ``not_after`` to ``idempotency_key`` are what the application asked for: it is void from ``not_after`` (Unix
    seconds) on, takes the way of ``upstream`` alone, and bears ``tag`` and ``idempotency_key``. ``signatures`` is None
    until somebody looked whether it is to be signed. ``marks`` are the routes' conditions that held at the door and
    that nothing else tells of (delivery/routing.py).
    """

    number: int
    envelope: Envelope
    size: int
    arrived: float
    message_id: str = ""
    client: str = ""
    not_after: float | None = None
    upstream: str | None = None
    priority: Priority = Priority.NORMAL
    tag: str | None = None
    idempotency_key: str | None = None
    signatures: Signatures | None = None
    marks: tuple[str, ...] = ()

    @property
    def queue_id(self) -> str:
        """The id that logs, replies and commands use."""
        return queue_id(self.number)

    @property
    def is_notification(self) -> bool:
        """Whether it is a notification of our own: the null reverse-path, and no client that it came from."""
        return not self.client and not self.envelope.sender


def has_domain(address: str) -> bool:
    """Whether an address that SMTP's grammar took names a domain; an "@" inside quotes begins none."""
    return "@" in address and not address.endswith('"')


def queue_id(number: int) -> str:
    """Spell a queue number as upper-case hexadecimal, as Postfix's short queue ids are."""
    return f"{number:X}"


def queue_number(text: str) -> int | None:
    """Read a queue id back; None where ``text`` is not one."""
    if not 6 <= len(text) <= 15 or not text.isascii() or not text.isalnum():
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


def next_queue_number(last: int, now: float) -> int:
    """The number for a message that arrives at ``now`` (Unix seconds), above ``last`` also after a clock step."""
    return max(last + 1, int(now * 1000) << QUEUE_ID_SHIFT)


def arrived_of(number: int) -> float:
    """Unix seconds, to the millisecond, at which the number was given out (later where numbers ran ahead)."""
    return (number >> QUEUE_ID_SHIFT) / 1000


@dataclass(frozen=True, slots=True)
class Client:
    """The application's end of an SMTP session. ``name`` is its host name ("localhost", "unknown"), ``address`` its
    IP address, or "uid=N" for a Unix socket, ``protocol`` the WITH of the Received line (RFC 3848). ``user`` is who it
    proved to be by the SASL mechanism ``mechanism``; both are "" before.
    """

    name: str
    address: str
    helo: str = ""
    protocol: str = "SMTP"
    listener: str = "app"
    user: str = ""
    mechanism: str = ""

    @property
    def peer(self) -> str:
        """``name[address]``: where from."""
        return f"{self.name}[{self.address}]"

    def __str__(self) -> str:
        """What the log's ``client=`` says: where from, and who (as Postfix does)."""
        if not self.user:
            return f"{self.name}[{self.address}]"
        return f"{self.name}[{self.address}], sasl_method={self.mechanism}, sasl_username={self.user}"


@dataclass(frozen=True, slots=True)
class Submission:
    """What an application hands us before our 250; its octets travel beside it."""

    number: int
    envelope: Envelope
    client: Client
    at: float
