"""Bulk mail of what fails too much is held, and nothing else is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.brake import SLICES, SOURCES, Brake, Tally, sources_of
from relay.delivery.braking import Braking
from relay.events import Attempted, Notice
from relay.lessons import BrakeRecord, Source
from relay.mail import Envelope, Message, Priority, Recipient
from relay.outcome import Outcome
from relay.settings import BrakeSettings
from relay.spool import Settlement
from tests.delivery.scene import LATER, REFUSED, RELAYED, START, FakeUpstream, Scene, settle_down

NEWS = Source("sender", "news@x.test")
TENTH = BrakeSettings(bounces=0.1, minimum=10)


def test_few_prove_nothing_and_a_larger_share_of_enough_stops() -> None:
    brake = Brake(TENTH)
    assert brake.count([NEWS], ended=9, bounced=9, deferred=0, now=0.0) == []
    (record,) = brake.count([NEWS], ended=1, bounced=0, deferred=0, now=1.0)
    assert record == BrakeRecord(NEWS, 1.0, "9 of 10 recipients bounced (90 %, above 10 %)")
    assert brake.count([NEWS], ended=1, bounced=1, deferred=0, now=1.0) == [], "said once"
    assert brake.stops([Source("tag", "a"), NEWS]) == record
    assert brake.release(NEWS)
    assert not brake.release(NEWS)
    assert brake.count([NEWS], ended=9, bounced=9, deferred=0, now=2.0) == [], "counted anew"


def test_just_the_share_is_borne_and_deferrals_have_their_own() -> None:
    brake = Brake(BrakeSettings(bounces=0.1, deferrals=0.3, minimum=10))
    assert brake.count([NEWS], ended=100, bounced=10, deferred=30, now=0.0) == []
    (record,) = brake.count([NEWS], ended=1, bounced=0, deferred=1, now=0.0)
    assert record.reason == "31 of 101 recipients were deferred (30.7 %, above 30 %)"
    assert not Brake(BrakeSettings()).is_set


def test_no_more_sources_are_counted_than_there_is_room_for() -> None:
    brake = Brake(TENTH)
    brake.count([NEWS], ended=9, bounced=9, deferred=0, now=0.0)
    for n in range(SOURCES):
        brake.count([Source("sender", f"{n}@x.test")], ended=1, bounced=0, deferred=0, now=0.0)
    assert brake.count([NEWS], ended=1, bounced=1, deferred=0, now=0.0) == [], "it was silent longest"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_a_tally_is_what_a_window_holds(steps: list[tuple[int, int, int]]) -> None:
    tally, kept = Tally(), deque[tuple[int, tuple[int, int, int, int]]]()
    number = 0
    for later, bounced, deferred in steps:
        number += later
        counts = (bounced + deferred, bounced, deferred, later)
        tally.add(counts, number)
        kept.append((number, counts))
        within = [counts for at, counts in kept if at > number - SLICES]
        assert tally.sums == [sum(column) for column in zip(*within, strict=True)]


def test_the_sources_of_a_message() -> None:
    message = Message(1, Envelope("News@X.test", (Recipient(0, "b@y.test"),)), 1, 0.0, tag="may")
    assert [str(each) for each in sources_of(message, ["ses"])] == ["upstream:ses", "sender:news@x.test", "tag:may"]


async def scene(settings: BrakeSettings = TENTH) -> tuple[Scene, FakeUpstream, Braking]:
    up = FakeUpstream("up", depth=2)
    here = Scene(up)
    braking = here.engine.braking = Braking(
        here.spool, here.clock, here.events.append, settings, here.engine.upstreams_of
    )
    await braking.load()
    await here.engine.start()
    return here, up, braking


async def send(here: Scene, up: FakeUpstream, count: int, outcome: Outcome, sender: str = "news@x.test") -> None:
    for n in range(count):
        await here.arrives(f"{n}@y.test", sender=sender, priority=Priority.BULK, tag="may")
        await answered(up, outcome)


async def answered(up: FakeUpstream, outcome: Outcome) -> None:
    """All that is on its way gets that answer; notifications of ours are taken."""
    while busy := up.working:
        busy[0].answer(outcome if busy[0].begun[0].message.envelope.sender else RELAYED)
        await settle_down()


@pytest.mark.parametrize(("outcome", "settings"), [(REFUSED, TENTH), (LATER, BrakeSettings(deferrals=0.1, minimum=10))])
async def test_bulk_mail_is_held_and_urgent_mail_goes_on(outcome: Outcome, settings: BrakeSettings) -> None:
    here, up, braking = await scene(settings)
    await send(here, up, 8, RELAYED)
    await send(here, up, 2, outcome)
    assert [str(each.source) for each in braking.standing()] == ["upstream:up", "sender:news@x.test", "tag:may"]
    warnings = [event.text for event in here.events if isinstance(event, Notice) and event.warning]
    assert "relay brake release sender:news@x.test resumes it" in warnings[1]
    number = await here.arrives("c@y.test", sender="news@x.test", priority=Priority.BULK)
    await settle_down()
    assert await here.states(number) == [("held", 0)]
    last = here.seen(Attempted)[-1]
    assert isinstance(last, Attempted)
    assert "brake on upstream:up: 2 of 10 recipients" in last.detail
    await here.arrives("d@y.test", sender="news@x.test", priority=Priority.URGENT)
    await here.arrives("e@y.test", sender="news@x.test")
    assert sum(len(session.begun) for session in up.working) == 2


async def test_what_is_ready_when_it_trips_is_held_too_and_all_goes_on_when_it_is_released() -> None:
    here, up, braking = await scene()
    await send(here, up, 8, RELAYED)
    numbers = [await here.arrives(f"{n}@y.test", sender="news@x.test", priority=Priority.BULK) for n in range(9)]
    await answered(up, REFUSED)
    states = [(await here.states(number))[0][0] for number in numbers]
    assert states.count("held") >= 3, "all but what was on its way"
    for source in ("upstream:up", "sender:news@x.test"):
        kind, _, name = source.partition(":")
        released = await braking.release(Source(kind, name))
    assert released is not None
    assert [str(each.source) for each in braking.standing()] in ([], ["tag:may"])
    assert await braking.release(NEWS) is None
    assert "held" not in [(await here.states(number))[0][0] for number in numbers]


async def test_what_is_being_held_when_it_is_released_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    here, up, _ = await scene()
    await here.spool.brake(BrakeRecord(NEWS, START, "12 of 100 recipients bounced"))
    braking = here.engine.braking = Braking(here.spool, here.clock, here.events.append, TENTH, here.engine.upstreams_of)
    await braking.load()
    gate, settle = asyncio.Event(), here.spool.settle

    async def slowly(settlements: Sequence[Settlement]) -> frozenset[int]:
        await gate.wait()
        return await settle(settlements)

    monkeypatch.setattr(here.spool, "settle", slowly)
    number = await here.arrives("c@y.test", sender="news@x.test", priority=Priority.BULK)
    releasing = asyncio.create_task(braking.release(NEWS))
    await settle_down()
    gate.set()
    await settle_down()
    assert await releasing == 1
    here.engine.waiting()  # as the operators' desk has it
    await settle_down()
    assert len(up.working[0].begun) == 1
    assert (await here.states(number))[0][0] != "held"


async def test_what_is_stopped_outlives_the_process() -> None:
    here, up, _ = await scene()
    await here.spool.brake(BrakeRecord(NEWS, START, "12 of 100 recipients bounced"))
    again = here.engine.braking = Braking(
        here.spool, here.clock, here.events.append, BrakeSettings(), here.engine.upstreams_of
    )
    await again.load()
    number = await here.arrives("c@y.test", sender="NEWS@x.test", priority=Priority.BULK)
    await settle_down()
    assert await here.states(number) == [("held", 0)]
    assert not up.working
