"""The engine over routes: who takes what, in which order, and who takes over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

import pytest

from relay.daemon.upkeep import expire_old
from relay.delivery import dispatch, supply
from relay.delivery.fairness import Window
from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.routing import Routing
from relay.delivery.turns import turn_of
from relay.mail import Envelope, Message, Priority, Recipient
from relay.settings import QueueSettings, RouteMatch, RouteSettings
from relay.spool import Arrival

from .scene import RELAYED, UNFIT, FakeUpstream, Scene, refusing, settle_down


class Routed(Scene):
    """A scene with routes."""

    def route(self, *routes: RouteSettings, bounces: str = "default", **limits: float) -> None:
        self.routing = Routing(routes, [upstream.name for upstream in self.upstreams], bounces)
        each = replace(LaneLimits(2, 100), **limits)  # type: ignore[arg-type]
        lanes = [Lane(upstream, each, self.engine, lambda: 0.5) for upstream in self.upstreams]
        self.engine.route(lanes, self.routing)

    def small_window(self, messages: int = 30) -> Window:
        engine, window = self.engine, Window(messages, 10_000)
        engine._window = engine._supply._window = engine._withdrawal._window = window
        return window

    async def comes(self, priority: Priority = Priority.NORMAL, sender: str = "a@x.test") -> int:
        number = self.spool.allocate(self.clock.wall)
        envelope = Envelope(sender, (Recipient(0, "b@y.test"),))
        message = Message(number, envelope, 1, self.clock.wall, priority=priority)
        turn = turn_of(message)
        arrival = Arrival(message, b"x", self.engine.reserve(1, turn), turn=turn)
        await self.spool.accept(arrival)
        if arrival.leased:
            self.engine.handed_over(arrival)
        else:
            self.engine.waiting(turn)
        await settle_down()
        return number


def begun(upstream: FakeUpstream) -> list[int]:
    return [request.message.number for session in upstream.sessions for request in session.begun]


async def answer(*upstreams: FakeUpstream) -> list[str]:
    """Answer whatever is under way until nothing is; the names in order."""
    order: list[str] = []
    while True:
        working = [(upstream, session) for upstream in upstreams for session in upstream.working]
        if not working:
            return order
        upstream, session = working[0]
        order.append(upstream.name)
        session.answer(RELAYED)
        await settle_down()


async def test_a_rotating_route_uses_one_upstream_at_a_time() -> None:
    ups = [FakeUpstream(name) for name in ("one", "two", "three")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("one", "two", "three"), "rotate"), max_connections=1, cycle=2)
    await here.engine.start()
    order = []
    for _ in range(8):
        await here.comes()
        order += await answer(*ups)
    assert order == ["one", "one", "two", "two", "three", "three", "one", "one"]
    await here.engine.stop(0.0)


async def test_a_rotating_route_passes_over_what_is_down() -> None:
    ups = [FakeUpstream("one"), refusing("two"), FakeUpstream("three")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("one", "two", "three"), "rotate"), cycle=1)
    await here.engine.start()
    order = []
    for _ in range(4):
        await here.comes()
        order += await answer(*ups)
    assert order == ["one", "three", "one", "three"]
    await here.engine.stop(0.0)


async def test_balance_uses_all_at_the_same_time() -> None:
    ups = [FakeUpstream(name) for name in ("one", "two", "three")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("one", "two", "three"), "balance"))
    await here.engine.start()
    for _ in range(6):
        await here.comes()
    assert [len(begun(up)) for up in ups] == [2, 2, 2]
    numbers = [number for up in ups for number in begun(up)]
    assert len(set(numbers)) == 6, "no message on two of them"
    await here.engine.stop(0.0)


async def test_urgent_mail_goes_before_what_waits_longer() -> None:
    up = FakeUpstream("up")
    here = Routed(up)
    here.route(max_connections=1)
    await here.engine.start()
    first = await here.comes(Priority.BULK)
    second = await here.comes(Priority.BULK)
    normal = await here.comes()
    urgent = await here.comes(Priority.URGENT)
    seen = []
    while now := begun(up):
        seen += now
        up.working[0].answer(RELAYED)
        await settle_down()
    assert seen == [first, urgent, normal, second]
    await here.engine.stop(0.0)


async def test_reserved_connections_are_for_urgent_mail_only() -> None:
    up = FakeUpstream("up")
    here = Routed(up)
    here.route(max_connections=4, reserve=0.25)
    await here.engine.start()
    for _ in range(6):
        await here.comes()
    assert len(begun(up)) == 3
    urgent = await here.comes(Priority.URGENT)
    assert urgent in begun(up)
    assert len(up.sessions) == 4
    next(s for s in up.sessions if s.begun[0].message.number == urgent).answer(RELAYED)
    await settle_down()
    assert len(begun(up)) == 3, "its connection stays free for the next urgent one"
    await here.engine.stop(0.0)


async def test_two_ways_share_an_upstream_and_urgent_mail_of_any_goes_first() -> None:
    up = FakeUpstream("up")
    here = Routed(up)
    bulk = RouteSettings("bulk", ("up",), match=RouteMatch(priority=("bulk",)))
    here.route(bulk, RouteSettings("default", ("up",)), max_connections=1)
    await here.engine.start()
    await here.comes(Priority.BULK)
    await here.comes(Priority.BULK)
    urgent = await here.comes(Priority.URGENT)
    up.working[0].answer(RELAYED)
    await settle_down()
    assert begun(up) == [urgent]
    await here.engine.stop(0.0)


async def test_a_source_with_a_backlog_leaves_room_in_memory_for_others() -> None:
    up = FakeUpstream("up")
    here = Routed(up)
    here.route(max_connections=1)
    window = here.small_window()
    await here.engine.start()
    for _ in range(60):
        await here.comes(sender="big@x.test")
    assert window.messages == 16
    other = await here.comes(sender="small@x.test")
    for _ in range(2):
        assert other not in begun(up)
        up.working[0].answer(RELAYED)
        await settle_down()
    assert other in begun(up), "each other source has one turn before it"
    await answer(up)
    assert (await here.spool.counts(here.clock.wall))["waiting"] == 0
    assert window.messages == 0
    await here.engine.stop(0.0)


async def test_the_last_bit_of_room_is_used_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' mail, which can't leave, fills the window but for a few: so many never leave it at a time."""
    monkeypatch.setattr(supply, "SOON", 0.0)
    up = FakeUpstream("up")
    here = Routed(up)
    here.route(max_connections=1)
    window = here.small_window(300)
    for _ in range(262):
        window.take(1, turn_of(Message(1, Envelope("stuck@x.test", ()), 1, 0.0), "another way"))
    await here.engine.start()
    numbers = [await here.comes() for _ in range(30)]
    assert here.engine.has_backlog
    await answer(up)
    for _ in range(30):
        await settle_down()
        await answer(up)
    assert [await here.states(number) for number in numbers] == [[("relayed", 1)]] * 30
    await here.engine.stop(0.0)


async def test_what_expires_is_told_of_its_own_route_alone() -> None:
    ups = [refusing("dead"), FakeUpstream("busy")]
    here = Routed(*ups)
    news = RouteSettings("news", ("dead",), match=RouteMatch(priority=("bulk",)))
    here.route(news, RouteSettings("default", ("busy",)), max_connections=1)
    await here.engine.start()
    await here.comes(Priority.BULK)
    await here.comes()
    behind = await here.comes()
    here.clock.wall += QueueSettings().lifetime + 1
    await answer(*ups)
    await settle_down()
    story = await here.spool.story(behind)
    assert story is not None
    (attempt,) = story.attempts
    assert attempt.status == "expired"
    assert "refused" not in attempt.detail
    await here.engine.stop(0.0)


async def test_what_has_no_room_in_memory_expires_in_the_spool() -> None:
    here = Routed(refusing("up"))
    here.route()
    window = here.small_window()
    await here.engine.start()
    numbers = [await here.comes(sender="big@x.test") for _ in range(25)]
    assert (window.messages, here.engine.has_backlog) == (16, True)
    lifetime = QueueSettings().lifetime
    await expire_old(here.spool, here.engine, here.clock.wall, lifetime)
    await settle_down()
    assert await here.states(numbers[-1]) == [("waiting", 0)]
    here.clock.wall += lifetime + 1
    await expire_old(here.spool, here.engine, here.clock.wall, lifetime)
    await settle_down()
    assert [await here.states(number) for number in numbers[16:]] == [[("failed", 1)]] * 9
    await here.engine.stop(0.0)


async def test_what_one_cannot_have_goes_round_the_route_and_fails_at_the_end() -> None:
    ups = [FakeUpstream(name) for name in ("one", "two")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("one", "two"), "rotate"), cycle=1)
    await here.engine.start()
    await here.comes()
    await answer(*ups)
    number = await here.comes()
    assert begun(ups[1]) == [number]
    ups[1].working[0].answer(UNFIT)
    await settle_down()
    assert begun(ups[0]) == [number]
    ups[0].working[0].answer(UNFIT)
    await settle_down()
    assert await here.states(number) == [("failed", 1)]
    await here.engine.stop(0.0)


async def test_what_one_cannot_have_goes_to_whichever_of_the_others_is_up() -> None:
    ups = [FakeUpstream("small"), refusing("dead"), FakeUpstream("up")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("small", "dead", "up")))
    await here.engine.start()
    number = await here.comes()
    ups[0].working[0].answer(UNFIT)
    await settle_down()
    assert begun(ups[2]) == [number]
    ups[2].working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]
    await here.engine.stop(0.0)


@pytest.mark.parametrize("strategy", ["failover", "rotate"])
async def test_one_that_says_nothing_any_more_is_passed_over_until_it_does(
    strategy: Literal["failover", "rotate"], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = ups = [FakeUpstream("silent", depth=2), FakeUpstream("other")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("silent", "other"), strategy))
    await here.engine.start()
    for _ in range(5):
        await here.comes()
    assert (len(begun(silent)), len(begun(other))) == (4, 0), "a server may be slow"
    monkeypatch.setattr(dispatch, "SILENT", 0.0)
    await here.comes(Priority.URGENT)
    assert (len(begun(silent)), len(begun(other))) == (4, 2), "each recipient at one of them only"
    monkeypatch.setattr(dispatch, "SILENT", 30.0)
    silent.working[0].answer(RELAYED)
    await settle_down()
    await here.comes()
    back = 4 if strategy == "failover" else 3  # in a rotating route it is the other's turn now
    assert (len(begun(silent)), len(begun(other))) == (back, 2)
    await here.engine.stop(0.0)


async def test_one_that_says_nothing_is_noticed_when_nothing_else_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, other = ups = [FakeUpstream("silent"), FakeUpstream("other")]
    monkeypatch.setattr(dispatch, "SILENT", 0.05)
    here = Routed(*ups)
    here.route(RouteSettings("default", ("silent", "other")))
    await here.engine.start()
    for _ in range(3):
        await here.comes()
    await asyncio.sleep(0.2)
    assert (len(begun(silent)), len(begun(other))) == (2, 1)
    await here.engine.stop(0.0)


async def test_one_that_had_nothing_to_say_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    idle, other = ups = [FakeUpstream("idle"), FakeUpstream("other")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("idle", "other")), max_connections=1)
    await here.engine.start()
    here.engine.lanes[0].moved_at -= 3600.0
    for _ in range(2):
        await here.comes()
    assert (len(begun(idle)), len(begun(other))) == (1, 0)
    await here.engine.stop(0.0)


async def test_a_reload_sends_what_waits_and_what_comes_back_the_new_way() -> None:
    ups = [refusing("one"), FakeUpstream("two")]
    here = Routed(*ups)
    here.route(RouteSettings("default", ("one",)))
    await here.engine.start()
    number = await here.comes()
    assert begun(ups[1]) == []
    here.route(RouteSettings("default", ("two",)))
    await settle_down()
    assert begun(ups[1]) == [number]
    await here.engine.stop(0.0)
