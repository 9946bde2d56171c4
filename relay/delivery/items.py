"""What delivery holds in memory: messages under lease on their way, and how many of them at most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from relay.delivery.permits import Permit
from relay.delivery.senders import Leaving
from relay.mail import Message
from relay.spool import ORDINARY, PART_SIZE
from relay.upstream import DeliveryRequest

if TYPE_CHECKING:
    from relay.delivery.ready import Way


@dataclass(slots=True, eq=False)
class Item:
    """A leased message, or the part of its recipients that one transaction takes.

    ``active`` is monotonic seconds when the queue took it, ``waited`` the seconds from its arrival to then. ``tries``
    counts sessions that broke under it without an attempt being charged. ``octets`` is what it counts in the window (0
    for a part that was split off), among those of its ``turn``. ``unfit`` names upstreams whose server can't have it,
    ``signed_for`` the one that it was signed for last, ``leaving`` is how it leaves for one that wants other senders;
    ``way`` is where it waits. ``begun``, ``request`` and ``permit`` belong to the session that has it now.
    """

    message: Message
    nrcpt: int
    content: bytes | None
    parts: int
    active: float
    waited: float
    octets: int
    turn: int = ORDINARY
    tries: int = 0
    begun: float = 0.0
    request: DeliveryRequest | None = None
    unfit: frozenset[str] = frozenset()
    permit: Permit | None = None
    signed_for: str = ""
    leaving: Leaving | None = None
    way: Way | None = None

    @property
    def number(self) -> int:
        """The queue number."""
        return self.message.number

    def landed(self, *, content_sent: bool, deferred: bool = False) -> None:
        """No session has it any more."""
        self.request = None
        if self.permit is not None:
            self.permit.ended(content_sent=content_sent, deferred=deferred)
            self.permit = None

    def split(self, limit: int) -> Item | None:
        """Keep the first ``limit`` recipients; the others as an item of their own, None where all fit."""
        envelope = self.message.envelope
        if len(envelope.recipients) <= limit:
            return None
        rest = self.only(range(limit, len(envelope.recipients)))
        self.message = self.only(range(limit)).message
        rest.octets = 0
        return rest

    def only(self, positions: range | list[int]) -> Item:
        """The same with just the recipients at those positions of its envelope."""
        envelope = self.message.envelope
        kept = tuple(envelope.recipients[position] for position in positions)
        message = replace(self.message, envelope=replace(envelope, recipients=kept))
        return replace(self, message=message)


def weight(size: int) -> int:
    """What a message of ``size`` octets counts in the window: its content where that is held, else next to nothing."""
    return size if 0 < size <= PART_SIZE else 1
