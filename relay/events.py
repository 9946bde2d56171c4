"""What happened, as values: one event record, many sinks (mail log, metrics, history).

Everything a sysadmin is told goes through these. An event is made after the commit that it reports. Texts are as the
outside gave them: a sink escapes for its own format.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from relay.value import dataclass


class Status(StrEnum):
    """``status=`` of the mail log: how one attempt, or the wait for one, ended for a recipient."""

    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Connected:
    """A client connected to a listener; ``client`` is ``name[address]``."""

    at: float
    client: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A client's session ended; ``commands`` holds how many of each verb were accepted and given."""

    at: float
    client: str
    commands: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A listener refused a connection, an address or a message; ``reply`` is what the client was told."""

    at: float
    client: str
    command: str
    reply: str
    sender: str | None = None
    recipient: str | None = None
    helo: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message is in the spool. ``client`` is None for mail of our own (a bounce of ``bounce_of``)."""

    at: float
    queue_id: str
    client: str | None
    message_id: str
    sender: str
    size: int
    nrcpt: int
    bounce_of: str | None = None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeated:
    """A message that ``client`` gave was in the spool before, as ``duplicate_of``, and is not stored as ``queue_id``;
    ``known_by`` names the header field.
    """

    at: float
    queue_id: str
    client: str
    duplicate_of: str
    known_by: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """One recipient's attempt ended and is settled.

    ``relay`` is ``upstream[address]:port`` or "none"; ``delays`` are seconds before the queue took it, in the queue,
    in connection set-up and in transmission (Postfix's a/b/c/d); ``conn_use`` counts transactions of that session.
    """

    at: float
    queue_id: str
    recipient: str
    upstream: str
    relay: str
    status: Status
    dsn: str
    detail: str
    delays: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    conn_use: int = 1
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """A message's lifetime ran out and its ``sender`` is told; each recipient has its :class:`Attempted` too."""

    at: float
    queue_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class Requeued:
    """A message is active again after a deferral (``from=… queue active``)."""

    at: float
    queue_id: str
    sender: str
    size: int
    nrcpt: int


class Notification(StrEnum):
    """What a delivery status notification tells of. Names are NOTIFY's words (RFC 3461 §4.1), values the mail log's."""

    FAILURE = "non-delivery"
    DELAY = "delay"
    SUCCESS = "delivery status"


@dataclass(frozen=True, slots=True)
class Bounced:
    """A notification of that kind to the sender was spooled as ``bounce_id``, in the commit that it tells of."""

    at: float
    queue_id: str
    bounce_id: str
    kind: Notification = Notification.FAILURE


@dataclass(frozen=True, slots=True)
class Reported:
    """``provider`` says of mail that was relayed that ``recipient`` complained of it, or that it bounced there after
    all (``said``). ``queue_id`` is "" where the report does not show whose it was.
    """

    at: float
    queue_id: str
    recipient: str
    said: str
    provider: str
    detail: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """``recipient`` gets no mail from now on, for ``cause``; ``ends`` is when it does again, as ISO 8601 (None: once an
    operator wants it). ``queue_id`` is the message that it came about by, "" for none.
    """

    at: float
    queue_id: str
    recipient: str
    cause: str
    ends: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class Removed:
    """The last recipient is done: the content is gone from the spool."""

    at: float
    queue_id: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the relay itself; ``program`` is the second half of the syslog tag ("master", "smtp", …)."""

    at: float
    program: str
    text: str
    warning: bool = False


Event = (
    Connected
    | Disconnected
    | Rejected
    | Accepted
    | Repeated
    | Attempted
    | Expired
    | Requeued
    | Bounced
    | Reported
    | Suppressed
    | Removed
    | Notice
)

Emit = Callable[[Event], None]
"""Where an edge puts its events; never blocks, never raises."""

_HUNDREDTHS: Final = tuple(f"{n / 100:g}" for n in range(101))
_TENTHS: Final = tuple(f"{n / 10:g}" for n in range(101))


def seconds(value: float) -> str:
    """A delay as Postfix rounds it (delay_logging_resolution_limit = 2): two digits that matter, none below 0.01."""
    if value < 1:
        return _HUNDREDTHS[int(value * 100 + 0.5)] if value > 0 else "0"
    if value < 10:
        return _TENTHS[int(value * 10 + 0.5)]
    return str(int(value + 0.5))


def spell_delays(delays: tuple[float, float, float, float]) -> str:
    """``delays=`` of the log: a/b/c/d."""
    a, b, c, d = delays
    return f"{seconds(a)}/{seconds(b)}/{seconds(c)}/{seconds(d)}"
