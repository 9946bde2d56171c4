"""What the HTTP interface needs of the rest of the relay: ports that the composition root fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from relay.mail import Client, Envelope
from relay.outcome import Reply


class Unanswered(Exception):
    """What was asked can't be answered; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


Ask = Callable[[str, Mapping[str, Any]], AsyncIterator[Any]]
"""Asks the services behind the commands by verb and arguments; a listing comes in parts. Raises Unanswered."""

TakeFeedback = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""``POST /feedback/{provider}``: of whom, header fields by their names in lower case, body; the status to answer."""

Readiness = Callable[[], Awaitable[str]]
"""Why mail can't be taken now; "" where it can."""


class ContentSink(Protocol):
    """Takes one message's content, ended by ``finish`` or ``discard``."""

    async def write(self, octets: bytes) -> None:
        """Take the next octets, every line end CR LF; returns once there is room for more."""
        ...

    async def finish(self) -> Reply:
        """All is there: keep it for good; 250 once that is durable."""
        ...

    async def discard(self) -> None:
        """The message won't come to its end: forget it. May be called twice."""
        ...


class Receiver(Protocol):
    """Who takes messages, from SMTP sessions too."""

    def check_room(self, size: int, client: Client) -> Reply | None:
        """Whether ``size`` octets would be taken now from this client; else why not."""
        ...

    def check_recipient(self, address: str) -> Reply | None:
        """Whether mail to ``address`` would be taken; else why not."""
        ...

    def open_content(self, envelope: Envelope, client: Client) -> ContentSink:
        """A sink for the content of a message with this envelope."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamGauges:
    """An upstream as it stands now; ``limits`` pairs each limit's text with the share of it that is used."""

    state: str
    connections: int
    in_flight: int
    limits: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is measured when somebody looks: open messages by state, age of the oldest in seconds, the upstreams."""

    queue: Mapping[str, int]
    oldest: float
    upstreams: Mapping[str, UpstreamGauges]


ReadGauges = Callable[[], Awaitable[Gauges]]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """All of them."""

    ask: Ask
    take_feedback: TakeFeedback
    readiness: Readiness
    gauges: ReadGauges
    receiver: Receiver
