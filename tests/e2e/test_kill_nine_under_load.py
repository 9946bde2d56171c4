"""20 kills at random moments under load: nothing acknowledged is lost, and only what was in flight goes twice."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, submit_for_ever

KILLS = 20
CLIENTS = 8
SETTLING = 0.3
"""Seconds from the sink's note of a message to its durable settlement, at the very most: 20 ms of waiting for company,
then a commit on a busy machine.
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_twenty_kills(tmp_path: Path) -> None:
    seed = random.Random(9)
    ledger, arrived = Ledger(), tmp_path / "arrived"
    async with SinkProcess(ledger=arrived) as sink, Relay(tmp_path, {"sink": smtp_upstream(sink.port)}) as relay:
        over = asyncio.Event()
        clients = [
            asyncio.create_task(submit_for_ever(ledger, relay.port, f"c{n}", over, pause=0.002)) for n in range(CLIENTS)
        ]
        killed = []
        for _ in range(KILLS):
            await asyncio.sleep(seed.uniform(0.2, 1.5))
            killed.append(time.time())
            await relay.kill()
            await relay.start()
        over.set()
        await asyncio.gather(*clients)
        await relay.drained()
        assert await relay.stop() == 0

    verdict = ledger.verdict(arrived)
    print(f"{KILLS} kills: {verdict.summary()}")
    assert verdict.acknowledged > 100 * KILLS, "that was load"
    assert not verdict.lost
    assert not verdict.altered
    assert not verdict.phantom
    assert not [reply for reply in ledger.refused if reply.startswith("5")]
    for name, arrivals in verdict.repeated.items():
        first = arrivals[0]
        assert any(kill - SETTLING <= first <= kill + 0.1 for kill in killed), f"{name} went twice without a kill"
