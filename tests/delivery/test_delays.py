"""Delay warnings: who is told, when the next look is, what a reload and an operator change."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from relay.delivery.delays import LEAST, DelayWarnings
from relay.delivery.doubt import FAIL, HOLD, RETRY, decided, is_held, killed
from relay.events import Accepted, Bounced, Event, Notification
from relay.mail import Envelope, Message, Recipient
from relay.outcome import Command, Reply, Verdict, classify
from relay.settings import QueueSettings
from relay.spool import Arrival, SpoolFull
from tests.delivery.scene import IN_DOUBT, StandingClock, settle_down
from tests.fake_spool import FakeSpool

HOURS = 3600.0


class Warnings:
    """Delay warnings over a spool in memory."""

    def __init__(self, **settings: object) -> None:
        self.spool = FakeSpool()
        self.clock = StandingClock()
        self.events: list[Event] = []
        self.rung = 0
        self.settings = replace(QueueSettings(), **settings)  # type: ignore[arg-type]
        self.delays = DelayWarnings(
            self.spool,
            self.clock,
            self.events.append,
            lambda: self.settings,
            self.ring,
            lambda: "connect to up: refused",
            reporter="relay.test",
        )

    def ring(self) -> None:
        self.rung += 1

    async def arrives(self, *recipients: str, sender: str = "a@x.test") -> int:
        number = self.spool.allocate(self.clock.wall)
        envelope = Envelope(sender, tuple(Recipient(n, address) for n, address in enumerate(recipients)))
        message = Message(number, envelope, 4, self.clock.wall, "<1@x.test>", "localhost[127.0.0.1]")
        await self.spool.accept(Arrival(message, b"\r\n\r\n"))
        return number

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.queue_id, event.kind) for event in self.events if isinstance(event, Bounced)]


async def test_a_sender_is_told_once_when_it_is_time() -> None:
    here = Warnings()
    number = await here.arrives("b@y.test")
    assert await here.delays.look() == 4 * HOURS
    here.clock.wall += 4 * HOURS - 1
    assert await here.delays.look() == LEAST
    assert not here.told
    here.clock.wall += 2
    await here.delays.look()
    assert here.told == [(f"{number:X}", Notification.DELAY)]
    assert here.rung == 1
    (accepted,) = (event for event in here.events if isinstance(event, Accepted))
    kept = here.spool.kept[int(accepted.queue_id, 16)]
    assert [r.address for r in kept.message.envelope.recipients] == ["a@x.test"]
    assert kept.message.is_notification
    assert b"X-Relay; connect to up: refused" in kept.parts[0]
    here.clock.wall += 40 * HOURS
    await here.delays.look()
    assert len(here.told) == 1, "not again, and not of the notification, which waits as long"


async def test_what_an_operator_let_go_is_told_of_within_another_period() -> None:
    here = Warnings()
    number = await here.arrives("b@y.test")
    await here.spool.hold([number])
    here.clock.wall += 5 * HOURS
    assert await here.delays.look() == 4 * HOURS
    await here.spool.release([number], here.clock.wall)
    here.clock.wall += 4 * HOURS
    await here.delays.look()
    assert len(here.told) == 1


async def test_more_than_a_page_is_told_of() -> None:
    here = Warnings()
    for _ in range(250):
        await here.arrives("b@y.test")
    here.clock.wall += 5 * HOURS
    await here.delays.look()
    assert len(here.told) == 250


async def test_off_is_off_and_a_reload_wakes_it() -> None:
    here = Warnings(delay_warning=None)
    await here.arrives("b@y.test")
    here.clock.wall += 5 * HOURS
    task = asyncio.create_task(here.delays.run())
    await settle_down()
    assert not here.told
    here.settings = replace(here.settings, bounces="off", delay_warning=60.0)
    here.delays.look_again()
    await settle_down()
    assert not here.told
    here.settings = replace(here.settings, bounces="default")
    here.delays.look_again()
    await settle_down()
    assert len(here.told) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_full_spool_tells_later() -> None:
    here = Warnings()
    await here.arrives("b@y.test")
    here.clock.wall += 5 * HOURS
    here.spool.error = SpoolFull("full")
    task = asyncio.create_task(here.delays.run())
    await settle_down()
    assert not task.done()
    here.spool.error = None
    here.delays.look_again()
    await settle_down()
    assert len(here.told) == 1
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- in doubt -------------------------------------------------------------------------------------------------------
def test_the_policy_is_for_what_is_in_doubt() -> None:
    sure = classify(Reply(451, "later"), Command.CONTENT)
    for policy in (RETRY, HOLD, FAIL):
        assert decided(sure, policy) is sure
        assert not is_held(sure, policy)
    assert decided(IN_DOUBT, RETRY) is IN_DOUBT
    assert decided(IN_DOUBT, HOLD).verdict is Verdict.DEFERRED
    assert decided(IN_DOUBT, HOLD).detail.startswith("in doubt: lost connection with up; held")
    failed = decided(IN_DOUBT, FAIL)
    assert (failed.verdict, failed.dsn, failed.in_doubt) == (Verdict.FAILED, "5.4.0", True)
    assert [is_held(IN_DOUBT, policy) for policy in (RETRY, HOLD, FAIL)] == [False, True, False]


def test_a_killed_relay_leaves_doubt() -> None:
    outcome = killed("up[192.0.2.1]")
    assert outcome.in_doubt
    assert outcome.detail == "in doubt: the relay ended in the transaction with up[192.0.2.1]"
