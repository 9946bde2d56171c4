"""SIGKILL at random moments under load, and at each of the first system calls that make mail safe or tell of it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.e2e.harness import COMMAND, Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, Submitter, Verdict, submit_for_ever
from tests.torture.finding import Finding, at_a_time, need_program

CLIENTS: Final = 8
SETTLING: Final = 0.3
"""Seconds from the sink's note of a message to its durable settlement, at the very most."""
BOUND: Final = 10 * 8 + 64
"""Duplicates that one kill may bring: sessions by messages in flight, and a batch of settlements."""

CALLS: Final = ("fsync,fdatasync", "pwrite64,write,writev", "sendto,sendmsg")
"""What makes mail safe, what writes it and answers, what connects: as SQLite and uvloop were built."""
MESSAGES: Final = 20


async def kill_at_random(folder: Path, rounds: int, program: Sequence[str] = COMMAND) -> Finding:
    """``rounds`` kills under the load of eight clients."""
    finding = Finding("SIGKILL at random under load", rounds)
    seed = random.Random(rounds)
    ledger, arrived = Ledger(), folder / "arrived"
    arrived.touch()
    async with (
        SinkProcess(ledger=arrived) as sink,
        Relay(folder, {"sink": smtp_upstream(sink.port)}, program=program) as relay,
    ):
        over = asyncio.Event()
        clients = [
            asyncio.create_task(submit_for_ever(ledger, relay.port, f"c{n}", over, pause=0.002)) for n in range(CLIENTS)
        ]
        killed = []
        for _ in range(rounds):
            await asyncio.sleep(seed.uniform(0.1, 1.2))
            killed.append(time.time())
            await relay.kill()
            relay.log.clear()
            await relay.start()
        over.set()
        await asyncio.gather(*clients)
        await relay.stop()
        await relay.start()
        held = await release_the_convicted(relay)
        await relay.drained()
        finding.expect("it ended cleanly", holds=await relay.stop() == 0)
    verdict = ledger.verdict(arrived)
    finding.count(verdict)
    finding.expect("no 5yz", holds=not [reply for reply in ledger.refused if reply.startswith("5")])
    gaps = unexplained(verdict, killed)
    finding.expect(f"{len(gaps)} twice that arrived up to {max(gaps, default=0):.2f} s before a kill", holds=not gaps)
    finding.expect(f"at most {BOUND} duplicates a kill", holds=finding.duplicated <= BOUND * rounds)
    finding.expect("few are held", holds=held <= 1 + rounds / 4)
    finding.behaviour = f"started again; {finding.duplicated / rounds:.1f} duplicates a kill, all in flight at it"
    if held:
        finding.behaviour += f"; {held} on their way at three kills, held with a warning, released by hand"
    return finding


async def release_the_convicted(relay: Relay) -> int:
    """What was on its way at three kills is held as if it were their cause; how many messages were let go."""
    async with asyncio.timeout(120):
        while sum((counts := await relay.json("queue", "count")).values()) > counts["held"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    if counts["held"]:
        code, _, error = await relay.command("queue", "release", "--all")
        assert code == 0, error
    return int(counts["held"])


def unexplained(verdict: Verdict, killed: Sequence[float]) -> list[float]:
    """Seconds to the next kill from arrivals that were not the last, where they are more than settling takes."""
    gaps = []
    for arrivals in verdict.repeated.values():
        for first in arrivals[:-1]:
            gap = min((kill - first for kill in killed if kill >= first - 0.1), default=float("inf"))
            if gap > SETTLING:
                gaps.append(gap)
    return gaps


async def kill_at_each_call(
    folder: Path, rounds: int, program: Sequence[str] = COMMAND, calls: Sequence[str] = CALLS, width: int = 3
) -> Finding:
    """SIGKILL as a thread enters its N-th ``fdatasync``, ``pwrite64``, …, N spread over the first 300, by strace."""
    strace = need_program("strace")
    points = sorted({1 + n * 300 // rounds for n in range(rounds)})
    finding = Finding(f"SIGKILL at each of {len(points)} of the first 300 {'; '.join(calls)}")

    passed = dict.fromkeys(calls, 300)

    async def one(call: str, nth: int) -> None:
        if nth > passed[call]:
            return  # twenty messages don't come so far
        place = folder / f"{calls.index(call)}-{nth}"  # short: a Unix socket's path has 107 octets
        place.mkdir(parents=True)
        arrived = place / "arrived"
        arrived.touch()
        ledger = Ledger()
        inject = ("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}")
        traced = (strace, "-D", "-f", "-qq", "-o", "/dev/null", *inject, "--", *program)
        async with SinkProcess(ledger=arrived) as sink:
            relay = Relay(place, {"sink": smtp_upstream(sink.port, max_connections=2)}, program=traced)
            try:
                await relay.start(within=60, may_die=True)
                await submit_some(ledger, relay.port)
                if await died(relay):
                    finding.rounds += 1
                else:
                    passed[call] = min(passed[call], nth)
                await relay.kill()
                relay.program = program
                await relay.start()
                await submit_some(ledger, relay.port)
                await relay.drained()
                finding.expect(f"{call} {nth}: it ended cleanly", holds=await relay.stop() == 0)
            finally:
                await relay.kill()
        verdict = ledger.verdict(arrived)
        wrong = len(finding.wrong)
        finding.count(verdict)
        finding.wrong[wrong:] = [f"{call} {nth}: {text}" for text in finding.wrong[wrong:]]
        finding.expect(f"{call} {nth}: nothing thrice", holds=all(len(t) <= 2 for t in verdict.repeated.values()))

    await at_a_time(width, [partial(one, call, nth) for call in calls for nth in points])
    finding.behaviour = "started again; twenty messages don't pass all 300"
    return finding


async def submit_some(ledger: Ledger, port: int) -> None:
    """What was not submitted yet of twenty messages, by two clients; a kill leaves some unacknowledged."""
    seed = random.Random(len(ledger.submitted))
    names = iter([f"m-{n}" for n in range(MESSAGES) if f"m-{n}" not in ledger.submitted])

    async def client() -> None:
        try:
            session = await Submitter.connect(port)
        except OSError:
            return
        try:
            for name in names:
                content = ledger.message(name, seed.choice((300, 3000, 30_000)), seed)
                if (await session.submit("a@x.test", ["b@y.test"], content)).startswith("250"):
                    ledger.acknowledged.add(name)
        except OSError:
            pass
        finally:
            session.close()

    await asyncio.gather(client(), client())


async def died(relay: Relay) -> bool:
    """Whether it dies of the kill while it relays what it has."""
    assert relay.process is not None
    try:
        async with asyncio.timeout(0.5):
            code = await relay.process.wait()
    except TimeoutError:
        relay.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                code = await relay.process.wait()
        except TimeoutError:
            return False
    return code == -signal.SIGKILL
