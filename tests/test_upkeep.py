"""Upkeep: what is old goes, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib

from relay.daemon.upkeep import sweep_hourly
from relay.mail import Envelope, Message, Recipient, RecipientState
from relay.spool import Arrival, Settled, Settlement
from tests.delivery.scene import START, StandingClock, settle_down
from tests.fake_spool import FakeSpool


async def nothing() -> None:
    """There is nothing else to forget."""


async def test_dead_letters_go_with_the_history() -> None:
    spool, clock = FakeSpool(), StandingClock()
    numbers = []
    for age in (100.0, 10.0):
        number = spool.allocate(START - age)
        envelope = Envelope("", (Recipient(0, "a@x.test"),))
        arrival = Arrival(Message(number, envelope, 4, START - age), b"\r\n\r\n", leased=True, bounce_of="ABCDEF")
        await spool.accept(arrival)
        dead = Settled(0, "a@x.test", RecipientState.HELD, 1, START, status="bounced", detail="dead letter: no")
        await spool.settle([Settlement(number, 1, START - age, (dead,))])
        numbers.append(number)
    task = asyncio.create_task(sweep_hourly(spool, clock, lambda: 60.0, nothing))
    await settle_down()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert numbers[0] not in spool.kept
    assert spool.kept[numbers[1]].rows[0].state == "held"
