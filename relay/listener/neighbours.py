"""Who the intake hands messages to, as it sees them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from relay.mail import Signatures
from relay.outcome import Reply
from relay.spool import Arrival


class Delivery(Protocol):
    """Who relays what was accepted. Sizes are whole messages'; how much of it stands in memory is its own matter."""

    def reserve(self, size: int, turn: int) -> bool:
        """Ask for room in memory for one hand-over. Where there is none, the message waits in the spool."""
        ...

    def unreserve(self, size: int, turn: int) -> None:
        """Give that room back: the message was not accepted."""
        ...

    def handed_over(self, arrival: Arrival) -> None:
        """Take this message over: it is in the spool, leased by this process, and takes up the reserved room."""
        ...

    def waiting(self, turn: int) -> None:
        """A message of that turn is in the spool, due now."""
        ...


class Doorkeeper(Protocol):
    """Who knows the addresses that get no mail."""

    def refusal(self, address: str) -> Reply | None:
        """What an application hears that names ``address`` as a recipient; None: it is taken."""
        ...


class Draft(Protocol):
    """A message that is to be signed, while it is read."""

    def feed(self, octets: bytes) -> None:
        """Take the next octets of its body."""
        ...


class Signing(Protocol):
    """Who signs."""

    def open(self, octets: bytes, sender: str) -> Draft | None:
        """Begin with a message's first octets, all of its header among them; None where it is not ours to sign."""
        ...

    def begin(
        self, draft: Any, queue_id: str, upstream: str | None = None
    ) -> Signatures | Reply | asyncio.Future[Signatures]:
        """Sign what was fed, for this upstream; the reply due where the message must not go unsigned and can't be."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for its signature that who submits more should wait, too."""
        ...
