"""Killed at each named point between two statements of the spool: nothing acknowledged is lost or altered."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Ledger, Submitter
from tests.peers.scripted import ScriptedUpstream, say

MESSAGES = 12
LARGE = 3
"""The one message that is staged in parts."""
REFUSED = 5
"""The one message whose recipient the upstream refuses, so that a bounce is made."""


async def submit_all(ledger: Ledger, relay: Relay) -> None:
    """All messages not submitted yet, one after the other; the one that a kill interrupts stays unacknowledged."""
    seed = random.Random(3)
    try:
        client = await Submitter.connect(relay.port)
    except OSError:
        return
    try:
        for n in range(len(ledger.submitted), MESSAGES):
            content = ledger.message(f"m-{n}", 600_000 if n == LARGE else 2000, seed)
            to = "no@y.test" if n == REFUSED else "b@y.test"
            if (await client.submit("a@x.test", [to], content)).startswith("250"):
                ledger.acknowledged.add(f"m-{n}")
    except OSError:
        pass
    finally:
        client.close()


async def run(folder: Path, environment: dict[str, str]) -> tuple[Ledger, ScriptedUpstream]:
    """One life of a relay with ``environment``, then one without, until nothing is queued."""
    ledger = Ledger()
    async with ScriptedUpstream({"RCPT no@y.test": say("550 5.1.1 unknown")}) as peer:
        relay = Relay(folder, {"peer": smtp_upstream(peer.port)}, environment=environment)
        try:
            await relay.start(may_die="RELAY_FAULT" in environment)
            await submit_all(ledger, relay)
            if "RELAY_FAULT" in environment:
                assert await relay.ended(within=20) == -signal.SIGKILL
                relay.environment = {}
                await relay.start()
                await submit_all(ledger, relay)
            await relay.drained()
            assert await relay.stop() == 0
        finally:
            await relay.kill()
    return ledger, peer


def judge(ledger: Ledger, peer: ScriptedUpstream) -> Counter[str]:
    """Messages taken by name; asserts that what was acknowledged arrived whole, or bounced."""
    bodies: Counter[str] = Counter()
    bounces = 0
    for message in peer.accepted():
        name, digest = Ledger.read(message.content)
        if message.mail.startswith(b"MAIL FROM:<>"):
            bounces += 1
            continue
        assert digest == ledger.submitted[name], f"{name} was altered"
        bodies[name] += 1
    assert all(count <= 2 for count in bodies.values()), "one kill, one repetition at the most"
    missing = ledger.acknowledged - set(bodies) - {f"m-{REFUSED}"}
    assert not missing
    if f"m-{REFUSED}" in ledger.acknowledged:
        assert bounces >= 1, "a refused recipient's sender is told"
    return bodies


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_fault_point(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    ledger, peer = await run(tmp_path / "whole", {"RELAY_FAULT_TRACE": str(trace)})
    assert len(ledger.acknowledged) == MESSAGES
    assert max(judge(ledger, peer).values()) == 1, "without a kill nothing goes twice"
    passed = Counter(trace.read_text().split())
    assert len(passed) >= 5, "the spool has fault points"

    gate = asyncio.Semaphore(3)

    async def one(name: str, nth: int) -> tuple[str, int]:
        async with gate:
            ledger, peer = await run(tmp_path / f"{name}-{nth}", {"RELAY_FAULT": f"{name}:{nth}"})
        try:
            taken = judge(ledger, peer)
        except AssertionError as wrong:
            raise AssertionError(f"killed at {name}:{nth}: {wrong}") from wrong
        return f"{name}:{nth}", sum(taken.values()) - len(taken)

    passes = [(name, nth) for name, times in sorted(passed.items()) for nth in sorted({1, (times + 1) // 2})]
    results = await asyncio.gather(*(one(name, nth) for name, nth in passes))
    for point, twice in results:
        print(f"killed at {point}: {twice} twice")
