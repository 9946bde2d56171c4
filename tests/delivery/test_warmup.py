"""The calendar of a warm-up, what holds it up, and the limit that it sets."""

from __future__ import annotations

from datetime import date, datetime

from relay.clock import Clock
from relay.delivery.permits import Permits, Quotas
from relay.delivery.warmup import is_held_by, limits_on, until_midnight
from relay.lessons import QuotaRecord
from relay.settings import Limit, UpstreamSettings, Warmup
from tests.fake_spool import FakeSpool

from .scene import StandingClock
from .test_limits import MovedBootClock

DAY = 86400.0
WARMUP = Warmup(date(2026, 12, 1), 200, 1.5)
HOURLY = Limit(600, 3600.0, "600/hour")
DAILY = Limit(500, DAY, "500/day")


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute).astimezone()


def test_each_day_has_its_limit() -> None:
    counts = []
    for day in (1, 2, 3, 4):
        *others, limit = limits_on((HOURLY,), WARMUP, 0, local(2026, 12, day, 23, 59))
        assert others == [HOURLY]
        assert limit.window == DAY
        counts.append(limit.count)
    assert counts == [200, 300, 450, 675]
    assert limits_on((), WARMUP, 0, local(2026, 11, 30))[0].count == 200, "not more before it starts"
    assert limits_on((), WARMUP, 2, local(2026, 12, 4))[0].count == 300, "held up for two days"


def test_the_configured_day_is_the_end_of_it() -> None:
    assert [limit.count for limit in limits_on((DAILY, HOURLY), WARMUP, 0, local(2026, 12, 3))] == [600, 450]
    assert limits_on((DAILY, HOURLY), WARMUP, 0, local(2026, 12, 4)) == (DAILY, HOURLY)
    assert limits_on((DAILY,), WARMUP, 0, local(2036, 12, 4)) == (DAILY,)


def test_too_many_deferrals_hold_it_up() -> None:
    assert not is_held_by(19, 19)
    assert not is_held_by(100, 5)
    assert is_held_by(100, 6)
    assert until_midnight(local(2026, 12, 1, 23, 59)) == 60.0


def permits(clock: Clock, spool: object, settings: UpstreamSettings, held: int = 0) -> Permits:
    quotas = Quotas(spool, clock, MovedBootClock(), lambda: None)  # type: ignore[arg-type]
    if held:
        quotas._kept = {"up": QuotaRecord("up", 0, "this boot", 0.0, 0.0, {}, held=held)}
    found = quotas.of(settings)
    assert found is not None
    return found


async def test_the_next_day_grows_unless_the_last_one_was_bad_also_over_a_restart() -> None:
    spool, clock = FakeSpool(), StandingClock()
    clock.wall = local(2026, 12, 1, 12).timestamp()
    settings = UpstreamSettings("up", warmup=WARMUP)
    up = permits(clock, spool, settings)

    def allowed() -> int:
        return next(use.limit.count for use, _ in up.uses())

    assert allowed() == 200
    clock.wall += DAY
    up._next_day()
    assert allowed() == 300
    for n in range(40):
        up._tried += 1
        up._deferred += n < 4
    clock.wall += DAY
    up._next_day()
    assert allowed() == 300
    await up.close()
    assert spool.quota["up"].held == 1
    up = permits(clock, spool, settings, held=1)
    assert allowed() == 300
    await up.close()


async def test_what_is_used_up_is_free_again_at_midnight_where_the_next_day_grows() -> None:
    spool, clock = FakeSpool(), StandingClock()
    clock.wall = local(2026, 12, 1, 12).timestamp()
    up = permits(clock, spool, UpstreamSettings("up", warmup=WARMUP))
    up._ledger.allowance = 200
    for _ in range(200):
        up.take(1).ended(content_sent=True)
    midnight = local(2026, 12, 2)
    assert [(use.left, when) for use, when in up.uses()] == [(0, midnight.timestamp())]
    assert up.explanation == f"warmup; the next is free at {midnight.isoformat(' ', 'seconds')}"
    up._deferred = up._tried
    ((_, when),) = up.uses()
    assert when > clock.wall + DAY, "it stays where it is"
    await up.close()
