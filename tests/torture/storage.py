"""A disk that fails: full, read-only, out of order, too slow to sync; a spool that somebody else locks, or damaged.

To applications always 4yz or a closed connection, never 5yz, never a 250 without a row; recovery without help, or an
end by exit 74 that a service manager starts again from.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import resource
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

from tests.e2e.harness import COMMAND, Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, submit_for_ever
from tests.torture.finding import Finding, need_program, need_root, run

RELIEF: Final = 5.0
"""Seconds after which mail is taken again once the cause is gone."""
CLIENTS: Final = 4
DISK: Final = 40_000_000


@asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Path]:
    """A tmpfs of DISK octets, which can really be full."""
    need_root()
    folder.mkdir(parents=True)  # noqa: ASYNC240
    await run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "tmpfs", folder)
    try:
        yield folder
    finally:
        await run("umount", "-l", folder)


@asynccontextmanager
async def load(ledger: Ledger, relay: Relay, label: str, pause: float = 0.01) -> AsyncIterator[None]:
    """Applications that submit on and on."""
    over = asyncio.Event()
    clients = [
        asyncio.create_task(submit_for_ever(ledger, relay.port, f"{label}{n}", over, pause)) for n in range(CLIENTS)
    ]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*clients)


async def taken_again(ledger: Ledger) -> float:
    """Seconds until the next 250; no more than a minute."""
    began, before = time.monotonic(), len(ledger.acknowledged)
    while len(ledger.acknowledged) == before and time.monotonic() - began < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return time.monotonic() - began


Trouble = Callable[[Relay, Ledger, Finding], Awaitable[None]]


async def under(
    folder: Path, finding: Finding, trouble: Trouble, *, program: Sequence[str] = COMMAND, **tables: Any
) -> None:
    """A relay under load while ``trouble`` runs, then all of it relayed; started again if need be."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    ledger, arrived = Ledger(), folder / "arrived"
    arrived.touch()
    async with SinkProcess(ledger=arrived) as sink:
        relay = Relay(folder, {"sink": smtp_upstream(sink.port)}, program=program, **tables)
        try:
            await relay.start(within=60)
            async with load(ledger, relay, "a"):
                await asyncio.sleep(0.3)
                await trouble(relay, ledger, finding)
                if relay.process is None or relay.process.returncode is not None:
                    await relay.kill()
                    relay.program = COMMAND
                    await relay.start()
                took = await taken_again(ledger)
                finding.expect(f"mail is taken {took:.1f} s after it", holds=took <= RELIEF)
            await relay.drained()
            finding.expect("it ended cleanly", holds=await relay.stop() == 0)
        finally:
            await relay.kill()
    finding.count(ledger.verdict(arrived))
    wrong = [reply for reply in ledger.refused if not reply.startswith("4")]
    finding.expect(f"only 4yz, not {wrong[:3]}", holds=not wrong)
    told = ", ".join(sorted({reply for reply in ledger.refused if reply.startswith("4")}))
    if told and told not in finding.behaviour:
        finding.behaviour = f"{finding.behaviour}; applications heard {told}".removeprefix("; ")


async def disk_full(folder: Path, rounds: int, program: Sequence[str] = COMMAND) -> Finding:
    """Another program takes all of the disk; two seconds later it gives it back."""
    finding = Finding("disk full (ENOSPC)", rounds)

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        other = folder / f"disk{relay.port}" / "other"
        with other.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 100_000)
            except OSError:
                pass
            await asyncio.sleep(2.0)
        finding.expect("it refused", holds=bool(ledger.refused))
        finding.expect("it runs on", holds=relay.process is not None and relay.process.returncode is None)
        other.unlink()

    for n in range(rounds):
        place = folder / str(n)
        place.mkdir()
        port = 27200 + n % 50
        async with small_disk(folder / f"disk{port}") as disk:
            spool = {"url": f"sqlite:///{disk}/spool/spool.db"}
            await under(place, finding, trouble, program=program, spool=spool, port=port)
        (folder / f"disk{port}").rmdir()
    finding.behaviour = f"runs on, recovers by itself{'; ' if finding.behaviour else ''}{finding.behaviour}"
    return finding


def injecting(rule: str) -> tuple[str, ...]:
    """A relay with faults put into its system calls by strace."""
    strace = need_program("strace")
    call = rule.partition(":")[0]
    return (strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={rule}", "--", *COMMAND)


async def io_error(folder: Path, rounds: int, call: str = "fsync,fdatasync", error: str = "EIO") -> Finding:
    """``call`` fails once, at one of its first hundreds; nothing may be written after that."""
    finding = Finding(f"{call} fails with {error}", rounds)
    seed = random.Random(rounds)
    slowest = 0.0
    for n in range(rounds):
        # A new spool's tables take some 20 syncs and 300 writes.
        first = seed.randrange(40, 120) if "sync" in call else seed.randrange(600, 1200)

        async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
            nonlocal slowest
            await relay.until("can't be trusted any more", within=30)
            began = time.monotonic()
            finding.expect("exit 74", holds=await relay.ended(within=10) == 74)
            slowest = max(slowest, time.monotonic() - began)

        await under(folder / str(n), finding, trouble, program=injecting(f"{call}:error={error}:when={first}"))
    finding.expect(f"an end within 1 s, not {slowest:.1f}", holds=slowest <= 1.0)
    finding.behaviour = (
        f"exit 74 within {slowest:.2f} s, started again{'; ' if finding.behaviour else ''}{finding.behaviour}"
    )
    return finding


async def locked_by_another(folder: Path, rounds: int, seconds: float = 30.0) -> Finding:
    """A person at the sqlite3 shell holds a write transaction open for ``seconds``."""
    finding = Finding(f"spool locked by another program for {seconds:g} s", rounds)

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        with closing(sqlite3.connect(relay.folder / "spool" / "spool.db", isolation_level=None, timeout=30)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            before = len(ledger.acknowledged)
            await asyncio.sleep(seconds)
            # What was under way as it began may still be told of.
            finding.expect("nothing is taken meanwhile", holds=len(ledger.acknowledged) <= before + CLIENTS)
            finding.expect("it refused", holds=bool(ledger.refused))
            shell.execute("ROLLBACK")

    for n in range(rounds):
        await under(folder / str(n), finding, trouble)
    finding.expect("nothing twice", holds=not finding.duplicated)
    finding.behaviour = f"delivery pauses, recovers by itself; {finding.behaviour}"
    return finding


async def slow_disk(folder: Path, rounds: int, seconds: float = 0.3) -> Finding:
    """Each sync takes ``seconds``: 250 comes later, and that is all."""
    finding = Finding(f"each sync takes {seconds:g} s", rounds)

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        del relay
        before = len(ledger.acknowledged)
        await asyncio.sleep(4.0)
        taken = len(ledger.acknowledged) - before
        # All that wait share a sync, and two follow each other at the worst.
        finding.expect(f"{CLIENTS} clients share each sync, {taken} messages", holds=taken >= CLIENTS * 3)

    delayed = injecting(f"fsync,fdatasync:delay_enter={int(seconds * 1e6)}")
    for n in range(rounds):
        await under(folder / str(n), finding, trouble, program=delayed)
    finding.expect("nothing twice", holds=not finding.duplicated)
    finding.expect("nobody refused", holds=not finding.behaviour)
    finding.behaviour = "250 comes that much later, clients share each sync"
    return finding


async def long_reader(folder: Path, rounds: int, seconds: float = 8.0) -> Finding:
    """Somebody's query lasts: the log can't be begun anew meanwhile, and is as soon as it ends."""
    finding = Finding(f"a query of another program lasts {seconds:g} s", rounds)
    largest = 0.0

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        nonlocal largest
        log = relay.folder / "spool" / "spool.db-wal"
        with closing(sqlite3.connect(f"file:{relay.folder}/spool/spool.db?mode=ro", uri=True)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT count(*) FROM message").fetchone()
            before = len(ledger.acknowledged)
            await asyncio.sleep(seconds)
            finding.expect("mail is taken meanwhile", holds=len(ledger.acknowledged) > before + CLIENTS)
            rounds_before = times_begun(log)
        largest = max(largest, log.stat().st_size / 1e6)
        began = time.monotonic()
        while times_begun(log) == rounds_before and time.monotonic() - began < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        finding.expect("the log is begun anew within 20 s", holds=times_begun(log) != rounds_before)

    for n in range(rounds):
        await under(folder / str(n), finding, trouble)
    finding.expect("nothing twice", holds=not finding.duplicated)
    finding.expect("nobody refused", holds=not finding.behaviour)
    finding.behaviour = f"mail is taken and relayed; the log grows to {largest:.0f} MB and is begun anew behind it"
    return finding


def times_begun(log: Path) -> int:
    """How often a write-ahead log was begun anew (sqlite.org/fileformat2.html §4.1)."""
    with log.open("rb") as file:
        return int.from_bytes(file.read(16)[12:], "big")


async def descriptors_used_up(folder: Path, rounds: int) -> Finding:
    """The process may open no more files than it has, while a hundred clients come."""
    finding = Finding("file descriptors used up (EMFILE)", rounds)

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        before = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{relay.pid}/fd").iterdir()))  # noqa: ASYNC240
        # Room for a command's connection and the spool's files, which the reader for operators opens when first asked.
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (used + 8, before[1]))
        others = []
        for _ in range(100):
            try:
                others.append(await asyncio.wait_for(asyncio.open_connection("127.0.0.1", relay.port), 1.0))
            except OSError:
                break
        acknowledged = len(ledger.acknowledged)
        await asyncio.sleep(2.0)
        finding.expect("sessions that were open go on", holds=len(ledger.acknowledged) > acknowledged)
        finding.expect("commands are answered", holds=(await relay.command("queue", "count"))[0] == 0)
        finding.expect("it runs on", holds=relay.process is not None and relay.process.returncode is None)
        for _, writer in others:
            writer.transport.abort()
        resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, before)

    for n in range(rounds):
        await under(folder / str(n), finding, trouble)
    told = ("open sessions go on, new ones hear 421, commands are answered", finding.behaviour)
    finding.behaviour = "; ".join(text for text in told if text)
    return finding


async def file_too_large(folder: Path, rounds: int) -> Finding:
    """RLIMIT_FSIZE: the log may not grow (EFBIG)."""
    finding = Finding("file may not grow (EFBIG)", rounds)

    async def trouble(relay: Relay, ledger: Ledger, finding: Finding) -> None:
        before = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            finding.expect("exit 74", holds=await relay.ended(within=10) == 74)
        except TimeoutError:
            resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, before)

    for n in range(rounds):
        await under(folder / str(n), finding, trouble)
    finding.behaviour = f"exit 74, started again{'; ' if finding.behaviour else ''}{finding.behaviour}"
    return finding


async def read_only(folder: Path, rounds: int) -> Finding:
    """A start where nothing can be written (EROFS)."""
    finding = Finding("start on a read-only file system (EROFS)", rounds)
    for n in range(rounds):
        place = folder / str(n)
        place.mkdir()
        async with small_disk(place / "disk") as disk:
            relay = Relay(place, {"sim": {"kind": "simulator"}}, spool={"url": f"sqlite:///{disk}/spool/spool.db"})
            try:
                await relay.start()
                await relay.submit()
                await relay.until("removed$")
                await relay.stop()
                await run("mount", "-o", "remount,ro", disk)
                relay.log.clear()
                await relay.start(may_die=True)
                code = await relay.ended(within=5)
                finding.expect(f"exit 69 or 74, not {code}", holds=code in {69, 74})
                finding.expect("one clear line", holds=len(relay.lines("(?i)read-only")) >= 1)
                await run("mount", "-o", "remount,rw", disk)
                await relay.start()
                finding.acknowledged += bool(await relay.submit())
                finding.expect("it ended cleanly", holds=await relay.stop() == 0)
                finding.behaviour = f"exit {code} with the reason, nothing changed; starts once it is writable"
            finally:
                await relay.kill()
    return finding


async def damaged(folder: Path, rounds: int) -> Finding:
    """Random octets flipped in copies of a spool with mail: it starts, or refuses and leaves the file as it is."""
    finding = Finding("random octets of the spool flipped", rounds)
    seed = random.Random(rounds)
    first = Relay(folder / "first", {"sink": smtp_upstream(1)})
    async with first:
        await first.submit_many(60)
        await first.submit("x" * 70 + "\r\n" * 9000)
        await first.stop()
    whole = (folder / "first" / "spool" / "spool.db").read_bytes()
    ends: dict[str, int] = {}
    for n in range(rounds):
        place = folder / str(n)
        (place / "spool").mkdir(parents=True, mode=0o700)
        octets = bytearray(whole)
        for _ in range(seed.choice((1, 4, 16, 64))):
            octets[seed.randrange(len(octets))] ^= seed.randrange(1, 256)
        spool = place / "spool" / "spool.db"
        spool.write_bytes(octets)
        spool.chmod(0o600)
        relay = Relay(place, {"sink": smtp_upstream(1)})
        try:
            await relay.start(may_die=True)
            code = await _ends(relay)
        finally:
            await relay.kill()
        refused = not relay.lines("daemon started")
        if refused:
            same = hashlib.sha256(spool.read_bytes()).digest() == hashlib.sha256(octets).digest()
            finding.expect(f"round {n}: the file is as it was", holds=same)
            finding.expect(f"round {n}: refused by 74, not {code}", holds=code == 74)
            finding.expect(f"round {n}: it says why", holds=bool(relay.lines(re.escape(str(spool)))))
        finding.expect(f"round {n}: exit {code}", holds=code in {0, 74})
        finding.expect(f"round {n}: no traceback", holds=not relay.lines("Traceback"))
        end = "refused at the start" if refused else f"started, exit {code}"
        ends[end] = ends.get(end, 0) + 1
        shutil.rmtree(place)
    finding.behaviour = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    return finding


async def _ends(relay: Relay) -> int:
    """The exit code of a relay that is let run for a moment."""
    assert relay.process is not None
    try:
        async with asyncio.timeout(0.5):
            await relay.process.wait()
    except TimeoutError:
        return await relay.stop()
    return await relay.ended()
