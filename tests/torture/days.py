"""Two days with a limit, in seconds: the real engine and its ledger on a clock that skips what nobody waits for.

The process is killed, and the wall clock set, again and again; the receiver counts by a clock of its own. What a dead
process was about to do happens to a copy of the spool that nobody looks at.
"""

from __future__ import annotations

import asyncio
import copy
import random
import selectors
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from relay.daemon.stepping import follow_the_clock
from relay.daemon.upkeep import expire_backlog
from relay.delivery.engine import Engine
from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.permits import Quotas
from relay.events import Attempted, Event, Status
from relay.mail import Envelope, Message, Recipient
from relay.settings import Limit, QueueSettings, UpstreamSettings
from relay.spool import Arrival, QuotaRecord
from relay.upstream import DeliveryRequest, SessionObserver
from tests.delivery.scene import LATER, RELAYED, FakeSession, FakeUpstream
from tests.fake_spool import FakeSpool
from tests.torture.finding import Finding

HOUR: Final = 3600.0
DAYS: Final = 48 * HOUR
EPOCH: Final = 1_800_000_000.0
LIMIT: Final = Limit(100, HOUR, "100/hour")
KILLS: Final = 20
SESSIONS: Final = 4
TURN: Final = 20e-6
"""Seconds that a turn of the loop takes."""
PATIENCE: Final = 24 * HOUR
"""Nothing waits longer: the backlog is eight hours of the limit at most, and who was deferred queues up again."""
YEAR: Final = 365 * 24 * HOUR
CALM: Final = (17 * HOUR, 40 * HOUR)
"""Nobody kills here: behind a step of years and a restart mail from before is too old by all that can be known."""
STEPS: Final = (
    (4 * HOUR, HOUR),
    (9 * HOUR, -HOUR),
    (13 * HOUR, -YEAR),
    (17 * HOUR, 6 * YEAR),
    (30 * HOUR, HOUR),
    (35 * HOUR, -HOUR),
    (43 * HOUR, HOUR),
)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its time is what it was told to wait for: no second passes in which nothing happens."""

    def __init__(self, at: float) -> None:
        self.at = at
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.at


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing is going to happen any more"
        self._loop.at += max(timeout, TURN)
        return super().select(0)


class _Spool(FakeSpool):
    """Keeps what was used of limits as the true one does: records hold what changed."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: dict[float, dict[int, int]] = {}

    async def record_quota(self, record: QuotaRecord, *, lazy: bool = False) -> None:
        await super().record_quota(record, lazy=lazy)
        if record.anew:
            self.uses = {}
        for window, lowest in record.oldest.items():
            kept = self.uses.get(window, {})
            self.uses[window] = {bucket: used for bucket, used in kept.items() if bucket >= lowest}
        for window, buckets in record.windows.items():
            self.uses.setdefault(window, {}).update(buckets)

    async def quotas(self) -> dict[str, QuotaRecord]:
        windows = {window: sorted(buckets.items()) for window, buckets in self.uses.items()}
        return {name: replace(record, windows=windows) for name, record in self.quota.items()}


@dataclass
class World:
    """What outlives a process; times are seconds of the receiver's clock."""

    seed: random.Random
    spool: _Spool = field(default_factory=_Spool)
    at: float = 1000.0
    arrivals: list[float] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)
    accepted: dict[int, float] = field(default_factory=dict)
    expired: int = 0

    @property
    def set_by(self) -> float:
        """How far the wall clock was set by now."""
        return sum(step for when, step in STEPS if self.at >= 1000.0 + when)


class WorldClock:
    """Wall, monotonic and boot clock of the machine."""

    boot = "the only one"

    def __init__(self, world: World, loop: SkippingLoop) -> None:
        self._world = world
        self._loop = loop

    def now(self) -> float:
        self._world.at = self._loop.at
        return EPOCH + self._loop.at + self._world.set_by

    def monotonic(self) -> float:
        return self._loop.at

    boottime = monotonic


class _Session(FakeSession):
    """Takes a message within 0.2 s; one in twenty is told to come later."""

    def __init__(self, observer: SessionObserver, receive: Callable[[int], bool]) -> None:
        super().__init__(observer, 1)
        self._receive = receive
        self._loop = asyncio.get_running_loop()

    def begin(self, request: DeliveryRequest) -> None:
        super().begin(request)
        self._loop.call_later(0.1, self._takes, request.message.number)

    def _takes(self, number: int) -> None:
        taken = self._receive(number)
        self._loop.call_later(0.1, self.answer, RELAYED if taken else LATER)


class _Upstream(FakeUpstream):
    def __init__(self, receive: Callable[[int], bool]) -> None:
        super().__init__("up")
        self._receive = receive

    async def connect(self, observer: SessionObserver) -> FakeSession:
        await asyncio.sleep(0.05)
        return _Session(observer, self._receive)


def live(world: World, until: float, *, remembers: bool) -> None:
    """One process's life, to its kill at ``until``."""
    loop = SkippingLoop(world.at)
    try:
        loop.run_until_complete(_life(world, loop, until, remembers=remembers))
        world.at = loop.at
    finally:
        loop.close()


async def _life(world: World, loop: SkippingLoop, until: float, *, remembers: bool) -> None:
    spool, clock = world.spool, WorldClock(world, loop)
    dead = False

    def receive(number: int) -> bool:
        if dead:
            return False
        world.arrivals.append(loop.at)
        taken = world.seed.random() > 0.05
        world.taken[number] += taken
        return taken

    def emit(event: Event) -> None:
        if not dead and isinstance(event, Attempted) and event.status in {Status.EXPIRED, Status.BOUNCED}:
            world.expired += 1

    settings = QueueSettings()
    engine = Engine(spool, settings, clock, emit, reporter="relay.test", chance=world.seed.random)
    quotas = Quotas(spool, clock, clock, engine.permits_came)
    if remembers:
        await quotas.load()
    lane = Lane(_Upstream(receive), LaneLimits(SESSIONS, 100), engine, world.seed.random)
    lane.permits = quotas.of(UpstreamSettings("up", limits=(LIMIT,)))
    engine.route([lane])
    await engine.start()
    chores = [
        loop.create_task(follow_the_clock(spool, clock, lambda: settings.backoff[-1] * 1.2, engine.waiting)),
        loop.create_task(expire_backlog(spool, engine, clock, lambda: settings.lifetime)),
        loop.create_task(_submit(world, loop, clock, engine)),
    ]
    await asyncio.sleep(until - loop.at)
    for number in [number for number, kept in spool.kept.items() if all(row.due is None for row in kept.rows)]:
        del spool.kept[number]  # its history is of no use here
    world.spool = copy.deepcopy(spool)
    dead, world.at = True, loop.at
    for chore in (*chores, *(task for task in asyncio.all_tasks() if task is not asyncio.current_task())):
        chore.cancel()
    await asyncio.sleep(0)


async def _submit(world: World, loop: SkippingLoop, clock: WorldClock, engine: Engine) -> None:
    """More than the limit lets go, in bursts."""
    while True:
        for _ in range(300 if not world.accepted else 11):
            spool = world.spool
            number = spool.allocate(clock.now())
            message = Message(number, Envelope("a@x.test", (Recipient(0, "b@y.test"),)), 4, clock.now())
            arrival = Arrival(message, b"\r\n\r\n", leased=engine.reserve(4))
            await spool.accept(arrival)
            world.accepted[number] = loop.at
            if arrival.leased:
                engine.handed_over(arrival)
            else:
                engine.waiting()
        await asyncio.sleep(360.0)


async def two_days(folder: Path, rounds: int, *, remembers: bool = True) -> Finding:
    """``rounds`` times 48 hours, each with 20 kills and seven steps of the wall clock."""
    del folder
    finding = Finding("48 h simulated: 20 kills, clock set by ±1 h, -1 year, +6 years, at 100/hour", rounds)
    worst = 1.0
    for n in range(rounds):
        world = World(random.Random(n))
        end = world.at + DAYS
        kills = sorted(world.seed.uniform(0, DAYS - CALM[1] + CALM[0]) for _ in range(KILLS))
        for kill in [1000.0 + at + (CALM[1] - CALM[0]) * (at > CALM[0]) for at in kills]:
            await asyncio.to_thread(live, world, kill, remembers=remembers)
        await asyncio.to_thread(live, world, end, remembers=remembers)
        worst = min(worst, judge(world, end, finding))
    finding.behaviour = f"never over the limit, {worst:.1%} of it used with a backlog, none expired or stuck"
    return finding


def judge(world: World, end: float, finding: Finding) -> float:
    """What a round came to; the share of the limit that was used."""
    times = world.arrivals
    most = max(n + 1 - bisect_right(times, at - LIMIT.window) for n, at in enumerate(times))
    finding.expect(f"at most {LIMIT.count} in any hour, not {most}", holds=most <= LIMIT.count)
    used = len(times) / (LIMIT.count * (end - 1000.0) / HOUR)
    finding.expect(f"98 % of the limit used, not {used:.1%}", holds=used >= 0.98)
    finding.expect(f"{world.expired} wrongly expired", holds=not world.expired)
    waiting = {number for number, kept in world.spool.kept.items() if any(row.due is not None for row in kept.rows)}
    finding.acknowledged += len(world.accepted)
    finding.lost += len(lost := world.accepted.keys() - (+world.taken).keys() - waiting)
    finding.expect(f"{len(lost)} lost", holds=not lost)
    finding.duplicated += (twice := world.taken.total() - len(+world.taken))
    finding.expect(f"{twice} twice", holds=twice <= KILLS * SESSIONS)
    stuck = [number for number in waiting & world.accepted.keys() if end - world.accepted[number] > PATIENCE]
    finding.expect(f"{len(stuck)} stuck", holds=not stuck)
    return used
