"""The upstream's port: a configured next hop opens sessions, a session relays requests.

The scheduler decides when and where, the session decides how: a session never schedules, never retries and never
sleeps. No exception carries a delivery result: trouble is an :class:`~relay.outcome.Outcome` in a :class:`Finished`,
and only an upstream that can't be reached raises :class:`UpstreamUnavailable`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from relay.mail import Message
from relay.outcome import Outcome
from relay.value import dataclass


class UpstreamUnavailable(Exception):
    """No session could be opened; ``outcome`` says why (upstream scope)."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


class ContentWithheld(Exception):
    """Said by ``before_content``: the message is not to go any more. Nobody's trouble; the text says why."""


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """One message and those of its recipients that share this transaction, under one lease.

    ``content`` is all octets, or None for a large message: then ``read_part`` gives each of its ``parts``. ``prefix``
    goes before it on the wire (what differs by upstream, such as signatures). ``before_content`` is to be awaited right
    before the first octet of content leaves; where it raises, none may: :class:`ContentWithheld`, or trouble.
    """

    message: Message
    content: bytes | None
    parts: int = 1
    read_part: Callable[[int], Awaitable[bytes]] | None = None
    prefix: bytes = b""
    before_content: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A request's end: one outcome per recipient of its envelope, in their order.

    ``relay`` is ``name[address]:port`` as the log shows it; ``conn_use`` counts the session's transactions, this one
    included; ``setup`` is the seconds that connecting took where this was its first one; ``transmission`` the seconds
    from the first command to the last reply. ``passes_dsn``: the server offers DSN, so that it heard NOTIFY and
    tells the sender itself (RFC 3461 §5.2.1). ``content_sent`` is False where certainly none
    of the content left: then no limit was touched.
    """

    request: DeliveryRequest
    outcomes: tuple[Outcome, ...]
    relay: str
    conn_use: int = 1
    setup: float = 0.0
    transmission: float = 0.0
    passes_dsn: bool = False
    content_sent: bool = True


@dataclass(frozen=True, slots=True)
class ServerLimit:
    """What a provider says that an account may send: ``count`` recipients in ``window`` seconds, ``used`` of them so
    far (None where it does not tell) at ``at`` (Unix seconds).
    """

    count: float
    window: float
    used: float | None
    at: float


Told = Callable[[Sequence[ServerLimit]], None]
"""Hears what a provider says of the account, before the session that was opened for it is given."""


class SessionObserver(Protocol):
    """Who is told how a session goes on; called from the event loop, never from inside ``begin``."""

    def finished(self, session: Session, finished: Finished) -> None:
        """A request has all its outcomes."""
        ...

    def capacity_changed(self, session: Session) -> None:
        """``session.capacity`` may have grown, or the session retired by itself."""
        ...

    def ended(self, session: Session, why: Outcome | None) -> None:
        """The conversation is over; every request begun was finished before. ``why`` is None for a clean end."""
        ...


class Session(Protocol):
    """One open, authenticated conversation."""

    @property
    def capacity(self) -> int:
        """How many more requests it would begin right now; 0 once it retires."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests begun and not finished."""
        ...

    @property
    def transactions(self) -> int:
        """Requests begun so far."""
        ...

    @property
    def max_recipients(self) -> int:
        """Recipients of one request at the most, as far as the server told; 0: it did not."""
        ...

    def begin(self, request: DeliveryRequest) -> None:
        """Start relaying; only where ``capacity`` allows it."""
        ...

    def retire(self) -> None:
        """Take nothing more; end politely (QUIT) once nothing is in flight."""
        ...

    def abort(self, why: str) -> None:
        """End at once; what is in flight gets outcomes as for a lost connection."""
        ...


class Upstream(Protocol):
    """A configured next hop."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def destination(self) -> str:
        """``name[host]:port`` for the log where no session exists."""
        ...

    async def connect(self, observer: SessionObserver) -> Session:
        """Open a session; raises :class:`UpstreamUnavailable`."""
        ...
