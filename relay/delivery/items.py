"""What delivery holds in memory: messages under lease on their way, and how many of them at most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from relay.delivery.permits import Permit
from relay.mail import Message
from relay.spool import PART_SIZE
from relay.upstream import DeliveryRequest

MAX_MESSAGES: Final = 2000
"""Messages held under lease at a time; all others stay in the spool."""
MAX_OCTETS: Final = 32_000_000
"""Octets of content held with them. Larger messages are read part by part and count nothing here."""


@dataclass(slots=True, eq=False)
class Item:
    """A leased message, or the part of its recipients that one transaction takes.

    ``active`` is monotonic seconds when the queue took it, ``waited`` the seconds from its arrival to then. ``tries``
    counts sessions that broke under it without an attempt being charged. ``octets`` is what it counts in the window (0
    for a part that was split off). ``unfit`` names upstreams whose server can't have it. ``begun``,
    ``request`` and ``permit`` belong to the session that has it now.
    """

    message: Message
    nrcpt: int
    content: bytes | None
    parts: int
    active: float
    waited: float
    octets: int
    tries: int = 0
    begun: float = 0.0
    request: DeliveryRequest | None = None
    unfit: frozenset[str] = frozenset()
    permit: Permit | None = None

    @property
    def number(self) -> int:
        """The queue number."""
        return self.message.number

    def landed(self, *, content_sent: bool) -> None:
        """No session has it any more."""
        self.request = None
        if self.permit is not None:
            self.permit.ended(content_sent=content_sent)
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


@dataclass(slots=True)
class Window:
    """Room for items: counts messages and octets, so that a backlog stays on disk."""

    max_messages: int = MAX_MESSAGES
    max_octets: int = MAX_OCTETS
    messages: int = 0
    octets: int = 0

    def reserve(self, octets: int) -> bool:
        """Take room for one message, or say no."""
        if self.messages >= self.max_messages or self.octets + octets > self.max_octets:
            return False
        self.messages += 1
        self.octets += octets
        return True

    def free(self, octets: int, messages: int = 1) -> None:
        """Give room back."""
        self.messages -= messages
        self.octets -= octets

    @property
    def room(self) -> tuple[int, int]:
        """Messages and octets that fit still."""
        return max(0, self.max_messages - self.messages), max(0, self.max_octets - self.octets)


def weight(size: int) -> int:
    """What a message of ``size`` octets counts in the window: its content where that is held, else next to nothing."""
    return size if 0 < size <= PART_SIZE else 1
