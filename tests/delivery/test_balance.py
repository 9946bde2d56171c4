"""All upstreams of a route at the same time, by free quota, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import pytest

from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.permits import Quotas
from relay.delivery.routing import Routing
from relay.settings import Limit, RouteSettings, UpstreamSettings

from .scene import RELAYED, FakeUpstream, Scene, settle_down
from .test_limits import MovedBootClock

HOUR = Limit(600, 3600.0, "600/hour")


class Balanced(Scene):
    """One route in balance over upstreams that answer at once."""

    def __init__(self, *limits: Sequence[Limit], pacing: Literal["burst", "even"] = "burst") -> None:
        self.ups = [FakeUpstream(f"up{n}") for n in range(len(limits))]
        super().__init__(*self.ups)
        self.boot_clock = MovedBootClock()
        self.quotas = Quotas(self.spool, self.clock, self.boot_clock, self.engine.permits_came)
        lanes = []
        for up, its in zip(self.ups, limits, strict=True):
            lane = Lane(up, LaneLimits(10, 100), self.engine, lambda: 0.5)
            lane.permits = self.quotas.of(UpstreamSettings(up.name, limits=tuple(its), pacing=pacing))
            lanes.append(lane)
        names = tuple(up.name for up in self.ups)
        self.engine.route(lanes, Routing([RouteSettings("default", names, "balance")], names))
        self.sent = [0] * len(limits)

    async def answers(self) -> None:
        """Answer until nothing more is begun."""
        while any(up.working for up in self.ups):
            for n, up in enumerate(self.ups):
                for session in up.working:
                    session.answer(RELAYED)
                    self.sent[n] += 1
            await settle_down(5)

    async def passes(self, seconds: float, steps: int) -> None:
        for _ in range(steps):
            self.boot_clock.at += seconds / steps
            self.clock.wall += seconds / steps
            self.engine.permits_came()
            await settle_down(5)
            await self.answers()


async def put(here: Balanced, count: int) -> None:
    for _ in range(count):
        await here.arrives("b@y.test")
        await here.answers()


async def test_five_evenly_paced_accounts_give_their_sum_from_the_first_minute() -> None:
    here = Balanced(*[[HOUR]] * 5, pacing="even")
    await here.engine.start()
    await put(here, 220)
    await here.passes(60.0, 120)
    assert 50 <= sum(here.sent) <= 55, "3,000 an hour are 50 a minute, and five go at once"
    assert max(here.sent) - min(here.sent) <= 1
    await here.passes(180.0, 360)
    assert 196 <= sum(here.sent) <= 205
    assert max(here.sent) - min(here.sent) <= 1
    await here.engine.stop(0.0)


async def test_unequal_limits_are_used_in_proportion_also_while_permits_are_written() -> None:
    here = Balanced([Limit(100, 3600.0, "100/hour")], [Limit(20, 3600.0, "20/hour")])
    await here.engine.start()
    await put(here, 60)
    assert here.sent == [50, 10]
    await here.engine.stop(0.0)


async def test_one_whose_permits_can_not_be_written_does_not_stop_the_others() -> None:
    here = Balanced([HOUR], [HOUR])
    await here.engine.start()
    here.spool.quota_gate = asyncio.Event()
    await put(here, 30)
    await here.answers()
    before = sum(here.sent)
    assert before < 30
    here.spool.quota_gate.set()
    await settle_down()
    await here.answers()
    assert here.sent == [15, 15]
    await here.engine.stop(0.0)


@pytest.mark.parametrize("rate", [5, 14])
async def test_a_rate_that_is_free_again_in_a_second_says_nothing_of_the_quota(rate: int) -> None:
    """The small account's second is always free: its day is not to be used up for that."""
    large = [Limit(rate, 1.0, "a second"), Limit(5000, 86400.0, "5000/day")]
    small = [Limit(rate, 1.0, "a second"), Limit(500, 86400.0, "500/day")]
    here = Balanced(large, small)
    await here.engine.start()
    for _ in range(55):
        await put(here, 4)
        await here.passes(1.5, 1)
    assert here.sent == pytest.approx([200, 20], abs=2)
    await here.engine.stop(0.0)


async def test_rates_alone_are_compared_as_they_are() -> None:
    here = Balanced([Limit(12, 10.0, "12/10s")], [Limit(4, 10.0, "4/10s")])
    await here.engine.start()
    await put(here, 8)
    assert here.sent == [6, 2]
    await here.engine.stop(0.0)
