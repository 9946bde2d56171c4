"""A clock that was set back leaves no mail waiting for its old time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.daemon import stepping
from relay.daemon.stepping import follow_the_clock
from relay.mail import Envelope, Message, Recipient, RecipientState
from relay.spool import Arrival, Settled, Settlement
from tests.delivery.scene import START, StandingClock
from tests.fake_spool import FakeSpool

LONGEST = 3600.0


async def deferred(spool: FakeSpool, due: float) -> int:
    number = spool.allocate(START)
    message = Message(number, Envelope("a@x.test", (Recipient(0, "b@x.test"),)), 4, START)
    await spool.accept(Arrival(message, b"\r\n\r\n", leased=True))
    later = Settled(0, "b@x.test", RecipientState.WAITING, 1, due, status="deferred", detail="not now")
    await spool.settle([Settlement(number, 1, START, (later,))])
    return number


async def following(spool: FakeSpool, clock: Any, rung: list[bool]) -> asyncio.Task[None]:
    task = asyncio.create_task(follow_the_clock(spool, clock, lambda: LONGEST, lambda: rung.append(True)))
    await asyncio.sleep(0.05)
    return task


@pytest.mark.parametrize(
    ("step", "tried"), [(-3600.0, True), (-61.0, True), (-30.0, False), (3600.0, False), (0.0, False)]
)
async def test_a_step_back_makes_deferred_mail_due(monkeypatch: pytest.MonkeyPatch, step: float, tried: bool) -> None:
    monkeypatch.setattr(stepping, "EVERY", 0.01)
    spool, clock, rung = FakeSpool(), StandingClock(), list[bool]()
    await deferred(spool, START + LONGEST)
    task = await following(spool, clock, rung)
    assert not rung
    clock.set_by = step
    await asyncio.sleep(0.1)
    task.cancel()
    assert rung == [True] * tried


@pytest.mark.parametrize(("ahead", "tried"), [(LONGEST, False), (LONGEST * 24, True)])
async def test_mail_further_ahead_than_any_delay_is_due_at_the_start(ahead: float, tried: bool) -> None:
    spool, rung = FakeSpool(), list[bool]()
    await deferred(spool, START + ahead)
    task = await following(spool, StandingClock(), rung)
    task.cancel()
    assert rung == [True] * tried


async def test_a_step_back_while_the_start_looks_for_one_is_not_missed() -> None:
    clock, rung = StandingClock(), list[bool]()

    class SteppedMeanwhile(FakeSpool):
        async def next_due(self, now: float, *, ahead: bool = False) -> float | None:
            found = await super().next_due(now, ahead=ahead)
            clock.set_by = -24 * LONGEST
            return found

    spool = SteppedMeanwhile()
    await deferred(spool, START)
    task = await following(spool, clock, rung)
    task.cancel()
    assert rung == [True]
