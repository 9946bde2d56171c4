"""Refused logins over a restart: a service manager that starts us again and again must not lock the account."""

from __future__ import annotations

from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.remembering import Remembered
from relay.outcome import Command, Reply, classify
from relay.settings import UpstreamSettings
from tests.delivery.scene import FakeUpstream, Scene, settle_down
from tests.fake_spool import FakeSpool

WRONG = classify(Reply(535, "wrong password", "5.7.8"), Command.AUTH, host="up")
SETTINGS = UpstreamSettings("up")


async def started(spool: FakeSpool, wall: float = 0.0, *, refuses: bool = True) -> tuple[Scene, FakeUpstream, Lane]:
    """A relay that begins with what the spool knows, ``wall`` seconds after the first one."""
    upstream = FakeUpstream("up")
    if refuses:
        upstream.refuses = WRONG
    here = Scene(upstream)
    here.clock.wall += wall
    remembered = Remembered(spool, here.clock)
    await remembered.load()
    here.engine.watch = remembered.look
    lane = Lane(upstream, LaneLimits(2, 100, authenticates=True), here.engine, lambda: 0.5, here.clock.now)
    remembered.teach(lane, SETTINGS)
    here.engine.route([lane])
    await here.arrives("b@y.test")
    await settle_down()
    return here, upstream, lane


async def test_after_three_refused_logins_another_start_waits_until_ten_minutes_are_over() -> None:
    spool = FakeSpool()
    for start in range(3):
        _, upstream, _ = await started(spool, start * 10.0)
        assert upstream.connects == 1
    assert len(spool.logins["up"]) == 3
    here, upstream, lane = await started(spool, 100.0)
    assert (upstream.connects, lane.state) == (0, "paused")
    assert lane.last_error == "3 logins were refused before the last start"
    assert lane.circuit.retry_at is not None
    assert 490 < lane.circuit.retry_at - here.engine._loop.time() <= 500
    _, upstream, _ = await started(spool, 700.0)
    assert upstream.connects == 1


async def test_a_clock_that_was_set_back_makes_them_no_older() -> None:
    spool = FakeSpool()
    for _ in range(3):
        await started(spool)
    here, upstream, lane = await started(spool, -86_400.0)
    assert upstream.connects == 0
    assert lane.circuit.retry_at is not None
    assert lane.circuit.retry_at - here.engine._loop.time() <= 600


async def test_a_login_that_succeeds_is_all_that_counts() -> None:
    spool = FakeSpool()
    await started(spool)
    assert len(spool.logins["up"]) == 1
    await started(spool, 10.0, refuses=False)
    assert spool.logins == {}
