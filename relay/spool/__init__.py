"""The spool's port: domain verbs, each one transaction, that every backend offers.

Five sentences hold for all of them (docs/spool.md):

1. We say 250 only after the accepting transaction is durable.
2. A recipient is attempted only under a live lease; a settlement without it changes nothing.
3. A crash anywhere may relay a recipient twice, never zero times.
4. Every claimed recipient gets exactly one outcome per lease.
5. The operator can read the truth with ``sqlite3 spool.db`` and never has to.

Times are Unix seconds (float). Verbs are coroutines of the event loop's thread; they return after the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final, Protocol

from relay.backlog import Dues
from relay.lessons import Experience
from relay.lessons import QuotaRecord as QuotaRecord
from relay.mail import Imprint, Message, RecipientState
from relay.suppression import SuppressionKeeper
from relay.value import dataclass

PART_SIZE: Final = 256 * 1024
"""Octets of content in one row at the most; larger content is staged part by part before it is accepted."""

CLAIMED_RECIPIENTS: Final = 5000
"""Recipients after which a claim takes no further message, whatever its limit: it must stay short."""
ORDINARY: Final = 1 << 32
"""The turn of mail of normal priority and nobody's in particular: notifications of our own."""


class SpoolError(Exception):
    """The spool could not do it: temporary for the application (451 4.3.0), nothing was changed."""


class SpoolFull(SpoolError):
    """No room by ``max_size``, ``min_free_disk`` or the disk itself: 452 4.3.1, nothing was changed."""


class SpoolBroken(SpoolError):
    """The spool can't be trusted any more (a failed fsync, an I/O error): stop delivering and exit 74."""


class SpoolLocked(SpoolError):
    """Another process owns this spool: exit 75."""


class SpoolDamaged(SpoolError):
    """The file is no spool, is damaged, or is of a later release: exit 74, nothing overwritten."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message to accept. ``content`` is None where all of it was staged; ``leased`` hands it straight to delivery:
    its recipients enter the spool as leased by this process, else as waiting and due at once. Where one of ``imprints``
    is that of a message that was accepted before, within its window, this one is not stored. ``turn`` says among whose
    mail it waits (delivery/turns.py).
    """

    message: Message
    content: bytes | None
    leased: bool = False
    bounce_of: str | None = None
    imprints: tuple[Imprint, ...] = ()
    turn: int = ORDINARY


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A message was accepted before, as ``number``, and known again by an imprint of that ``kind``."""

    number: int
    kind: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message under lease; its envelope holds just the recipients that were claimed, ``nrcpt`` all it ever had.

    ``content`` comes along where it is one part and the claim's budget allowed; else read it part by part. ``turn`` is
    its arrival's.
    """

    message: Message
    nrcpt: int
    content: bytes | None
    parts: int = 1
    turn: int = ORDINARY


@dataclass(frozen=True, slots=True)
class Settled:
    """What one attempt, or an operator, made of one recipient.

    ``state`` is where it goes (WAITING with ``due``: deferred). ``attempts`` is the new count. ``status`` is the mail
    log's word; ``detail`` the reply or what happened; ``relay`` is ``host[address]:port``; ``delays`` as in the log.
    ``charged`` is False where nothing was attempted (given back): then only state and due change.
    """

    n: int
    address: str
    state: RecipientState
    attempts: int
    due: float | None = None
    upstream: str = ""
    relay: str = "none"
    status: str = ""
    dsn: str = ""
    detail: str = ""
    delays: str = ""
    charged: bool = True


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of one lease of one message, with the bounces that go into the spool in the same commit."""

    number: int
    nrcpt: int
    at: float
    recipients: tuple[Settled, ...]
    bounces: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """What an ended process had under lease with its content on the way to ``where`` ("name[host]:port"): in doubt."""

    claimed: Claimed
    where: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """A message that waits, its envelope with the recipients whose delay the sender wants to hear of and has not yet;
    ``last`` is the last attempt of each, None where there was none.
    """

    message: Message
    last: tuple[AttemptRecord | None, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """The sender of message ``number`` is told, by ``notification``, that these recipients' mail is delayed."""

    number: int
    recipients: tuple[int, ...]
    at: float
    notification: Arrival


@dataclass(frozen=True, slots=True)
class Selector:
    """Which open messages an operator means: all conditions hold; empty means none unless ``everything``.

    ``after`` leaves out the numbers up to it: large answers are read page by page. The state "dead" means what is held
    because it is a notification that could not be delivered.
    """

    numbers: tuple[int, ...] = ()
    sender: str | None = None
    recipient: str | None = None
    domain: str | None = None
    upstream: str | None = None
    state: str | None = None
    arrived_before: float | None = None
    after: int = 0
    everything: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient as ``relay queue list`` shows it; ``due`` is None once it is done. ``begun``: content was on its way
    (:meth:`Spool.begin`) and no outcome is known.
    """

    n: int
    address: str
    state: str
    attempts: int
    due: float | None
    upstream: str | None
    last_reply: str | None
    begun: bool = False


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as operators see it, with all its recipients."""

    message: Message
    recipients: tuple[QueuedRecipient, ...]


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of one recipient as the history keeps it."""

    at: float
    address: str
    upstream: str
    relay: str
    status: str
    dsn: str
    detail: str
    delays: str


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one message, open or done, for as long as the history keeps it. ``repeated`` is how often
    it came again and was not stored, ``last_repeated`` when that was last (None: never, or forgotten).
    """

    queued: QueuedMessage
    attempts: tuple[AttemptRecord, ...]
    repeated: int = 0
    last_repeated: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums that are kept, not counted: open messages and their octets; relayed messages per upstream for ever."""

    messages: int = 0
    octets: int = 0
    sent: dict[str, int] = field(default_factory=dict)


class Spool(Experience, SuppressionKeeper, Protocol):
    """What listener, delivery and operators ask of a spool. Every method may raise :class:`SpoolError`."""

    # -- listener ---------------------------------------------------------------------------------------------------
    def allocate(self, now: float) -> int:
        """A queue number never given out before, for a message that arrives at ``now``."""
        ...

    def check_room(self, size: int) -> None:
        """Raise :class:`SpoolFull` where ``size`` more octets would not be taken now. Costs no I/O of its own."""
        ...

    async def stage(self, number: int, part: int, octets: bytes) -> None:
        """Keep one part (0, 1, …; at most PART_SIZE octets) of a message that will be accepted later."""
        ...

    async def discard(self, number: int) -> None:
        """Drop what was staged for a message that will not be accepted."""
        ...

    async def accept(self, arrival: Arrival) -> Duplicate | None:
        """Durable on return. Waits for nobody's company, shares its commit with all that wait at that moment.

        A Duplicate tells that it was there already: nothing was kept of it, what was staged is gone, and the first one
        is durable. Of those that arrive at the same moment one is the first.
        """
        ...

    # -- delivery ---------------------------------------------------------------------------------------------------
    async def rescue(self, now: float) -> int:
        """Make what an ended process held under lease waiting and due; how many recipients that were. What it had begun
        (:meth:`begin`) stays leased: see :meth:`begun`.
        """
        ...

    async def begun(self) -> list[Begun]:
        """What is leased and begun: after a rescue, what an ended process left in doubt. To be settled."""
        ...

    async def begin(self, number: int, recipients: Sequence[int], where: str) -> None:
        """Durable on return: the content for these leased recipients is about to leave for ``where``."""
        ...

    async def delayed(self, after: int, before: float, limit: int) -> list[Delayed]:
        """Mail that arrived before ``before`` and waits, its sender not told of that; numbers above ``after``."""
        ...

    async def waiting_since(self, before: float) -> float | None:
        """Arrival of the oldest message that waits and arrived after ``before``."""
        ...

    async def warn(self, warned: Sequence[Warned]) -> frozenset[int]:
        """Accept notifications of delay and remember it; the numbers of the messages that still waited: no
        notification of another is accepted. May raise SpoolFull.
        """
        ...

    async def quotas(self) -> dict[str, QuotaRecord]:
        """What was used of the limits, by upstream."""
        ...

    async def record_quota(self, record: QuotaRecord, *, lazy: bool = False) -> None:
        """Durable on return; ``lazy`` waits up to some 20 ms for the company of an accept. Writing it twice is well."""
        ...

    async def due_turns(self, now: float, after: int, limit: int) -> list[int]:
        """The turns above ``after`` that have something due, lowest first; of ``limit`` that wait at all."""
        ...

    async def claim(self, now: float, limit: int, octets: int, turns: Mapping[int, int] | None = None) -> list[Claimed]:
        """Lease up to ``limit`` due messages, the longest due first, with contents as long as they fit ``octets``; with
        ``turns`` only of these, and of each as many as it says.
        """
        ...

    async def lease(self, numbers: Sequence[int]) -> list[Claimed]:
        """Lease what waits or is held of these messages, due or not, without contents."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        """Record outcomes of leased recipients (others are left alone); the numbers of the messages now done.

        Waits up to some 20 ms for the company of an accept. Contents go with the last recipient, bounces come in.
        """
        ...

    async def next_due(self, now: float, *, ahead: bool = False) -> float | None:
        """When the next waiting recipient falls due (in the past where one is due already, but for ``ahead``, which
        passes over these); None: nothing waits.
        """
        ...

    async def content(self, number: int, part: int) -> bytes:
        """One part of a message's content."""
        ...

    # -- operators --------------------------------------------------------------------------------------------------
    async def totals(self) -> Totals:
        """The kept sums."""
        ...

    async def counts(self, now: float) -> dict[str, int]:
        """Open messages by state: waiting, leased, deferred, held (the first that applies, in the order leased,
        waiting, deferred, held).
        """
        ...

    async def dues(self, now: float, grain: float) -> list[Dues]:
        """What waits or is leased, by turn and due time, which is rounded up to the next ``grain`` seconds from now."""
        ...

    async def oldest(self) -> float | None:
        """Arrival of the oldest open message."""
        ...

    async def find(self, selector: Selector, now: float, limit: int | None = None) -> list[QueuedMessage]:
        """Open messages that match, oldest first."""
        ...

    async def story(self, number: int) -> Story | None:
        """One message's whole story."""
        ...

    async def numbers_of(self, message_id: str) -> list[int]:
        """Queue numbers of the messages, open or done, with that Message-ID."""
        ...

    async def hold(self, numbers: Sequence[int]) -> int:
        """Waiting recipients become held; how many messages that touched."""
        ...

    async def release(self, numbers: Sequence[int], now: float) -> int:
        """Held recipients become waiting and due now; how many messages that touched."""
        ...

    async def retry(self, numbers: Sequence[int], now: float) -> int:
        """Deferred recipients become due now; how many messages that touched."""
        ...

    async def remove(self, numbers: Sequence[int], at: float) -> int:
        """Waiting and held recipients are failed without a bounce, contents go; how many messages that touched."""
        ...

    async def sweep(self, before: float) -> int:
        """Forget the stories of messages that were done and arrived before ``before``; how many went."""
        ...

    async def forget_imprints(self, now: float) -> int:
        """Forget the imprints whose window is over at ``now``; how many went."""
        ...

    async def beat(self) -> None:
        """Return once whatever writes has answered: a sign of life that writes nothing."""
        ...

    async def close(self) -> None:
        """Commit what waits and let the spool go."""
        ...
