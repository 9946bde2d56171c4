"""Where an estimate begins: what an ended relay knew, and what ``relay status`` shows."""

from __future__ import annotations

from dataclasses import replace

from relay.clock import SystemBootClock
from relay.daemon.desk import Desk
from relay.daemon.outlook import ColdOutlook, LiveOutlook
from relay.delivery.dispatch import SILENT
from relay.delivery.permits import Quotas
from relay.delivery.remembering import Remembered
from relay.lessons import LearnedRecord
from relay.settings import Limit, Settings, UpstreamSettings
from tests.delivery.scene import RELAYED, START, FakeUpstream, Scene, StandingClock, settle_down
from tests.fake_spool import FakeSpool

UP = UpstreamSettings("up", host="up.test", limits=(Limit(50, 1.0, "50/second"),))


def settings_of(upstream: UpstreamSettings) -> Settings:
    return Settings(hostname="relay.test", listeners=(), upstreams=(upstream,))


async def test_a_relay_that_does_not_run_will_begin_with_what_was_learned() -> None:
    spool, clock = FakeSpool(), StandingClock()
    lesson = LearnedRecord("up", 14.0, 8.0, START, "454", connections=3, patience=2.0, crowded=START)
    await spool.record_learned(lesson)
    remembered = Remembered(spool, clock)
    await remembered.load()
    pace = remembered.regulator(UP).tempo.pace
    (standing,) = (await ColdOutlook(settings_of(UP), spool, clock, SystemBootClock()).outlook()).standings
    assert pace is not None
    assert (standing.state, standing.learned, standing.connections) == ("backoff", pace.rate, 3)


async def test_what_was_learned_counts_below_the_configured_limit_only() -> None:
    spool, clock = FakeSpool(), StandingClock()
    await spool.record_learned(LearnedRecord("up", 80.0, 8.0, START, "454"))
    (standing,) = (await ColdOutlook(settings_of(UP), spool, clock, SystemBootClock()).outlook()).standings
    assert (standing.state, standing.learned) == ("up", None)


async def test_an_upstream_at_its_limit_is_paused_as_the_status_says() -> None:
    up = FakeUpstream("up")
    here = Scene(up)
    await here.engine.start()
    settings = settings_of(replace(UP, limits=(Limit(1, 3600.0, "1/hour"),)))
    boot = SystemBootClock()
    quotas = Quotas(here.spool, here.clock, boot, here.engine.permits_came)
    here.engine.lanes[0].permits = quotas.of(settings.upstreams[0])
    outlook = LiveOutlook(here.engine, lambda: settings, here.clock, boot)
    assert [each.state for each in (await outlook.outlook()).standings] == ["up"]
    await here.arrives("b@y.test")
    up.working[0].answer(RELAYED)
    await settle_down()
    assert [each.state for each in (await outlook.outlook()).standings] == ["paused"]
    await here.engine.stop(0.0)
    await quotas.close()


async def test_the_status_tells_of_an_upstream_that_says_nothing() -> None:
    up = FakeUpstream("up")
    here = Scene(up, connections=1)
    await here.engine.start()
    await here.arrives("b@y.test")
    desk = Desk(here.engine)
    assert desk.upstreams()["up"].last_error is None
    here.engine.lanes[0].moved_at -= SILENT
    assert desk.upstreams()["up"].last_error == "silent for 30 s"
    await here.engine.stop(0.0)
