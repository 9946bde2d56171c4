"""Where an estimate begins: the upstreams of a running relay as they stand, or of one that is to be started."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from relay.clock import BootClock, Clock
from relay.delivery.engine import Engine
from relay.delivery.estimate import Outlook, Way
from relay.delivery.lane import Lane
from relay.delivery.pacing import Paced
from relay.delivery.quota.ledger import Kept, Ledger
from relay.delivery.regulator import Regulator
from relay.delivery.rehearsal import DAY, MOST, Standing
from relay.delivery.routing import Routing
from relay.delivery.speed import ASSUMED
from relay.lessons import LearnedRecord
from relay.mail import Message
from relay.settings import Settings, UpstreamSettings
from relay.spool import QuotaRecord, Spool

FASTEST: Final = 3000.0
"""Messages a second that one process moves on an ordinary core (docs/benchmarks.md), where it was not seen to be more.
A reply in a tenth of a millisecond says what the upstream can do, and nothing of that.
"""


class LiveOutlook:
    """A running relay's; ``settings`` gives those in force."""

    def __init__(self, engine: Engine, settings: Callable[[], Settings], clock: Clock, boot_clock: BootClock) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._boot_clock = boot_clock
        self._routing = _routing(settings())

    async def outlook(self) -> Outlook:
        """The upstreams as they stand."""
        settings = self._settings()
        lanes = {lane.name: lane for lane in self._engine.lanes}
        standings = tuple(_standing(lanes[each.name], each) for each in settings.upstreams if each.name in lanes)
        self._routing = _routing(settings)
        rate = sum(lane.speed.sent.at(asyncio.get_running_loop().time()) for lane in lanes.values())
        begin = _outlook(settings, self._routing, standings, self._clock, self._boot_clock)
        return replace(begin, fastest=max(FASTEST, rate))

    def way(self, message: Message) -> str:
        """The way of its first recipient."""
        return _way(self._routing, message)


class ColdOutlook:
    """That of a relay that does not run: as if it started now, its upstreams up and none of them measured."""

    def __init__(self, settings: Settings, spool: Spool, clock: Clock, boot_clock: BootClock) -> None:
        self._settings = settings
        self._spool = spool
        self._clock = clock
        self._boot_clock = boot_clock
        self._routing = _routing(settings)

    async def outlook(self) -> Outlook:
        """The limits as the last relay left them, and what it had learned."""
        kept, learned = await self._spool.quotas(), await self._spool.learned()
        standings = tuple(
            self._standing(each, kept.get(each.name), learned.get(each.name)) for each in self._settings.upstreams
        )
        return _outlook(self._settings, self._routing, standings, self._clock, self._boot_clock)

    def way(self, message: Message) -> str:
        """The way of its first recipient."""
        return _way(self._routing, message)

    def _standing(
        self, settings: UpstreamSettings, kept: QuotaRecord | None, learned: LearnedRecord | None
    ) -> Standing:
        regulator = Regulator(settings.name, limits=settings.limits, kept=learned)
        pace = regulator.tempo.pace
        ledger = None
        if settings.limits or settings.pause is not None:
            even = settings.pacing == "even"
            ledger = Ledger(settings.limits, even=even, pause=settings.pause, reserve=settings.reserve)
            if kept is not None:
                found = Kept(kept.granted, kept.boot, kept.at, kept.wall, kept.windows)
                ledger.restore(found, self._boot_clock.boot, self._boot_clock.boottime(), self._clock.now())
        standing = Standing(
            settings.name,
            regulator.most(settings.max_connections, 0.0),
            ASSUMED,
            ASSUMED,
            measured=False,
            state="backoff" if regulator.is_slowed else "up",
            ledger=ledger,
            learned=None if pace is None else pace.rate,
            held=0 if kept is None else kept.held,
        )
        return _with_settings(standing, settings)


def _standing(lane: Lane, settings: UpstreamSettings) -> Standing:
    now = asyncio.get_running_loop().time()
    permits = lane.permits.configured if isinstance(lane.permits, Paced) else lane.permits
    pace = lane.regulator.tempo.pace
    retry_at = lane.circuit.retry_at
    standing = Standing(
        lane.name,
        lane.regulator.most(lane.limits.max_connections, now),
        lane.speed.busy,
        lane.speed.delay,
        measured=lane.speed.measured,
        state="paused" if lane.state == "up" and lane.forbids() else lane.state,
        ledger=None if permits is None else permits.rehearsal(),
        usable_in=0.0 if retry_at is None or retry_at == math.inf else max(0.0, retry_at - now),
        learned=None if pace is None else pace.rate,
        held=0 if permits is None else permits.held,
    )
    return replace(_with_settings(standing, settings), max_recipients=lane.max_recipients)


def _with_settings(standing: Standing, settings: UpstreamSettings) -> Standing:
    return replace(
        standing,
        by_recipient=settings.limit_unit == "recipients",
        max_recipients=settings.max_recipients,
        warmup=settings.warmup,
        day=min((limit.count for limit in settings.limits if limit.window == DAY), default=MOST),
        cycle=settings.cycle,
    )


def _outlook(
    settings: Settings, routing: Routing, standings: Sequence[Standing], clock: Clock, boot_clock: BootClock
) -> Outlook:
    named = [route for route in routing.routes.values() if route is not routing.default]
    ways = tuple(Way(route.name, route.upstreams, route.strategy) for route in (routing.default, *named))
    return Outlook(tuple(standings), ways, boot_clock.boottime(), clock.now(), settings.queue.lifetime, FASTEST)


def _way(routing: Routing, message: Message) -> str:
    if message.upstream is not None:
        return f"={message.upstream}"
    return routing.route_of(message, message.envelope.recipients[0].address).name


def _routing(settings: Settings) -> Routing:
    return Routing(settings.routes, [each.name for each in settings.upstreams], settings.queue.bounces)
