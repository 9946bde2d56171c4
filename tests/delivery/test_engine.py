"""The engine: what goes where, what is charged, what is put back, how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import cast

import pytest

from relay.delivery.engine import MAX_TRIES
from relay.events import Accepted, Attempted, Notice, Removed, Status
from relay.outcome import Command, Outcome, Reply, Scope, Verdict, classify
from relay.spool import Settlement, SpoolFull
from relay.upstream import DeliveryRequest
from tests.delivery.scene import (
    BROKEN,
    CLOSING,
    IN_DOUBT,
    LATER,
    REFUSED,
    RELAYED,
    UNFIT,
    FakeSession,
    FakeUpstream,
    Scene,
    refusing,
    settle_down,
    with_lifetime,
)

Build = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def scene() -> AsyncIterator[Build]:
    scenes: list[Scene] = []

    async def build(*upstreams: FakeUpstream, **options: object) -> Scene:
        made = Scene(*upstreams, **options)  # type: ignore[arg-type]
        await made.engine.start()
        scenes.append(made)
        return made

    yield build
    for made in scenes:
        await made.engine.stop(0.0)


def attempts(scene: Scene) -> list[tuple[str, Status]]:
    return [(e.upstream, e.status) for e in cast("list[Attempted]", scene.seen(Attempted))]


async def test_a_message_is_relayed_reported_and_removed(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    up.sessions[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]
    assert attempts(here) == [("up", Status.SENT)]
    assert len(here.seen(Removed)) == 1


async def test_sessions_are_reused_and_opened_as_demand_asks(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up, connections=3)
    for n in range(5):
        await here.arrives(f"r{n}@y.test")
    assert len(up.sessions) == 3
    assert [len(session.begun) for session in up.sessions] == [1, 1, 1]
    up.sessions[1].answer(RELAYED)
    assert len(up.sessions[1].begun) == 1, "the next message takes the free session at once"
    assert up.connects == 3


async def test_a_second_request_is_chained_while_another_session_opens(scene: Build) -> None:
    up = FakeUpstream("up", depth=2)
    here = await scene(up)
    await here.arrives("b@y.test")
    await here.arrives("c@y.test")
    assert [len(session.begun) for session in up.sessions] == [2, 0]


async def test_each_recipient_gets_its_own_outcome_and_the_refused_a_bounce(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test", "c@y.test", "d@y.test")
    up.sessions[0].answer(RELAYED, REFUSED, LATER)
    await settle_down()
    assert await here.states(number) == [("relayed", 1), ("failed", 1), ("deferred", 1)]
    (accepted,) = cast("list[Accepted]", here.seen(Accepted))
    assert (accepted.sender, accepted.client) == ("", None)
    (bounce,) = up.working[0].begun
    assert [r.address for r in bounce.message.envelope.recipients] == ["a@x.test"]
    assert not here.seen(Removed), "a recipient is still to be tried"


async def test_a_bounce_is_never_bounced(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    await here.arrives("b@y.test", sender="")
    up.sessions[0].answer(REFUSED)
    await settle_down()
    assert not here.seen(Accepted)


async def test_a_deferred_recipient_is_tried_again_when_due(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up, settings=with_lifetime(86_400, [60]))
    number = await here.arrives("b@y.test")
    up.sessions[0].answer(LATER)
    await settle_down()
    assert await here.states(number) == [("deferred", 1)]
    here.clock.wall += 61
    here.engine.waiting()
    await settle_down()
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 2)]


async def test_a_broken_session_costs_nothing_and_the_message_goes_on(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    first = await here.arrives("b@y.test")
    up.sessions[0].answer(RELAYED)
    await settle_down()
    number = await here.arrives("c@y.test")
    up.sessions[0].broken(CLOSING)
    await settle_down()
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]
    assert await here.states(first) == [("relayed", 1)]
    assert here.engine.lanes[0].state == "up", "a later 421 only ends that session"


async def test_a_message_under_which_sessions_keep_breaking_is_deferred_at_last(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    await here.arrives("ok@y.test")
    up.sessions[0].answer(RELAYED)
    await settle_down()
    number = await here.arrives("b@y.test")
    for _ in range(MAX_TRIES + 1):
        (session,) = up.working
        here.engine.lanes[0].circuit = type(here.engine.lanes[0].circuit)()  # pretend it had answered others before
        session.broken(BROKEN)
        here.engine.lanes[0].circuit = type(here.engine.lanes[0].circuit)()
        here.engine.changed(here.engine.lanes[0])
        await settle_down()
    assert await here.states(number) == [("deferred", 1)]


async def test_a_421_within_the_first_transaction_only_ends_that_session(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    up.sessions[0].broken(CLOSING)
    await settle_down()
    assert here.engine.lanes[0].state == "up"
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]


async def test_session_after_session_without_an_answer_is_the_upstreams_trouble(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    for _ in range(2):
        up.working[0].broken(CLOSING)
        await settle_down()
    assert here.engine.lanes[0].state == "down"
    assert await here.states(number) == [("leased", 0)], "and no attempt of the message"


async def test_a_session_that_ends_unused_is_the_upstreams_trouble(scene: Build) -> None:
    up = FakeUpstream("up", depth=1)
    here = await scene(up)
    await here.arrives("b@y.test")
    up.sessions[0].answer(RELAYED)
    await settle_down()
    here.engine.lanes[0].grow(1)
    await settle_down()
    up.sessions[1].broken(CLOSING)
    assert here.engine.lanes[0].state == "down"


async def test_an_unanswered_dot_is_an_attempt_in_doubt(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    up.sessions[0].answer(IN_DOUBT)
    await settle_down()
    assert await here.states(number) == [("deferred", 1)]
    (attempted,) = cast("list[Attempted]", here.seen(Attempted))
    assert (attempted.status, attempted.in_doubt) == (Status.DEFERRED, True)


async def test_the_next_upstream_takes_over_while_the_first_is_down(scene: Build) -> None:
    first, second = refusing("first"), FakeUpstream("second")
    here = await scene(first, second)
    number = await here.arrives("b@y.test")
    second.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)], "the refused connection cost no attempt"
    assert here.engine.lanes[0].state == "down"
    assert any("Connection refused" in notice.text for notice in cast("list[Notice]", here.seen(Notice)))


async def test_the_first_upstream_is_used_again_once_it_answers(scene: Build) -> None:
    first, second = refusing("first"), FakeUpstream("second")
    here = await scene(first, second)
    await here.arrives("b@y.test")
    first.refuses = None
    lane = here.engine.lanes[0]
    lane.probe()
    await settle_down()
    await here.arrives("c@y.test")
    assert len(first.working) == 1
    assert lane.state == "up"


async def test_connects_that_fail_together_are_one_failure(scene: Build) -> None:
    first = refusing("first")
    here = await scene(first, connections=10)
    for n in range(10):
        await here.arrives(f"r{n}@y.test")
    assert here.engine.lanes[0].circuit.failures == 1
    assert here.engine.preferred is None


async def test_an_account_that_is_refused_pauses_the_upstream_and_fails_nobody(scene: Build) -> None:
    up = FakeUpstream("up")
    up.refuses = classify(Reply(535, "wrong password", "5.7.8"), Command.AUTH, host="up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    assert here.engine.lanes[0].state == "paused"
    assert await here.states(number) == [("leased", 0)]


async def test_what_is_too_old_expires_with_a_bounce(scene: Build) -> None:
    up = refusing("up")
    here = await scene(up, settings=with_lifetime(100))
    number = await here.arrives("b@y.test")
    here.clock.wall += 101
    here.engine._expiry._next_look = 0.0
    here.engine.changed(here.engine.lanes[0])
    await settle_down()
    assert await here.states(number) == [("failed", 1)]
    (attempted,) = cast("list[Attempted]", here.seen(Attempted))
    assert (attempted.status, attempted.dsn) == (Status.EXPIRED, "5.4.7")
    assert len(here.seen(Accepted)) == 1


async def test_what_one_server_cannot_have_goes_to_the_next_of_the_route(scene: Build) -> None:
    first, second = FakeUpstream("first"), FakeUpstream("second")
    here = await scene(first, second)
    number = await here.arrives("b@y.test")
    first.sessions[0].answer(UNFIT)
    await settle_down()
    second.working[0].answer(CLOSING)
    await settle_down()
    assert first.working == [], "not where it can't be had"
    second.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]


async def test_what_no_server_can_have_fails(scene: Build) -> None:
    first, second = FakeUpstream("first"), FakeUpstream("second")
    here = await scene(first, second)
    number = await here.arrives("b@y.test")
    first.sessions[0].answer(UNFIT)
    await settle_down()
    second.working[0].answer(UNFIT)
    await settle_down()
    assert await here.states(number) == [("failed", 1)]
    assert cast("list[Attempted]", here.seen(Attempted))[0].dsn == "5.3.4"


async def test_what_only_a_down_upstream_can_have_waits_for_it(scene: Build) -> None:
    first, second = FakeUpstream("first"), refusing("second")
    here = await scene(first, second)
    number = await here.arrives("b@y.test")
    first.sessions[0].answer(UNFIT)
    await settle_down()
    assert await here.states(number) == [("leased", 0)]
    other = await here.arrives("c@y.test")
    first.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(other) == [("relayed", 1)], "the others don't wait with it"
    second.refuses = None
    here.engine.lanes[1].probe()
    await settle_down()
    second.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]


async def test_the_servers_own_limit_of_recipients_is_obeyed(scene: Build) -> None:
    up = FakeUpstream("up")
    up.max_recipients = 2
    here = await scene(up, connections=1)
    await here.arrives("b@y.test")
    up.sessions[0].answer(RELAYED)
    await here.arrives("b@y.test", "c@y.test", "d@y.test")
    assert len(up.sessions[0].begun[0].message.envelope.recipients) == 2


async def test_a_message_goes_to_the_upstream_that_the_application_named_and_no_other(scene: Build) -> None:
    first, second = FakeUpstream("first"), refusing("second")
    here = await scene(first, second)
    number = await here.arrives("b@y.test", upstream="second")
    assert first.working == []
    second.refuses = None
    here.engine.lanes[1].probe()
    await settle_down()
    second.working[0].answer(CLOSING)
    await settle_down()
    second.working[0].answer(UNFIT)
    await settle_down()
    assert await here.states(number) == [("failed", 1)], "not even to the next of the route"


async def test_an_upstream_that_is_no_more_binds_nobody(scene: Build) -> None:
    first = FakeUpstream("first")
    here = await scene(first)
    await here.arrives("b@y.test", upstream="gone")
    assert len(first.working) == 1


async def test_a_deadline_of_the_application_shortens_the_lifetime(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up, settings=with_lifetime(86_400, [600]))
    number = await here.arrives("b@y.test", not_after=here.clock.wall + 100)
    up.sessions[0].answer(LATER)
    await settle_down()
    here.clock.wall += 101
    here.engine.waiting()
    await settle_down()
    assert await here.states(number) == [("failed", 2)]
    late = await here.arrives("b@y.test", not_after=here.clock.wall - 1)
    await settle_down()
    assert await here.states(late) == [("failed", 1)], "taken, and expired at once"


async def test_many_recipients_go_in_several_transactions(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up, connections=10)
    number = await here.arrives(*(f"r{n}@y.test" for n in range(250)))
    sizes = sorted(len(s.begun[0].message.envelope.recipients) for s in up.working)
    assert sizes == [50, 100, 100]
    for session in up.working:
        session.answer(RELAYED)
    await settle_down()
    assert {state for state, _ in await here.states(number)} == {"relayed"}
    assert len(here.seen(Removed)) == 1
    assert isinstance(here.events[-1], Removed), "behind the last part's lines, however many were settled together"
    assert here.engine._window.messages == 0
    assert here.engine._window.octets == 0


async def test_delivery_pauses_while_outcomes_cannot_be_recorded(scene: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.delivery.settle.RETRY", 0.0)
    up = FakeUpstream("up")
    here = await scene(up)
    first = await here.arrives("b@y.test")
    second_number = await here.arrives("c@y.test")
    here.spool.error = SpoolFull("no room")
    up.sessions[0].answer(RELAYED)
    await settle_down()
    assert up.sessions[0].begun == [], "nothing new while results can't be kept"
    here.spool.error = None
    await settle_down(60)
    assert await here.states(first) == [("relayed", 1)]
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(second_number) == [("relayed", 1)]


async def test_what_does_not_fit_waits_in_the_spool_and_is_read_back(scene: Build) -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    here.engine._window.max_messages = 130
    numbers = [await here.arrives(f"r{n}@y.test") for n in range(140)]
    for _ in range(200):
        for session in up.working:
            session.answer(RELAYED)
        await settle_down(6)
    assert {(await here.states(number))[0] for number in numbers} == {("relayed", 1)}


async def test_stopping_lets_what_is_in_flight_end_and_gives_the_rest_back() -> None:
    up = FakeUpstream("up")
    here = Scene(up, connections=1)
    await here.engine.start()
    first = await here.arrives("b@y.test")
    second = await here.arrives("c@y.test")
    stopping = settle_down()
    import asyncio

    stop = asyncio.create_task(here.engine.stop(5.0))
    await stopping
    assert not stop.done()
    up.sessions[0].answer(RELAYED)
    await stop
    assert await here.states(first) == [("relayed", 1)]
    assert await here.states(second) == [("waiting", 0)]
    assert here.engine.reserve(1) is False


async def test_stopping_breaks_off_what_does_not_end() -> None:
    up = FakeUpstream("up")
    here = Scene(up)
    await here.engine.start()
    number = await here.arrives("b@y.test")
    await here.engine.stop(0.0)
    assert up.sessions[0].aborted
    assert await here.states(number) == [("waiting", 0)]


async def test_a_message_that_a_bug_trips_over_is_deferred_and_stops_nobody(
    scene: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    up = FakeUpstream("up", depth=2)
    here = await scene(up)
    await here.arrives("first@y.test")
    begin = FakeSession.begin

    def trips(session: FakeSession, request: DeliveryRequest) -> None:
        if request.message.envelope.recipients[0].address == "poison@y.test":
            raise ValueError("a bug")
        begin(session, request)

    monkeypatch.setattr(FakeSession, "begin", trips)
    poison = await here.arrives("poison@y.test")
    good = await here.arrives("good@y.test")
    for session in list(up.working):
        while session.begun:
            session.answer(RELAYED)
    await settle_down()
    assert await here.states(poison) == [("deferred", 1)]
    assert await here.states(good) == [("relayed", 1)]
    assert "can't be begun" in caplog.text


async def test_what_the_spool_did_not_take_back_is_still_delivered(scene: Build) -> None:
    up = refusing("up")
    here = await scene(up)
    number = await here.arrives("b@y.test")
    here.spool.error = SpoolFull("locked")
    here.engine.pause()
    with pytest.raises(SpoolFull):
        await here.engine.withdraw(frozenset({number}))
    here.engine.resume()
    here.spool.error = None
    assert here.engine.claimed == {number}
    up.refuses = None
    here.engine.lanes[0].probe()
    await settle_down()
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1)]


async def test_expiry_tells_why_nothing_was_tried(scene: Build) -> None:
    here = await scene(refusing("up"), settings=with_lifetime(100))
    await here.arrives("b@y.test")
    here.clock.wall += 101
    here.engine._expiry._next_look = 0.0
    here.engine.changed(here.engine.lanes[0])
    await settle_down()
    assert "Connection refused" in cast("list[Attempted]", here.seen(Attempted))[0].detail


async def test_a_withdrawn_message_is_back_in_the_spool(scene: Build) -> None:
    here = await scene(refusing("up"))
    number = await here.arrives("b@y.test")
    assert here.engine.claimed == {number}
    here.engine._supply.stop()
    await here.engine.withdraw(frozenset({number}))
    assert await here.states(number) == [("waiting", 0)]
    assert here.engine.claimed == frozenset()


async def test_an_operator_can_return_a_message_to_its_sender(scene: Build) -> None:
    here = await scene(refusing("up"))
    number = await here.arrives("b@y.test")
    here.engine._supply.stop()
    outcome = Outcome(Verdict.FAILED, Scope.RECIPIENT, "5.7.0", "by the operator")
    assert await here.engine.fail([number], outcome) == 1
    assert await here.states(number) == [("failed", 1)]
    assert len(here.seen(Accepted)) == 1


async def test_what_is_told_of_an_attempt_bears_the_time_after_its_commit() -> None:
    upstream = FakeUpstream("up")
    s = Scene(upstream)
    settle = s.spool.settle

    async def slowly(settlements: Sequence[Settlement]) -> frozenset[int]:
        s.clock.wall += 2.5
        return await settle(settlements)

    s.spool.settle = slowly  # type: ignore[method-assign]
    await s.engine.start()
    await s.arrives("b@y.test")
    begun = s.clock.wall
    upstream.working[0].answer(RELAYED)
    await settle_down()
    told = [event for event in s.events if isinstance(event, Attempted | Removed)]
    assert [event.at for event in told] == [begun + 2.5] * 2
    (attempted, _) = told
    assert isinstance(attempted, Attempted)
    assert sum(attempted.delays) < 1, "the commit is no part of the delivery"
    await s.engine.stop(1)
