"""Counters of what happens, fed by events on their way to the log: about a microsecond each on the event loop.

Nothing is measured that no event tells of. They begin at 0 with the process, as Prometheus expects it of counters.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from relay.events import Accepted, Attempted, Bounced, Emit, Event, Rejected, Repeated, Status

ACCEPT_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds from the end of a message to its 250."""
DELIVERY_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
"""Seconds from a message's arrival to the reply that took it: a queue may be a day deep."""


class Histogram:
    """How many values were at most each of ``bounds``, in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by their upper bounds, as Prometheus spells these."""
        bounds = [*map(str, self.bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


class Counts:
    """Hands each event on to ``emit`` and counts it; ``now`` gives Unix seconds."""

    def __init__(self, emit: Emit, now: Callable[[], float]) -> None:
        self._emit = emit
        self._now = now
        self.attempts: Counter[tuple[str, Status]] = Counter()
        self.in_doubt: Counter[str] = Counter()
        self.delivery: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(DELIVERY_BOUNDS))
        self.accepting = Histogram(ACCEPT_BOUNDS)
        self.octets = 0
        self.rejected = 0
        self.repeated = 0
        self.notifications = 0

    def emit(self, event: Event) -> None:
        """Take an event; never blocks, never raises."""
        self._emit(event)
        kind = type(event)
        if kind is Attempted:
            self._attempted(event)  # type: ignore[arg-type]
        elif kind is Accepted:
            self._accepted(event)  # type: ignore[arg-type]
        elif kind is Rejected:
            self.rejected += 1
        elif kind is Repeated:
            self.repeated += 1
        elif kind is Bounced:
            self.notifications += 1

    def _attempted(self, event: Attempted) -> None:
        self.attempts[event.upstream, event.status] += 1
        if event.status is Status.SENT:
            before, queue, connection, transmission = event.delays
            self.delivery[event.upstream].observe(before + queue + connection + transmission)
        elif event.in_doubt:
            self.in_doubt[event.upstream] += 1

    def _accepted(self, event: Accepted) -> None:
        if event.client is None:
            return  # a notification of our own: nobody waited for it
        self.octets += event.size
        # It is timed from the end of its content (a large one's: from where the first part was read); a clock that
        # was set back in between makes no negative second.
        self.accepting.observe(max(0.0, self._now() - event.at))
