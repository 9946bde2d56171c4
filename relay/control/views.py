"""What the services need to see of a running delivery; the engine implements it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from relay.delivery.estimate import Outlook
from relay.lessons import BrakeRecord, Source
from relay.mail import Message


@dataclass(frozen=True, slots=True)
class LimitView:
    """One limit of an upstream: how much of its window is used and left, and when (Unix seconds) a permit is free."""

    limit: str
    used: int
    left: int
    resets_at: float


@dataclass(frozen=True, slots=True)
class LearnedView:
    """What an upstream was found to bear: units a second now, connections (None: no less than configured), since when
    (Unix seconds), and what it said.
    """

    rate: float | None
    connections: int | None
    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """An upstream as it is now; ``in_flight`` counts messages, ``rate`` those answered a second, of late."""

    state: Literal["up", "paused", "backoff", "down"]
    connections: int = 0
    in_flight: int = 0
    last_error: str | None = None
    limits: tuple[LimitView, ...] = ()
    learned: LearnedView | None = None
    rate: float = 0.0


class DeliveryView(Protocol):
    """A running delivery, as operators see and steer it. Numbers are messages'."""

    def upstreams(self) -> Mapping[str, UpstreamView]:
        """Every upstream by its name, in the configuration's order."""
        ...

    def preferred(self) -> str | None:
        """The upstream that would take waiting mail of no other route now."""
        ...

    def takers(self) -> Mapping[int, str]:
        """By what stands for a way in turns (delivery/turns.py), the upstream that would take its mail now."""
        ...

    def waiting_for(self) -> Mapping[str, int]:
        """How many messages wait in memory, by the upstream that would take them now."""
        ...

    def in_flight(self) -> frozenset[int]:
        """Messages that a session is relaying now."""
        ...

    def unsettled(self) -> int:
        """Messages that have their outcomes, which are not recorded yet."""
        ...

    def claimed(self) -> frozenset[int]:
        """Messages leased in memory but not in a session: operators see these as waiting."""
        ...

    async def withdraw(self, numbers: Collection[int]) -> None:
        """Give those of ``numbers`` that are claimed back to the spool; returns once it has them."""
        ...

    def pause(self) -> None:
        """Lease nothing more from the spool until as many :meth:`resume`: what waits is being changed."""
        ...

    def resume(self) -> None:
        """Lease again; something in the spool may have fallen due."""
        ...

    def waits_for(self, number: int) -> str | None:
        """What a waiting message waits for ("a connection to ses"), where delivery knows."""
        ...


class Forecaster(Protocol):
    """Knows what an estimate begins with."""

    async def outlook(self) -> Outlook:
        """The upstreams as they stand, and the routes over them."""
        ...

    def way(self, message: Message) -> str:
        """The name of the route that a message takes, or "=" and the upstream's that its application named."""
        ...


@runtime_checkable
class Brakes(Protocol):
    """A delivery that stops bulk mail of which too much fails."""

    def brakes(self) -> Sequence[BrakeRecord]:
        """What is stopped."""
        ...

    async def release_brake(self, source: Source) -> int | None:
        """Let it go again; how many messages were held for it, None: it is not stopped."""
        ...


@runtime_checkable
class Bouncer(Protocol):
    """A delivery that can also fail messages with a notification to their senders."""

    async def bounce(self, numbers: Collection[int]) -> int:
        """Fail the open recipients of ``numbers`` and notify the senders; how many messages that touched."""
        ...
