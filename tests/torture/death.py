"""A message that kills the process which relays it: held after three crashes, all others relayed, nothing deleted."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, Submitter
from tests.torture.defective import program
from tests.torture.finding import Finding

WAYS: Final = ("segv", "oom", "abort")
OTHERS: Final = 999
WITHIN: Final = 60.0
MOST: Final = 3


async def message_of_death(
    folder: Path, rounds: int, command: Sequence[str] = program("dies-of-deadly-mail")
) -> Finding:
    """One deadly message among a thousand, ``rounds`` times; started again as a service manager does."""
    finding = Finding("message that kills the relay, among 999 others", rounds)
    crashes = slowest = 0.0
    for n in range(rounds):
        place = folder / str(n)
        place.mkdir()
        died, took = await _one(place, WAYS[n % len(WAYS)], command, finding)
        crashes, slowest = max(crashes, died), max(slowest, took)
    finding.behaviour = f"held after {crashes:g} crashes at most; the others relayed within {slowest:.0f} s"
    return finding


async def _one(folder: Path, way: str, command: Sequence[str], finding: Finding) -> tuple[int, float]:
    ledger, arrived = Ledger(), folder / "arrived"
    arrived.touch()
    seed = random.Random(way)
    async with SinkProcess(ledger=arrived) as sink:
        # Submitted while the upstream is down: all are there when it goes.
        relay = Relay(folder, {"sink": smtp_upstream(1)}, program=command)
        try:
            await relay.start()
            client = await Submitter.connect(relay.port)
            deadly = ""
            for number in range(OTHERS + 1):
                content = ledger.message(f"m-{number}", 300, seed)
                if number == OTHERS // 2:
                    content = f"X-Test-Crash: {way}\r\n".encode() + content
                reply = await client.submit("a@x.test", ["b@y.test"], content)
                assert reply.startswith("250"), reply
                if number == OTHERS // 2:
                    deadly = reply.split()[-1]
                else:
                    ledger.acknowledged.add(f"m-{number}")
            client.close()
            await relay.stop()
            relay.upstreams = {"sink": smtp_upstream(sink.port)}
            relay.write_config()
            began = time.monotonic()
            died = await _restarted_until_it_lives(relay)
            took = time.monotonic() - began
            finding.expect(f"{way}: held after {MOST} crashes, not {died}", holds=died <= MOST)
            if relay.process is not None:
                found = await relay.json("queue", "list", "--state", "held")
                finding.expect(f"{way}: it alone is held", holds=[each["id"] for each in found] == [deadly])
                finding.expect("the log says so", holds=bool(relay.lines(f"warning: {deadly}: held")))
                finding.expect("it ended cleanly", holds=await relay.stop() == 0)
        finally:
            await relay.kill()
    finding.count(ledger.verdict(arrived))
    return died, took


async def _restarted_until_it_lives(relay: Relay) -> int:
    """How often it died before nothing was left to relay; no more than twice as often as it may."""
    died = 0
    over = time.monotonic() + WITHIN
    while died < 2 * MOST and time.monotonic() < over:
        await relay.start(may_die=True)
        ended = asyncio.create_task(relay.ended(within=WITHIN))
        while not ended.done() and time.monotonic() < over:
            code, out, _ = await relay.command("queue", "count", "--json")
            if code == 0 and not ended.done():
                counts = json.loads(out)
                if not counts["waiting"] + counts["leased"] + counts["deferred"]:
                    ended.cancel()
                    return died
        await asyncio.wait([ended], timeout=1.0)
        if not ended.done():
            ended.cancel()
            break
        died += 1
    return died
