"""Suppressed addresses at the door and in delivery, and what puts them there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.delivery.brake import Brake
from relay.delivery.braking import Braking
from relay.delivery.hearing import Hearing
from relay.delivery.suppressing import Suppressing
from relay.events import Attempted, Bounced, Notice, Reported, Suppressed
from relay.feedback import Feedback, Said
from relay.lessons import Source
from relay.mail import Priority, queue_id
from relay.outcome import Command, Outcome, Reply, classify
from relay.settings import BrakeSettings, SuppressionSettings
from relay.spool import SpoolError
from relay.suppression import Cause, Suppression, digest_of
from tests.delivery.scene import LATER, REFUSED, RELAYED, START, FakeUpstream, Scene, settle_down

DAY = 86400.0
REFUSE, ACCEPT = SuppressionSettings(ttl=DAY), SuppressionSettings(at_the_door="accept", ttl=DAY)


async def scene(settings: SuppressionSettings | None = REFUSE) -> tuple[Scene, FakeUpstream, Suppressing]:
    up = FakeUpstream("up")
    here = Scene(up)
    suppressing = here.engine.suppressing = Suppressing(here.spool, here.clock, here.events.append, settings)
    await suppressing.load()
    await here.engine.start()
    return here, up, suppressing


def by_hand(address: str) -> Suppression:
    return Suppression(address, Cause.OPERATOR, START, None, "no more")


async def test_a_hard_bounce_suppresses_the_address_for_its_time() -> None:
    here, up, suppressing = await scene()
    number = await here.arrives("Gone@y.test", "here@y.test")
    up.working[0].answer(REFUSED, RELAYED)
    await settle_down()
    await suppressing.written()
    (told,) = here.seen(Suppressed)
    assert told == Suppressed(
        START,
        queue_id(number),
        "Gone@y.test",
        "bounce",
        "2027-01-16T08:00:00+00:00",
        "host up said: 550 5.1.1 unknown (in reply to RCPT TO command)",
    )
    (kept,) = here.spool.listed.values()
    assert (kept.address, kept.cause, kept.until) == ("Gone@y.test", Cause.BOUNCE, START + DAY)
    reply = suppressing.refusal("gone@Y.test")
    assert str(reply) == (
        "550 5.1.1 <gone@Y.test>: Recipient address rejected: suppressed after a hard bounce,"
        " until 2027-01-16T08:00:00+00:00"
    )
    assert suppressing.refusal("here@y.test") is None
    here.clock.wall += DAY
    assert suppressing.refusal("gone@y.test") is None


@pytest.mark.parametrize("dsn", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"])
async def test_which_refusals_are_hard(dsn: str) -> None:
    here, up, suppressing = await scene()
    await here.arrives("b@y.test")
    up.working[0].answer(classify(Reply(550, "no", dsn), Command.RCPT, host="up"))
    await settle_down()
    assert suppressing.refusal("b@y.test") is not None


@pytest.mark.parametrize(
    "outcome",
    [
        LATER,
        classify(Reply(550, "no", "5.7.1"), Command.RCPT, host="up"),
        classify(Reply(550, "no"), Command.RCPT, host="up"),
        classify(Reply(450, "no", "4.1.1"), Command.RCPT, host="up"),
        # Of the message: each of its recipients would be suppressed for its sender or content.
        classify(Reply(550, "no", "5.1.1"), Command.CONTENT, host="up"),
    ],
)
async def test_which_are_not(outcome: Outcome) -> None:
    here, up, suppressing = await scene()
    await here.arrives("b@y.test")
    up.working[0].answer(outcome)
    await settle_down()
    assert suppressing.refusal("b@y.test") is None
    assert not here.spool.listed


async def test_hard_bounces_can_be_left_alone() -> None:
    here, up, suppressing = await scene(replace(REFUSE, hard_bounces=False))
    await here.arrives("b@y.test")
    up.working[0].answer(REFUSED)
    await settle_down()
    assert suppressing.refusal("b@y.test") is None


async def test_without_the_table_the_list_is_not_used() -> None:
    here, up, suppressing = await scene(None)
    await suppressing.suppress([by_hand("b@y.test")])
    assert suppressing.refusal("b@y.test") is None
    await here.arrives("b@y.test")
    up.working[0].answer(REFUSED)
    await settle_down()
    assert not here.seen(Suppressed)


async def test_where_it_is_accepted_nobody_is_told_and_nothing_goes() -> None:
    here, up, suppressing = await scene(ACCEPT)
    await suppressing.suppress([by_hand("gone@y.test")])
    assert suppressing.refusal("gone@y.test") is None
    number = await here.arrives("a@y.test", "GONE@y.test", "c@y.test")
    (request,) = up.working[0].begun
    assert [each.address for each in request.message.envelope.recipients] == ["a@y.test", "c@y.test"]
    up.working[0].answer(RELAYED)
    await settle_down()
    assert await here.states(number) == [("relayed", 1), ("suppressed", 0), ("relayed", 1)]
    attempted = {each.recipient: each for each in here.seen(Attempted) if isinstance(each, Attempted)}
    gone = attempted["GONE@y.test"]
    assert (gone.relay, gone.status, gone.dsn, gone.detail) == ("none", "bounced", "5.1.1", "suppressed by an operator")
    assert not here.seen(Bounced)
    assert here.engine._window.messages == 0, "its room is free again"


async def test_what_slips_past_the_door_is_told_of() -> None:
    here, _, suppressing = await scene()
    await suppressing.suppress([by_hand("gone@y.test")])
    number = await here.arrives("gone@y.test")
    assert await here.states(number) == [("suppressed", 0)]
    assert len(here.seen(Bounced)) == 1


async def test_what_waits_in_memory_does_not_go_to_who_is_suppressed_meanwhile() -> None:
    here, up, suppressing = await scene()
    for _ in range(2):  # the connections that there are
        await here.arrives("c@y.test")
    alone, beside = await here.arrives("b@y.test"), await here.arrives("b@y.test", "d@y.test")
    await suppressing.suppress([by_hand("b@y.test")])
    for _ in range(3):
        up.working[0].answer(RELAYED)
        await settle_down()
    ((first, _),) = await here.states(alone)
    (second, _), (other, _) = await here.states(beside)
    assert (first, second, other) == ("suppressed", "suppressed", "relayed")


async def test_a_notification_to_a_suppressed_sender_is_no_dead_letter() -> None:
    here, _, suppressing = await scene()
    await suppressing.suppress([by_hand("a@x.test"), by_hand("gone@y.test")])
    await here.arrives("gone@y.test", sender="a@x.test")
    here.engine.waiting()
    await settle_down()
    states = [row.state for kept in here.spool.kept.values() for row in kept.rows]
    assert states == ["suppressed", "suppressed"]


async def test_the_list_outlives_the_process_and_what_is_removed_gets_mail() -> None:
    here, _, suppressing = await scene()
    await suppressing.suppress([by_hand("b@y.test"), by_hand("c@y.test")])
    again = Suppressing(here.spool, here.clock, here.events.append, REFUSE)
    assert again.refusal("b@y.test") is None
    await again.load()
    assert again.refusal("b@y.test") is not None
    assert await again.unsuppress([digest_of("B@y.test"), digest_of("x@y.test")]) == 1
    assert again.refusal("b@y.test") is None
    assert [each.address for each in here.spool.listed.values()] == ["c@y.test"]


async def test_a_bounce_does_not_end_what_stands_for_good() -> None:
    here, _, suppressing = await scene()
    await suppressing.suppress([by_hand("b@y.test")])
    suppressing.bounced("b@y.test", "550 5.1.1")
    await suppressing.written()
    assert here.spool.listed[digest_of("b@y.test")].cause is Cause.OPERATOR
    assert not here.seen(Suppressed)


async def test_what_can_not_be_written_counts_all_the_same() -> None:
    here, _, suppressing = await scene()
    here.spool.error = SpoolError("no")
    suppressing.complained("b@y.test", "abuse")
    await suppressing.written()
    assert suppressing.refusal("b@y.test") is not None


async def test_what_is_over_is_forgotten() -> None:
    here, _, suppressing = await scene()
    suppressing.bounced("b@y.test", "550 5.1.1")
    suppressing.complained("c@y.test", "abuse")
    await suppressing.written()
    here.clock.wall += DAY
    await suppressing.forget()
    assert [each.address for each in here.spool.listed.values()] == ["c@y.test"]
    assert len(suppressing._list) == 1


# -- feedback -------------------------------------------------------------------------------------------------------
COMPLAINT = Feedback(Said.COMPLAINT, "b@y.test", "ses", sender="other@x.test", detail="abuse")


async def heard(here: Scene, said: Feedback, upstream: str = "") -> None:
    await Hearing(here.spool, here.clock, here.events.append, here.engine).take([said], upstream)
    if here.engine.suppressing is not None:
        await here.engine.suppressing.written()


async def braked(here: Scene, settings: BrakeSettings) -> Braking:
    braking = here.engine.braking = Braking(
        here.spool, here.clock, here.events.append, settings, here.engine.upstreams_of
    )
    await braking.load()
    return braking


async def test_a_complaint_suppresses_until_an_operator_says_otherwise() -> None:
    here, _, suppressing = await scene()
    await heard(here, COMPLAINT)
    assert here.spool.listed[digest_of("b@y.test")].until is None
    assert here.seen(Reported) == [Reported(START, "", "b@y.test", "complaint", "ses", "abuse")]
    here.clock.wall += 1000 * DAY
    assert suppressing.refusal("b@y.test") is not None


async def test_a_bounce_that_comes_later_suppresses_where_it_is_hard() -> None:
    here, _, suppressing = await scene()
    await heard(here, Feedback(Said.BOUNCE, "b@y.test", "ses", hard=True))
    await heard(here, Feedback(Said.BOUNCE, "c@y.test", "ses"))
    assert suppressing.refusal("b@y.test") is not None
    assert suppressing.refusal("c@y.test") is None


async def test_complaints_brake_the_bulk_mail_of_the_message_that_they_are_about() -> None:
    here, up, _ = await scene(None)
    braking = await braked(here, BrakeSettings(complaints=0.1, minimum=5))
    numbers = []
    for n in range(5):
        numbers.append(await here.arrives(f"{n}@y.test", sender="news@x.test", priority=Priority.BULK, tag="may"))
        up.working[0].answer(RELAYED)
        await settle_down()
    await heard(here, replace(COMPLAINT, recipient="3@Y.test", queue_id=queue_id(numbers[3])))
    stopped = [str(each.source) for each in braking.standing()]
    assert stopped == ["upstream:up", "sender:news@x.test", "tag:may"]
    (warning, *_) = [each.text for each in here.events if isinstance(each, Notice) and each.warning]
    assert "1 of 5 recipients complained (20 %, above 10 %)" in warning
    held = await here.arrives("c@y.test", sender="news@x.test", priority=Priority.BULK)
    await settle_down()
    assert await here.states(held) == [("held", 0)]


async def test_a_report_that_shows_nothing_goes_by_what_it_says() -> None:
    here, up, _ = await scene(None)
    braking = await braked(here, BrakeSettings(complaints=0.1, minimum=1))
    number = await here.arrives("b@y.test", sender="news@x.test")
    up.working[0].answer(RELAYED)
    await settle_down()
    # Its id, but a recipient that the message never had: anybody can write an id.
    await heard(here, replace(COMPLAINT, recipient="x@y.test", queue_id=queue_id(number)), "up")
    assert [str(each.source) for each in braking.standing()] == ["upstream:up"]
    assert here.seen(Reported)[-1] == Reported(START, "", "x@y.test", "complaint", "ses", "abuse")


def test_complaints_are_counted_only_where_there_is_a_share() -> None:
    assert Brake(BrakeSettings(complaints=0.001)).is_set
    brake = Brake(BrakeSettings(bounces=0.1, minimum=1))
    assert brake.count([Source("tag", "x")], now=START, ended=1, complained=1) == []
