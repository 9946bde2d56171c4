"""How fast mail will leave, when the backlog is gone, and what holds it up. Pure.

The scheduler is rehearsed on a simulated clock: the routes in their order, each upstream with a copy of its ledger as
it stands, its pauses and pace, its connections and the time that it was seen to take for a message. What is not known
is not guessed at: every message is taken by the first that has it, and no more mail arrives than was asked about.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from relay.delivery.rehearsal import Rehearsed, RehearsedLane, Standing

FINEST: Final = 0.005
"""Seconds of the first steps."""
GROWTH: Final = 0.001
"""A step is this share of the time gone by: what is lost of exactness."""
LEAST: Final = 0.1
"""Part of a step that goes by at the least where nothing could go."""
HORIZON: Final = 366 * 86400.0
"""Seconds after which nobody wants to know."""
ENDLESS: Final = 10**15
PERIODS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
TURN: Final = 50
"""Steps after which others may have the processor: about a millisecond."""

Strategy = Literal["failover", "rotate", "balance"]
Steps = Generator[None, None, None]


@dataclass(frozen=True, slots=True)
class Way:
    """A route as mail takes it: the upstreams by name, in order."""

    name: str
    upstreams: tuple[str, ...]
    strategy: Strategy = "failover"


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that wait for a way and fall due in so many seconds."""

    messages: int
    due_in: float = 0.0
    way: int = 0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be rehearsed: ``ways[0]`` is the default one. ``now`` is the ledgers' clock, ``wall`` Unix seconds.

    ``lifetime`` is seconds that a message is tried for; ``fastest`` messages a second are what the relay itself can do.
    """

    standings: tuple[Standing, ...]
    ways: tuple[Way, ...]
    now: float
    wall: float
    lifetime: float = math.inf
    fastest: float = math.inf


@dataclass(frozen=True, slots=True)
class Estimate:
    """``clears_in`` is seconds until the last reply; None: not within a year. ``upstreams`` is what each had of it."""

    clears_in: float | None
    upstreams: Mapping[str, Rehearsed]


class Rehearsal:
    """The backlog's way out, step by step."""

    def __init__(
        self, outlook: Outlook, batches: Iterable[Batch], *, in_flight: int = 0, recipients: float = 1.0
    ) -> None:
        self._start = self._now = outlook.now
        self._lanes = {
            each.name: RehearsedLane(each, outlook.now, outlook.wall, recipients, outlook.fastest)
            for each in outlook.standings
        }
        self._fastest = outlook.fastest
        self._ours = 0.0  # messages that the relay itself can do in this step, with what the last one left
        self._ways = outlook.ways
        self._waiting = [0] * len(outlook.ways)
        self._turn = [0] * len(outlook.ways)
        self._cycled = [0] * len(outlook.ways)
        self._batches = sorted(batches, key=lambda batch: batch.due_in, reverse=True)
        slowest = max((lane.latency for lane in self._lanes.values()), default=0.0)
        self._landed = slowest if in_flight else 0.0

    def run(self, until: float = HORIZON) -> Steps:
        """Go on until all is out, or ``until`` seconds from the start; yields now and then."""
        steps = 0
        end = self._start + until
        while (any(self._waiting) or self._batches) and self._now < end:
            self._step(end)
            steps += 1
            if not steps % TURN:
                yield

    @property
    def estimate(self) -> Estimate:
        """What came of it."""
        cleared = not any(self._waiting) and not self._batches
        last = max((lane.done.last for lane in self._lanes.values()), default=-math.inf)
        return Estimate(
            max(self._landed, last - self._start) if cleared else None,
            {name: lane.done for name, lane in self._lanes.items()},
        )

    @property
    def sent(self) -> int:
        """Messages so far."""
        return sum(lane.done.sent for lane in self._lanes.values())

    def _step(self, end: float) -> None:
        now = self._now
        while self._batches and self._batches[-1].due_in <= now - self._start:
            batch = self._batches.pop()
            self._waiting[batch.way] += batch.messages
        seconds = min(max(FINEST, (now - self._start) * GROWTH), end - now)
        for lane in self._lanes.values():
            lane.begin(now, seconds)
        moved = False
        ours, self._ours = self._ours, min(1.0, self._ours) + self._fastest * seconds
        for index, way in enumerate(self._ways):
            if self._waiting[index]:
                before = self._waiting[index]
                count = self._serve(index, way, int(min(before, self._ours)), seconds)
                self._waiting[index] -= count
                self._ours -= count
                moved |= count > 0
        self._now = now + seconds
        if not moved:
            self._now = min(max(self._next(now), now + seconds * LEAST), end)
            if self._now <= now:  # the clock has no digits for less
                self._now = end
        self._account(now)
        if not moved:
            self._ours = ours
            for lane in self._lanes.values():
                lane.rewind()

    def _next(self, now: float) -> float:
        """When something may go that may not now."""
        when = self._start + self._batches[-1].due_in if self._batches else math.inf
        waiting = {
            name for way, count in zip(self._ways, self._waiting, strict=True) if count for name in way.upstreams
        }
        return min([when, *(self._lanes[name].wakes_at(now) for name in waiting)])

    def _account(self, began: float) -> None:
        for way, waiting in zip(self._ways, self._waiting, strict=True):
            if not waiting:
                continue
            for name in way.upstreams:
                lane = self._lanes[name]
                lane.held(began, self._now - began)
                if way.strategy == "failover" and lane.is_usable(began) and not lane.is_spent(began):
                    break  # the next ones are not asked

    def _serve(self, index: int, way: Way, waiting: int, seconds: float) -> int:
        lanes = [self._lanes[name] for name in way.upstreams]
        if way.strategy == "rotate":
            return self._rotate(index, lanes, waiting, seconds)
        served, part = 0, 1.0
        usable = [lane for lane in lanes if lane.is_usable(self._now)]
        for place, lane in enumerate(usable):
            # At the same time each has its share, so that the last of a backlog does not wait for one alone.
            fair = waiting - served if way.strategy == "failover" else -(-(waiting - served) // (len(usable) - place))
            count = lane.take(fair, self._now, seconds, part)
            served += count
            if served == waiting:
                break
            if way.strategy == "failover":
                if not lane.is_spent(self._now):
                    break
                part = max(0.0, part - count / (lane.capacity.rate * seconds))
        if way.strategy == "balance":
            for lane in usable:  # what one could not have of its share the others have
                served += lane.take(waiting - served, self._now, seconds)
        return served

    def _rotate(self, index: int, lanes: Sequence[RehearsedLane], waiting: int, seconds: float) -> int:
        """One at a time, a cycle of messages each; one that may have nothing more is passed over."""
        served, part, passed = 0, 1.0, 0
        while served < waiting and passed < len(lanes):
            lane = lanes[self._turn[index] % len(lanes)]
            cycle = max(lane.standing.cycle, int(lane.capacity.rate * seconds) // 8)
            count = 0
            if lane.is_usable(self._now):
                left = max(1, cycle - self._cycled[index])
                count = lane.take(min(left, waiting - served), self._now, seconds, part)
            served += count
            self._cycled[index] += count
            part = max(0.0, part - count / (lane.capacity.rate * seconds))
            over = self._cycled[index] >= cycle
            if not over and count and not lane.is_spent(self._now):
                continue
            if not over and lane.is_usable(self._now) and not lane.is_spent(self._now):
                break  # its connections are full
            passed = 0 if count else passed + 1
            self._turn[index] += 1
            self._cycled[index] = 0
        return served


def speeds(outlook: Outlook, found: dict[str, float]) -> Steps:
    """Put into ``found`` how many messages leave in a second, a minute, an hour and a day where mail waits without end
    and nothing was used before.

    Where a limit's window or a round of pauses is longer than the period, it is the average over that one.
    """
    standings = tuple(standing.fresh() for standing in outlook.standings)
    names = {name for way in outlook.ways for name in way.upstreams}
    least = max((_round(standing) for standing in standings if standing.name in names), default=0.0)
    endless = [Batch(ENDLESS, 0.0, number) for number in range(len(outlook.ways))]
    rehearsal = Rehearsal(replace(outlook, standings=standings), endless)
    for name, period in PERIODS.items():
        over = max(period, least)
        yield from rehearsal.run(over)
        found[name] = rehearsal.sent * period / over


def _round(standing: Standing) -> float:
    """Seconds after which an upstream's use repeats itself: its shortest limit's window, or its pauses."""
    if standing.ledger is None:
        return 0.0
    limits, _, pause, _ = standing.ledger.terms
    rounds = [limit.window for limit in limits]
    if pause is not None:
        rounds.append(pause.seconds + pause.after * standing.busy / standing.connections)
    return min(rounds, default=0.0)
