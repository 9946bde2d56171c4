"""The engine before limits: what goes, what waits, who takes over, and what the disk knows of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.delivery.permits import Permits, Quotas
from relay.settings import Limit, Pause, UpstreamSettings
from relay.spool import QuotaRecord, SpoolFull
from relay.upstream import ServerLimit

from .scene import CLOSING, IN_DOUBT, LATER, REFUSED, RELAYED, FakeUpstream, Scene, settle_down, with_lifetime


class MovedBootClock:
    """Stands until it is moved."""

    boot = "this boot"

    def __init__(self) -> None:
        self.at = 1000.0

    def boottime(self) -> float:
        return self.at


class Limited(Scene):
    """A scene whose first upstream has limits."""

    def __init__(self, *upstreams: FakeUpstream, settings: UpstreamSettings, **traits: object) -> None:
        super().__init__(*upstreams, **traits)  # type: ignore[arg-type]
        self.boot_clock = MovedBootClock()
        self.quotas = Quotas(self.spool, self.clock, self.boot_clock, self.engine.permits_came)
        self.engine.lanes[0].permits = self.quotas.of(settings)

    @property
    def permits(self) -> Permits:
        permits = self.engine.lanes[0].permits
        assert isinstance(permits, Permits)
        return permits

    def uses(self) -> list[tuple[str, int, int]]:
        return [(use.limit.text, use.used, use.left) for use, _ in self.permits.uses()]

    async def passes(self, seconds: float) -> None:
        self.boot_clock.at += seconds
        self.clock.wall += seconds
        self.engine.permits_came()
        await settle_down()


def limited(*limits: Limit, **traits: object) -> UpstreamSettings:
    return replace(UpstreamSettings("up", limits=limits), **traits)  # type: ignore[arg-type]


TWO = Limit(2, 10.0, "2/10s")


async def scene(*limits: Limit, depth: int = 1, **traits: object) -> tuple[Limited, FakeUpstream]:
    upstream = FakeUpstream("up", depth)
    here = Limited(upstream, settings=limited(*limits, **traits), connections=5)
    await here.engine.start()
    return here, upstream


def begun(upstream: FakeUpstream) -> int:
    return sum(len(session.begun) for session in upstream.sessions)


async def test_no_more_are_begun_than_the_limit_has_and_the_rest_goes_a_window_after_the_replies() -> None:
    here, upstream = await scene(TWO)
    for _ in range(5):
        await here.arrives("b@y.test")
    assert begun(upstream) == 2
    assert len(upstream.sessions) == 2, "no connection is opened for what may not go"
    await here.passes(100.0)
    assert begun(upstream) == 2, "permits in flight count however long it takes"
    for session in list(upstream.working):
        session.answer(RELAYED)
    await here.passes(9.99)
    assert begun(upstream) == 0
    await here.passes(0.1)
    assert begun(upstream) == 2
    await here.engine.stop(0.0)


async def test_the_engine_wakes_by_itself_when_the_next_permit_is_free() -> None:
    upstream = FakeUpstream("up", 1)
    here = Limited(upstream, settings=limited(Limit(1, 0.05, "1/50ms")))
    await here.engine.start()
    loop = asyncio.get_running_loop()
    here.boot_clock.boottime = loop.time  # type: ignore[method-assign]
    await here.arrives("b@y.test")
    await here.arrives("b@y.test")
    upstream.working[0].answer(RELAYED)
    answered = loop.time()
    await settle_down()
    assert begun(upstream) == 0
    while not begun(upstream):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert 0.05 <= loop.time() - answered < 1.0
    await here.engine.stop(0.0)


async def test_what_no_content_was_sent_of_costs_no_permit() -> None:
    here, upstream = await scene(Limit(1, 10.0, "1/10s"))
    await here.arrives("b@y.test")
    await here.arrives("b@y.test")
    (session,) = upstream.working
    session.content_sent = False
    session.answer(REFUSED)
    await settle_down()
    assert begun(upstream) == 1
    session.broken(CLOSING)
    await settle_down()
    assert begun(upstream) == 1
    assert here.uses() == [("1/10s", 1, 0)]
    await here.engine.stop(0.0)


async def test_what_was_refused_after_its_content_or_left_in_doubt_costs_one() -> None:
    here, upstream = await scene(TWO)
    for _ in range(3):
        await here.arrives("b@y.test")
    first, second = upstream.working
    first.answer(LATER)
    second.broken(IN_DOUBT)
    await settle_down()
    assert (begun(upstream), here.uses()) == (0, [("2/10s", 2, 0)])
    await here.engine.stop(0.0)


async def test_another_upstream_takes_over_while_the_first_is_at_its_limit() -> None:
    first, second = FakeUpstream("up"), FakeUpstream("backup")
    here = Limited(first, second, settings=limited(TWO), connections=5)
    await here.engine.start()
    for _ in range(4):
        await here.arrives("b@y.test")
    assert (begun(first), begun(second)) == (2, 2)
    named = await here.arrives("b@y.test", upstream="up")
    assert (begun(first), begun(second)) == (2, 2)
    for session in list(first.working):
        session.answer(RELAYED)
    await here.passes(10.1)
    assert [request.message.number for session in first.working for request in session.begun] == [named]
    await here.engine.stop(0.0)


async def test_a_message_goes_in_parts_where_recipients_are_limited() -> None:
    here, upstream = await scene(Limit(3, 10.0, "3/10s"), limit_unit="recipients")
    number = await here.arrives(*(f"{n}@y.test" for n in range(7)))
    sent = []
    for left in (4, 1, 0):
        (session,) = upstream.working
        sent += [r.address for r in session.begun[0].message.envelope.recipients]
        session.answer(RELAYED)
        await here.passes(10.1)
        assert len([state for state, _ in await here.states(number) if state == "leased"]) == left
    assert sent == [f"{n}@y.test" for n in range(7)]
    await here.engine.stop(0.0)


async def test_a_message_is_not_cut_up_by_blocks() -> None:
    here, upstream = await scene(Limit(1000, 3600.0, "1000/hour"), limit_unit="recipients")
    await here.arrives(*(f"{n}@y.test" for n in range(60)))
    (session,) = upstream.working
    assert len(session.begun[0].message.envelope.recipients) == 60
    await here.engine.stop(0.0)


async def test_what_waits_for_a_permit_expires_in_time() -> None:
    upstream = FakeUpstream("up")
    here = Limited(upstream, settings=limited(Limit(1, 1e6, "1/1000000s")), connections=5)
    here.engine.configure(with_lifetime(60.0))
    await here.engine.start()
    await here.arrives("b@y.test")
    late = await here.arrives("b@y.test")
    await here.passes(61.0)
    here.engine._expiry._next_look = 0.0
    await here.passes(0.0)
    assert await here.states(late) == [("failed", 1)]
    await here.engine.stop(0.0)


async def test_what_waits_for_a_permit_can_be_withdrawn() -> None:
    here, _ = await scene(Limit(1, 10.0, "1/10s"))
    await here.arrives("b@y.test")
    waiting = await here.arrives("b@y.test")
    here.engine.pause()
    await here.engine.withdraw(frozenset([waiting]))
    assert await here.states(waiting) == [("waiting", 0)]
    here.engine.resume()
    await here.engine.stop(0.0)


async def test_a_pause_holds_mail_back() -> None:
    here, upstream = await scene(pause=Pause(2, 5.0))
    for _ in range(3):
        await here.arrives("b@y.test")
    assert begun(upstream) == 2
    await here.passes(5.0)
    assert begun(upstream) == 3
    await here.engine.stop(0.0)


async def test_nothing_goes_before_the_disk_knows_and_it_goes_once_it_does() -> None:
    here, upstream = await scene(Limit(5, 3600.0, "5/hour"))
    here.spool.quota_error = SpoolFull("full")
    await here.arrives("b@y.test")
    assert begun(upstream) == 0
    here.spool.quota_error = None
    here.permits._unstick()
    await settle_down()
    assert begun(upstream) == 1
    assert here.spool.quota["up"].granted == 2, "one in flight, and one ahead"
    await here.engine.stop(0.0)


async def test_a_new_life_counts_what_the_last_one_knew_and_what_it_may_have_sent() -> None:
    here, upstream = await scene(Limit(5, 3600.0, "5/hour"))
    await here.arrives("b@y.test")
    upstream.working[0].answer(RELAYED)
    await here.arrives("b@y.test")  # in flight when the process ends
    kept: QuotaRecord = here.spool.quota["up"]
    assert (kept.granted, [used for _, used in kept.windows[3600.0]]) == (2, [1])
    again = Quotas(here.spool, here.clock, here.boot_clock, lambda: None)
    await again.load()
    permits = again.of(limited(Limit(5, 3600.0, "5/hour")))
    assert permits is not None
    assert [(use.used, use.left) for use, _ in permits.uses()] == [(3, 2)]
    await here.engine.stop(0.0)


async def test_at_the_end_all_that_is_known_is_written() -> None:
    here, upstream = await scene(Limit(100, 1.0, "100/second"))
    await here.arrives("b@y.test")
    upstream.working[0].answer(RELAYED)
    await here.engine.stop(0.0)
    await here.quotas.close()
    assert here.spool.quota["up"].granted == 0
    assert [used for _, used in here.spool.quota["up"].windows[1.0]] == [1]


async def test_a_reload_keeps_what_was_used() -> None:
    here, _ = await scene(TWO)
    await here.arrives("b@y.test")
    other = replace(limited(Limit(3, 10.0, "3/10s")))
    assert here.quotas.of(other) is here.permits
    assert here.uses() == [("3/10s", 1, 2)]
    # The limit that was taken away may come back within its window: until then its use is counted.
    assert here.quotas.of(limited()) is here.permits
    assert here.uses() == []
    assert here.quotas.of(other) is here.permits
    assert here.uses() == [("3/10s", 1, 2)]
    here.quotas.of(limited())
    here.boot_clock.at += 10.0
    assert here.quotas.of(limited()) is None
    assert here.quotas.of(UpstreamSettings("other")) is None
    await here.engine.stop(0.0)


async def test_a_block_asked_for_while_another_write_is_under_way_comes_after_it() -> None:
    here, upstream = await scene(Limit(1, 1.0, "1/second"))
    await here.arrives("b@y.test")
    upstream.working[0].answer(RELAYED)
    here.permits._ledger.allowance = 0  # as if what was written ahead were used
    gate = here.spool.quota_gate = asyncio.Event()
    here.permits._quiet()
    await settle_down()
    await here.passes(1.1)
    await here.arrives("b@y.test")
    assert begun(upstream) == 0
    gate.set()
    await settle_down()
    assert begun(upstream) == 1
    await here.engine.stop(0.0)


DAY = 86400.0


def said(count: float, window: float, used: float | None = None) -> ServerLimit:
    return ServerLimit(count, window, used, 0.0)


async def told(here: Limited, settings: UpstreamSettings, *limits: ServerLimit) -> bool:
    here.engine.lanes[0].permits, is_news = here.quotas.told(settings, limits)
    here.engine.permits_came()
    await settle_down()
    return is_news


async def test_what_the_account_may_send_holds_beside_the_configured_limits() -> None:
    ten = limited(Limit(10, 1.0, "10/second"), Limit(40, DAY, "40/day"))
    here, upstream = await scene(*ten.limits)
    assert await told(here, ten, said(14.0, 1.0), said(20.0, DAY, 17.0))
    assert here.uses() == [("10/second", 0, 10), ("20/day of the account", 17, 3)], "the lower of two binds"
    for _ in range(5):
        await here.arrives("b@y.test")
    assert begun(upstream) == 3
    for session in list(upstream.working):
        session.answer(RELAYED)
    await here.passes(2.0)
    assert begun(upstream) == 0
    assert not await told(here, ten, said(14.0, 1.0), said(20.0, DAY, 20.0)), "ours are among those that it counts"
    assert here.uses()[1] == ("20/day of the account", 20, 0)
    assert not await told(here, ten, said(14.0, 1.0), said(20.0, DAY, 19.0)), "one of the others' has left"
    assert here.uses()[1] == ("20/day of the account", 20, 0)
    assert begun(upstream) == 1
    assert await told(here, ten, said(5.0, 1.0), said(100.0, DAY, 19.0))
    assert [text for text, _, _ in here.uses()] == ["5/second of the account", "40/day"]


async def test_an_account_that_others_used_up_is_looked_at_again() -> None:
    here, upstream = await scene()
    none = limited()
    assert here.engine.lanes[0].permits is None
    assert await told(here, none, said(200.0, DAY, 200.0), said(7e6, 31 * DAY, 7e6))
    await here.arrives("b@y.test")
    assert upstream.connects == 0
    await here.passes(599.0)
    assert upstream.connects == 0
    await here.passes(2.0)
    assert upstream.connects == 1, "it tells how much is used before anything is sent"


async def test_a_reload_forgets_the_account_until_it_is_heard_of_again() -> None:
    five = limited(Limit(5, 1.0, "5/second"))
    here, _ = await scene(*five.limits)
    await told(here, five, said(2.0, 1.0))
    assert here.uses() == [("2/second of the account", 0, 2)]
    here.quotas.of(five)
    assert here.uses() == [("5/second", 0, 5)]


@pytest.mark.parametrize(
    ("count", "text"), [(14.7, "14/second"), (1.0, "1/second"), (0.5, "1/2s"), (0.0, "1/second"), (1e-9, "1/day")]
)
async def test_limits_of_accounts_are_spelled_as_ours(count: float, text: str) -> None:
    here, _ = await scene()
    await told(here, limited(), said(count, 1.0))
    assert [each for each, _, _ in here.uses()] == [f"{text} of the account"]
