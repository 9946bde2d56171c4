"""SIGTERM under load, again and again: nothing lost, nothing twice, an end within stop_timeout."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Final

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, submit_for_ever
from tests.torture.finding import Finding

PATIENCE: Final = 10.0


async def restart_under_load(folder: Path, rounds: int) -> Finding:
    """``rounds`` clean restarts under the load of eight clients."""
    finding = Finding("SIGTERM under load, started again", rounds)
    seed = random.Random(rounds)
    ledger, arrived = Ledger(), folder / "arrived"
    arrived.touch()
    slowest = 0.0
    async with (
        SinkProcess(ledger=arrived, delay=0.01) as sink,
        Relay(folder, {"sink": smtp_upstream(sink.port)}) as relay,
    ):
        over = asyncio.Event()
        clients = [
            asyncio.create_task(submit_for_ever(ledger, relay.port, f"c{n}", over, pause=0.002)) for n in range(8)
        ]
        for _ in range(rounds):
            await asyncio.sleep(seed.uniform(0.2, 1.0))
            began = time.monotonic()
            finding.expect("exit 0", holds=await relay.stop() == 0)
            slowest = max(slowest, time.monotonic() - began)
            relay.log.clear()
            await relay.start()
        over.set()
        await asyncio.gather(*clients)
        await relay.drained()
        finding.expect("exit 0", holds=await relay.stop() == 0)
    finding.count(ledger.verdict(arrived))
    finding.expect("nothing twice", holds=not finding.duplicated)
    finding.expect(f"an end within {PATIENCE:g} s", holds=slowest <= PATIENCE)
    finding.expect("no 5yz", holds=not [reply for reply in ledger.refused if reply.startswith("5")])
    finding.behaviour = f"exit 0 within {slowest:.1f} s each time"
    return finding
