"""What experience with upstreams and senders is worth keeping over a restart, as values, and who keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from relay.value import dataclass


@dataclass(frozen=True, slots=True)
class LearnedRecord:
    """What one upstream was found to bear: ``rate`` units a second were too fast (None: none was), as it said with
    ``reason`` at ``since`` (Unix seconds), and ``span`` seconds in use bring it there again; more than ``connections``
    were too many, as it said with ``crowded_reason`` at ``crowded``, and one more is tried after ``patience`` seconds.
    """

    upstream: str
    rate: float | None = None
    span: float = 0.0
    since: float = 0.0
    reason: str = ""
    connections: int | None = None
    patience: float = 0.0
    crowded: float = 0.0
    crowded_reason: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where mail comes from or goes through, that bulk mail of may be stopped: ``kind`` is "upstream", "sender" or
    "tag".
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class BrakeRecord:
    """Bulk mail of ``source`` is stopped since ``at`` (Unix seconds), for ``reason``."""

    source: Source
    at: float
    reason: str


def held_by(source: Source) -> str:
    """How the last words of mail that is held for the brake begin."""
    return f"brake on {source}"


class Experience(Protocol):
    """Who keeps it: the spool."""

    async def learned(self) -> dict[str, LearnedRecord]:
        """What upstreams were found to bear, by their name."""
        ...

    async def record_learned(self, record: LearnedRecord) -> None:
        """Durable on return. What knows neither a rate nor a number of connections is forgotten."""
        ...

    async def refused_logins(self) -> dict[str, tuple[float, ...]]:
        """When upstreams refused our last logins (Unix seconds), the earliest first, by their name."""
        ...

    async def record_refused_logins(self, upstream: str, times: Sequence[float]) -> None:
        """Durable on return: these, in the place of what was known."""
        ...

    async def brakes(self) -> list[BrakeRecord]:
        """What is stopped, the first one first."""
        ...

    async def brake(self, record: BrakeRecord) -> None:
        """Durable on return."""
        ...

    async def unbrake(self, source: Source, now: float) -> int:
        """Durable on return: ``source`` is stopped no more, and its bulk mail that was held for that is due now; how
        many messages these are.
        """
        ...


@dataclass(frozen=True, slots=True)
class QuotaRecord:
    """What was used of one upstream's limits: by window (seconds) and bucket, on the clock of the boot named ``boot``,
    as of ``at`` on that clock and ``wall`` Unix seconds; ``granted`` may have been used since. ``held`` is for how many
    days its warm-up did not grow.

    To be written, ``windows`` holds the buckets that changed; what stood there goes where ``anew``, else what is below
    ``oldest`` in each window.
    """

    upstream: str
    granted: int
    boot: str
    at: float
    wall: float
    windows: Mapping[float, Sequence[tuple[int, int]]]
    anew: bool = True
    oldest: Mapping[float, int] = field(default_factory=dict)
    held: int = 0
