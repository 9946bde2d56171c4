"""Crowds: idle, trickling and hectic clients by the thousand, and a hundred large messages at once.

The good client comes from an address of its own (127.0.0.2), as does no other.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness import Relay
from tests.peers.ledger import Submitter, reply_of
from tests.torture.finding import Finding

GOOD: Final = "127.0.0.2"
SMALL: Final = b"Subject: small\r\n\r\nhello\r\n"
PIECE: Final = (b"x" * 76 + b"\r\n") * 840
LATENCY: Final = 0.25
"""Seconds that the good client may wait at the 99th percentile."""
LARGE: Final = 24_900_000
MEMORY: Final = 300.0
CAPS: Final = {"max_sessions": 400, "max_sessions_per_client": 60}


async def connected(port: int, source: str) -> Submitter | None:
    """A session from ``source``, or None where it was turned away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    client = Submitter(reader, writer)
    with suppress(OSError):
        if (await reply_of(reader)).startswith("220") and (await client.command("EHLO client.test")).startswith("250"):
            return client
    client.close()
    return None


async def good_client(port: int, over: asyncio.Event, taken: list[float], *, anew: bool = False) -> None:
    """Submits small messages, each over a session of its own where ``anew``; how long each took, 1e9 for never."""
    client = None
    while not over.is_set():
        began = time.monotonic()
        try:
            client = client or await connected(port, GOOD)
            reply = await client.submit("a@x.test", ["success@y.test"], SMALL) if client is not None else "421"
        except OSError:
            reply, client = "closed", None
        if anew and client is not None:
            client.close()
            client = None
        taken.append(time.monotonic() - began if reply.startswith("250") else 1e9)
        await asyncio.sleep(0.01)
    if client is not None:
        client.close()


def percentile(values: list[float], part: float) -> float:
    """The value below which ``part`` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 1e9


def memory(pid: int, field: str = "VmHWM") -> float:
    """The most memory that a process ever had, in MB; or with "VmRSS" what it has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(f"{field}:")).split()[1]) / 1000


async def idle(port: int, number: int, over: asyncio.Event) -> float:
    """A connection that says nothing; seconds until it was turned away, 0 where it was let in."""
    return await _held(port, number, over, lambda _client: over.wait())


async def trickle(port: int, number: int, over: asyncio.Event) -> float:
    """Content, an octet at a time."""

    async def send(client: Submitter) -> None:
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<success@y.test>", "DATA"):
            await client.command(line)
        while not over.is_set():
            client.writer.write(b"x")
            await asyncio.sleep(0.2)

    return await _held(port, number, over, send)


async def camp(port: int, number: int, over: asyncio.Event) -> float:
    """NOOP after NOOP."""

    async def ask(client: Submitter) -> None:
        while not over.is_set():
            await client.command("NOOP")
            await asyncio.sleep(0.05)

    return await _held(port, number, over, ask)


async def _held(
    port: int, number: int, over: asyncio.Event, what: Callable[[Submitter], Coroutine[Any, Any, object]]
) -> float:
    began = time.monotonic()
    client = None
    try:
        # Five addresses: each has some of the sessions that one client may have.
        client = await connected(port, f"127.0.1.{1 + number % 5}")
        if client is None:
            return time.monotonic() - began
        await what(client)
    except OSError:
        pass
    finally:
        if client is not None:
            client.close()
    return 0.0


@asynccontextmanager
async def crowd(port: int, kinds: dict[Callable[..., Any], int]) -> AsyncIterator[list[asyncio.Task[float]]]:
    """So many of each kind, until the end."""
    over = asyncio.Event()
    tasks = []
    number = 0
    for kind, count in kinds.items():
        for _ in range(count):
            tasks.append(asyncio.create_task(kind(port, number, over)))
            number += 1
            if not number % 100:
                await asyncio.sleep(0.02)
    try:
        yield tasks
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def flooded(folder: Path, rounds: int, *, many: int = 2000, caps: bool = True) -> Finding:
    """``many`` idle, 200 trickling and 50 camping clients, and one good client all the while."""
    finding = Finding(
        f"{many} idle, 200 trickling, 50 camping clients" + ("" if caps else ", no cap per client"), rounds
    )
    worst = memory_grew = turned_away = 0.0
    listener = CAPS if caps else CAPS | {"max_sessions_per_client": 100_000}
    relay = Relay(folder, {"sim": {"kind": "simulator"}}, listener=dict(listener))
    async with relay:
        for _ in range(rounds):
            taken: list[float] = []
            done = asyncio.Event()
            before = memory(relay.pid, "VmRSS")
            # Without the caps it would keep its place if it was there first, and never lost the race for it.
            good = [asyncio.create_task(good_client(relay.port, done, taken, anew=True))] if caps else []
            await asyncio.sleep(0.5)
            async with crowd(relay.port, {idle: many, trickle: 200, camp: 50}) as tasks:
                await asyncio.sleep(1.0)
                good = good or [asyncio.create_task(good_client(relay.port, done, taken, anew=True))]
                await asyncio.sleep(3.0)
                refused = [task.result() for task in tasks if task.done() and not task.exception()]
                turned_away = max([turned_away, *refused])
            done.set()
            await asyncio.gather(*good)
            fine = [seconds for seconds in taken if seconds < 1e9]
            finding.acknowledged += len(fine)
            finding.expect(
                f"the good client: {len(taken) - len(fine)} of {len(taken)} refused", holds=len(fine) == len(taken)
            )
            worst = max(worst, percentile(fine, 0.99))
            memory_grew = max(memory_grew, memory(relay.pid, "VmRSS") - before)
        finding.expect("it ended cleanly", holds=await relay.stop(within=60) == 0)
    finding.expect(f"the 99th percentile is {LATENCY} s at most, not {worst:.2f}", holds=worst <= LATENCY)
    finding.behaviour = (
        f"good client all taken, p99 {worst * 1000:.0f} ms; the others turned away within {turned_away:.1f} s; "
        f"{memory_grew:+.0f} MB"
    )
    return finding


async def large(port: int, number: int) -> str:
    """One message of LARGE octets."""
    client = await connected(port, f"127.0.1.{1 + number % 5}")
    assert client is not None
    try:
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<success@y.test>", "DATA"):
            assert (await client.command(line))[0] in "23"
        for _ in range(LARGE // len(PIECE)):
            client.writer.write(PIECE)
            await client.writer.drain()
        client.writer.write(b".\r\n")
        return await asyncio.wait_for(reply_of(client.reader), 300)
    finally:
        client.close()


async def large_at_once(folder: Path, rounds: int, *, count: int = 100) -> Finding:
    """``count`` messages of 25 MB at the same moment, and the good client all the while."""
    finding = Finding(f"{count} messages of 25 MB at once", rounds)
    worst = peak = 0.0
    alone: list[float] = []
    async with Relay(folder, {"sim": {"kind": "simulator"}}, listener=dict(CAPS)) as relay:
        for _ in range(rounds):
            quiet = asyncio.Event()
            lone = asyncio.create_task(good_client(relay.port, quiet, alone))
            await asyncio.sleep(1.0)
            quiet.set()
            await lone
            taken: list[float] = []
            done = asyncio.Event()
            good = asyncio.create_task(good_client(relay.port, done, taken))
            replies = await asyncio.gather(*(large(relay.port, n) for n in range(count)))
            done.set()
            await good
            finding.acknowledged += sum(reply.startswith("250") for reply in replies) + len(taken)
            wrong = {reply for reply in replies if not reply.startswith(("250", "4"))}
            finding.expect(f"taken or 4yz, not {wrong}", holds=not wrong)
            finding.expect("the good client: all taken", holds=all(seconds < 1e9 for seconds in taken))
            worst = max(worst, percentile(taken, 0.5))
            slow = percentile(taken, 0.99)
            peak = memory(relay.pid)
            await relay.drained(within=300)
        finding.expect("it ended cleanly", holds=await relay.stop(within=60) == 0)
    finding.expect(f"{MEMORY:g} MB at most, not {peak:.0f}", holds=peak <= MEMORY)
    before = percentile(alone, 0.5)
    finding.behaviour = (
        f"at most {peak:.0f} MB; the good client waits {worst * 1000:.0f} ms (median; {before * 1000:.0f} ms alone), "
        f"p99 {slow * 1000:.0f} ms"
    )
    return finding


async def many_connections(folder: Path, rounds: int, *, many: int = 5000) -> Finding:
    """So many connections at once; then all is as before."""
    finding = Finding(f"{many} connections at once", rounds)
    soft, hard = _limit()
    many = min(many, hard - 500)
    async with Relay(folder, {"sim": {"kind": "simulator"}}, listener=dict(CAPS)) as relay:
        for _ in range(rounds):
            taken: list[float] = []
            done = asyncio.Event()
            good = asyncio.create_task(good_client(relay.port, done, taken))
            opened = []
            for n in range(many):
                connection = socket.socket()
                connection.setblocking(False)
                connection.bind((f"127.0.1.{1 + n % 5}", 0))
                with suppress(BlockingIOError):
                    connection.connect(("127.0.0.1", relay.port))
                opened.append(connection)
                if not n % 200:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(3.0)
            for connection in opened:
                connection.close()
            await asyncio.sleep(1.0)
            done.set()
            await good
            fine = [seconds for seconds in taken if seconds < 1e9]
            finding.acknowledged += len(fine)
            finding.expect(f"the good client: {len(taken) - len(fine)} refused", holds=len(fine) == len(taken))
            p99, slowest = percentile(fine, 0.99), max(fine, default=0)
            finding.behaviour = f"good client all taken, p99 {p99 * 1000:.0f} ms, slowest {slowest:.1f} s"
            finding.expect("it takes mail", holds=bool(await relay.submit(recipients=["success@y.test"])))
        finding.expect("it ended cleanly", holds=await relay.stop(within=60) == 0)
    _limit(soft)
    return finding


def _limit(soft: int | None = None) -> tuple[int, int]:
    """This process's own limit of open files: raised to the hard one, or set back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] if soft is None else soft, before[1]))
    return before
