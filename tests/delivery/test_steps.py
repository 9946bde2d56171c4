"""The wall clock is set ahead: mail ages by what it lived through, and by that alone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from relay.delivery.settle import LAST_TRY
from relay.delivery.steps import Steps
from relay.events import Attempted, Status
from relay.mail import Envelope, Message, Recipient
from relay.spool import Arrival
from tests.delivery.scene import LATER, FakeUpstream, Scene, StandingClock, refusing, settle_down, with_lifetime
from tests.delivery.test_delays import HOURS, Warnings

DAY = 86400.0


def test_what_was_set_ahead_is_known_for_a_span_of_life() -> None:
    clock = StandingClock()
    steps = Steps(clock)
    clock.wall += 1000
    assert steps.ahead(5 * DAY) == 0.0
    clock.set_by = 90 * DAY
    assert steps.ahead(5 * DAY) == 90 * DAY
    clock.wall += 4 * DAY
    clock.set_by += 3600
    assert steps.ahead(5 * DAY) == 90 * DAY + 3600, "another step begins the span anew"
    clock.wall += 4 * DAY
    assert steps.ahead(5 * DAY) == 90 * DAY + 3600
    clock.wall += DAY
    assert steps.ahead(5 * DAY) == 0.0
    clock.wall += 1000
    assert steps.ahead(5 * DAY) == 0.0


@pytest.mark.parametrize("step", [-DAY, -0.5, 0.5])
def test_a_step_back_and_a_clock_that_runs_a_little_fast_age_nothing(step: float) -> None:
    clock = StandingClock()
    steps = Steps(clock)
    clock.set_by = step
    assert steps.ahead(DAY) == 0.0
    clock.set_by = 0.0
    assert steps.ahead(DAY) == (DAY if step == -DAY else 0.0), "set right again is set ahead"


async def waiting_mail(lifetime: float, **asked: Any) -> tuple[Scene, int]:
    here = Scene(refusing("up"), settings=with_lifetime(lifetime))
    await here.engine.start()
    return here, await here.arrives("b@y.test", **asked)


async def look(here: Scene) -> None:
    here.engine._expiry._next_look = 0.0
    here.engine.changed(here.engine.lanes[0])
    await settle_down()


async def test_mail_that_waits_is_not_a_year_old_by_a_clock_that_was_set_right() -> None:
    here, number = await waiting_mail(100)
    here.clock.set_by = 365 * DAY
    await look(here)
    assert await here.states(number) == [("leased", 0)]
    since = await here.arrives("c@y.test")
    here.clock.wall += 99
    await look(here)
    assert await here.states(number) == [("leased", 0)]
    here.clock.wall += 1
    await look(here)
    assert await here.states(number) == [("failed", 1)], "its own hundred seconds are over"
    assert await here.states(since) == [("failed", 1)], "and so are those of what came at the same time"
    await here.engine.stop(0.0)


async def test_what_a_relay_that_was_off_for_days_finds_is_tried_before_it_expires() -> None:
    up = FakeUpstream("up")
    here = Scene(up, settings=with_lifetime(5 * DAY, backoff=(60.0,)))
    number = here.spool.allocate(here.clock.now())
    envelope = Envelope("a@x.test", (Recipient(0, "b@y.test"),))
    await here.spool.accept(Arrival(Message(number, envelope, 4, here.clock.now() - 7 * DAY), b"\r\n\r\n"))
    await here.engine.start()
    await settle_down()
    up.working[0].answer(LATER)
    await settle_down()
    assert await here.states(number) == [("deferred", 1)]
    here.clock.wall += LAST_TRY
    here.engine.waiting()
    await settle_down()
    assert await here.states(number) == [("failed", 2)]
    await here.engine.stop(0.0)


async def test_a_deadline_is_a_date() -> None:
    here, number = await waiting_mail(100, not_after=StandingClock().now() + 50)
    here.clock.set_by = DAY
    await look(here)
    assert await here.states(number) == [("failed", 1)]
    await here.engine.stop(0.0)


async def test_what_is_deferred_by_a_clock_that_was_set_ahead_waits_its_time() -> None:
    up = FakeUpstream("up")
    here = Scene(up, settings=with_lifetime(1000, backoff=(60.0,)))
    await here.engine.start()
    number = await here.arrives("b@y.test")
    here.clock.set_by = DAY
    up.working[0].answer(LATER)
    await settle_down()
    assert await here.spool.next_due(here.clock.now()) == here.clock.now() + 60
    (attempted,) = cast("list[Attempted]", here.seen(Attempted))
    assert attempted.status is Status.DEFERRED
    assert await here.states(number) == [("deferred", 1)]
    await here.engine.stop(0.0)


async def test_nobody_hears_of_a_delay_that_was_none() -> None:
    here = Warnings()
    await here.arrives("b@y.test")
    here.clock.set_by = 365 * DAY
    assert await here.delays.look() == 4 * HOURS
    assert here.told == []
    here.clock.wall += 4 * HOURS + 1
    await here.delays.look()
    assert len(here.told) == 1
