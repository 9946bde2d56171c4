"""A lane whose upstream refuses us: it pauses, is tried with one message, and comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.daemon.desk import Desk
from relay.delivery.lane import Lane, LaneLimits
from relay.delivery.regulator import UNTRIED
from relay.events import Attempted, Notice
from relay.outcome import Command, Outcome, Reply, Trouble, classify, unavailable
from tests.delivery.scene import BROKEN, LATER, REFUSED, RELAYED, FakeUpstream, Scene, settle_down

THROTTLED = replace(classify(Reply(454, "Throttling failure", "4.7.0"), Command.MAIL, host="up"), trouble=Trouble.RATE)
SPENT = replace(THROTTLED, trouble=Trouble.QUOTA)
WRONG = classify(Reply(535, "wrong password", "5.7.8"), Command.AUTH, host="up")
CROWDED = replace(THROTTLED, trouble=Trouble.CONNECTIONS)


def texts(scene: Scene) -> list[str]:
    return [event.text for event in scene.events if isinstance(event, Notice)]


def state(lane: Lane) -> str:
    return lane.state


def no_longer_new(lane: Lane) -> None:
    """It may have as many connections as there is work for."""
    for _ in range(UNTRIED):
        lane.regulator.took(1, 0.0)


async def after_the_pause(scene: Scene, lane: Lane) -> None:
    assert lane.circuit.retry_at is not None
    lane.circuit = replace(lane.circuit, retry_at=0.0)
    scene.engine.changed(lane)
    await settle_down()


async def paused(outcome: Outcome, messages: int = 5, depth: int = 2) -> tuple[Scene, FakeUpstream, Lane]:
    """A scene whose only upstream refused what it was given, and whose sessions ended over it as SMTP's do."""
    up = FakeUpstream("up", depth)
    scene = Scene(up)
    for n in range(messages):
        await scene.arrives(f"{n}@y.test")
    (lane,) = scene.engine.lanes
    for session in up.working:
        while session.begun:
            session.answer(outcome)
        session.broken(outcome)
    await settle_down()
    return scene, up, lane


@pytest.mark.parametrize("outcome", [THROTTLED, SPENT, replace(SPENT, trouble=Trouble.ACCOUNT)])
async def test_refusals_at_the_same_time_are_one_pause_and_charge_nobody(outcome: Outcome) -> None:
    scene, up, lane = await paused(outcome)
    assert state(lane) == "paused"
    assert lane.circuit.failures == 1
    assert not up.working, "nothing is sent while it pauses"
    assert len([text for text in texts(scene) if "upstream up is paused" in text]) == 1
    assert not scene.seen(Attempted)
    assert len(scene.engine.claimed) == 5


@pytest.mark.parametrize(("outcome", "warning"), [(THROTTLED, False), (SPENT, True)])
async def test_a_pause_that_may_take_a_day_is_a_warning(outcome: Outcome, warning: bool) -> None:
    scene, _, _ = await paused(outcome)
    (notice,) = [e for e in scene.events if isinstance(e, Notice) and "is paused" in e.text]
    assert notice.warning is warning


async def test_what_waits_for_a_paused_upstream_is_told_until_when() -> None:
    scene, _, lane = await paused(SPENT, messages=1)
    (number,) = scene.engine.claimed
    waits_for = Desk(scene.engine).waits_for(number)
    assert waits_for == f"an upstream (up is {lane.condition}: {lane.last_error})"
    assert "paused (quota) until 2" in waits_for


async def test_one_message_is_the_trial_and_a_taken_one_lets_all_go() -> None:
    scene, up, lane = await paused(SPENT)
    assert "paused (quota) until 2" in lane.condition
    lane.circuit = replace(lane.circuit, retry_at=0.0)
    assert "with the next message" in lane.condition
    await after_the_pause(scene, lane)
    assert [len(session.begun) for session in up.working] == [1]
    assert state(lane) == "paused"
    assert "being tried" in lane.condition
    up.working[0].answer(RELAYED)
    await settle_down()
    assert state(lane) == "up"
    assert sum(len(session.begun) for session in up.working) == 4
    assert texts(scene)[-1] == "upstream up is up again"


async def test_a_trial_that_is_refused_is_the_next_longer_pause() -> None:
    scene, up, lane = await paused(THROTTLED)
    await after_the_pause(scene, lane)
    now = lane._loop.time()
    up.working[0].answer(THROTTLED)
    await settle_down()
    assert lane.circuit.retry_at == pytest.approx(now + 10.0, abs=1.0)
    assert not up.working


@pytest.mark.parametrize("inconclusive", [BROKEN, REFUSED])
async def test_a_trial_that_tells_nothing_leaves_it_to_the_next_message(inconclusive: Outcome) -> None:
    scene, up, lane = await paused(SPENT)
    await after_the_pause(scene, lane)
    session = up.working[0]
    if inconclusive is BROKEN:
        session.broken(BROKEN)
    else:
        session.answer(REFUSED)
    await settle_down()
    assert [len(session.begun) for session in up.working] == [1], "again one, on whatever session"
    assert state(lane) == "paused"
    up.working[0].answer(LATER)
    await settle_down()
    assert state(lane) == "up", "it has looked at a message again"


async def test_mail_goes_to_the_next_upstream_while_one_message_is_on_trial() -> None:
    first, second = FakeUpstream("first"), FakeUpstream("second")
    scene = Scene(first, second, connections=1)
    await scene.arrives("0@y.test")
    lane = scene.engine.lanes[0]
    first.working[0].answer(SPENT)
    await settle_down()
    assert [len(each.begun) for each in second.working] == [1], "at once"
    second.working[0].answer(RELAYED)
    await settle_down()
    await scene.arrives("1@y.test")
    await scene.arrives("2@y.test")
    await after_the_pause(scene, lane)
    assert state(lane) == "paused"
    begun = [len(each.begun) for each in (*first.working, *second.working)]
    assert begun == [1, 1], "one is the trial, the other does not wait for it"


async def test_a_session_that_ends_late_over_what_was_heard_before_is_no_new_trouble() -> None:
    up = FakeUpstream("up")
    scene = Scene(up, connections=1)
    await scene.arrives("b@y.test")
    await scene.arrives("c@y.test")
    (lane,) = scene.engine.lanes
    old = up.working[0]
    old.depth = 0  # an SMTP session says nothing more after such a reply
    old.answer(THROTTLED)
    lane.circuit = replace(lane.circuit, retry_at=None, trouble=None, failures=0)
    old.broken(THROTTLED)
    await settle_down()
    assert state(lane) == "up"


async def test_until_one_login_succeeded_there_is_one_at_a_time() -> None:
    up = FakeUpstream("up")
    scene = Scene()
    lane = Lane(up, LaneLimits(10, 100, authenticates=True), scene.engine, lambda: 0.5)
    no_longer_new(lane)
    scene.engine.route([lane])
    up.refuses = WRONG
    for n in range(20):
        await scene.arrives(f"{n}@y.test")
    assert up.connects == 1
    assert state(lane) == "paused"
    up.refuses = None
    await after_the_pause(scene, lane)
    assert lane.connections == 10, "then as many as there is work for"
    assert lane.circuit.refused == ()
    assert texts(scene)[-1] == "upstream up is up again"


async def test_a_password_that_is_changed_meanwhile_costs_three_logins_and_no_more() -> None:
    up = FakeUpstream("up")
    scene = Scene()
    lane = Lane(up, LaneLimits(10, 100, authenticates=True), scene.engine, lambda: 0.5)
    no_longer_new(lane)
    scene.engine.route([lane])
    await scene.arrives("0@y.test")
    assert up.connects == 1
    up.refuses = WRONG
    lane.grow(20)
    await settle_down()
    assert up.connects == 4
    assert lane.circuit.logins_left(lane._loop.time()) == 0
    assert lane.circuit.retry_at is not None
    assert lane.circuit.retry_at == pytest.approx(lane._loop.time() + 600, abs=5)


async def test_too_many_connections_is_a_ceiling_where_there_is_one_and_a_pause_where_there_is_none() -> None:
    up = FakeUpstream("up")
    scene = Scene(up, connections=5)
    await scene.arrives("0@y.test")
    (lane,) = scene.engine.lanes
    up.refuses = unavailable("421 too many", trouble=Trouble.CONNECTIONS)
    for n in range(10):
        await scene.arrives(f"{n}@y.test")
    assert (state(lane), lane.connections, up.connects) == ("backoff", 1, 2)
    assert len([text for text in texts(scene) if "no more than 1 connections" in text]) == 1
    up.sessions[0].answer(RELAYED)
    await settle_down()
    assert up.connects == 2, "mail goes on over the one, and no other is tried now"
    assert up.sessions[0].begun
    up.sessions[0].answer(CROWDED)
    up.sessions[0].broken(CROWDED)
    await settle_down()
    assert (state(lane), lane.connections) == ("paused", 0)
