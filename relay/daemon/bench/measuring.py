"""A bench's runs: a relay of its own as a child process, a spool of its own on the disk in question, both gone at the
end. Clients and the upstream live in this process and share the machine with the relay.

Commits, each of which syncs once, are counted in a run of its own that nothing else is measured in.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from relay.daemon.bench.load import Work, message, submit
from relay.daemon.bench.sink import Sink

CONNECTIONS: Final = 10
_STARTS: Final = 20.0
_ENDS: Final = 60.0
"""Seconds that the relay may take to start, and to relay what it took."""
_COMMITS: Final = 300
"""Messages of the run that counts commits."""
_CONFIG: Final = """hostname = "bench.invalid"
[spool]
url = "sqlite:///{folder}/spool.db"
min_free_disk = "0MB"
[listener.app]
address = "127.0.0.1:{port}"
max_sessions = 2000
max_sessions_per_client = 2000
[upstream.sink]
host = "127.0.0.1"
port = {sink}
tls = "none"
max_connections = {connections}
[log]
target = "{folder}/log"
"""


class NotMeasured(Exception):
    """The relay of the bench did not start, or did not take or relay what it was given."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load: so many clients, messages of ``size`` octets, an upstream ``delay`` seconds away."""

    clients: int
    size: int
    delay: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out: latencies of acceptance in seconds, rates a second, counts and processor seconds a message.

    ``syncs`` is None where it was not counted.
    """

    cell: Cell
    messages: int
    accept_p50: float
    accept_p99: float
    accepted: float
    relayed: float
    round_trips: float
    cpu: float
    syncs: float | None = None


def measure(
    cells: Sequence[Cell], *, folder: Path | None, messages: int, seconds: float, told: Callable[[Figures], None]
) -> None:
    """Measure ``cells`` one after the other, each with at most so many messages in at most so many seconds of
    submission; ``told`` gets each one's figures at once. The spool is made in ``folder``, else where temporary files
    are. Raises :class:`NotMeasured`.
    """

    async def run() -> None:
        for cell in cells:
            told(await _cell(cell, folder, messages, seconds))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def _cell(cell: Cell, folder: Path | None, messages: int, seconds: float) -> Figures:
    figures = await _run(cell, folder, messages, seconds, traced=False)
    counted = await _run(cell, folder, min(messages, _COMMITS), seconds, traced=True)
    return Figures(
        cell,
        figures.messages,
        figures.accept_p50,
        figures.accept_p99,
        figures.accepted,
        figures.relayed,
        figures.round_trips,
        figures.cpu,
        counted.syncs,
    )


async def _run(cell: Cell, parent: Path | None, messages: int, seconds: float, *, traced: bool) -> Figures:
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(sink.connection, "127.0.0.1", 0)
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-", dir=parent))
    try:
        port = _free_port()
        config = folder / "relay.toml"
        sink_port = server.sockets[0].getsockname()[1]
        config.write_text(_CONFIG.format(folder=folder, port=port, sink=sink_port, connections=CONNECTIONS))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RELAY_") or name == "RELAY_COMPILED"
        }
        trace = folder / "trace"
        if traced:
            environment["RELAY_FAULT_TRACE"] = str(trace)
        command = (sys.executable, "-m", "relay", "serve", "-c", str(config))
        relay = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            await _listening(relay, port)
            await _load(port, sink, Work(50, time.monotonic() + seconds, message(cell.size)), 5)
            sink.delay = cell.delay
            sink.messages = sink.round_trips = 0
            before, began = _commits(trace), time.monotonic()
            cpu = _cpu(relay.pid)
            work = Work(messages, began + seconds, message(cell.size))
            accepted, relayed = await _load(port, sink, work, cell.clients)
            count = len(work.seconds)
            work.seconds.sort()
            return Figures(
                cell,
                count,
                work.seconds[count // 2],
                work.seconds[min(count - 1, count * 99 // 100)],
                count / (accepted - began),
                count / (relayed - began),
                sink.round_trips / count,
                (_cpu(relay.pid) - cpu) / count,
                (_commits(trace) - before) / count if traced else None,
            )
        finally:
            if relay.returncode is None:
                relay.terminate()
            await relay.wait()
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _load(port: int, sink: Sink, work: Work, clients: int) -> tuple[float, float]:
    """Do ``work``; the monotonic times at which all was accepted, and relayed."""
    before = sink.messages
    more = asyncio.Event()
    sink.taken = more.set
    try:
        await submit(port, clients, work)
    except OSError as error:
        raise NotMeasured(str(error)) from error
    if not work.seconds:
        raise NotMeasured("no message was taken in time")
    accepted = time.monotonic()
    try:
        async with asyncio.timeout(_ENDS + len(work.seconds) * sink.delay):
            while sink.messages - before < len(work.seconds):
                await more.wait()
                more.clear()
    except TimeoutError:
        raise NotMeasured(f"{sink.messages - before} of {len(work.seconds)} messages were relayed in time") from None
    return accepted, time.monotonic()


async def _listening(relay: asyncio.subprocess.Process, port: int) -> None:
    deadline = time.monotonic() + _STARTS
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if relay.returncode is not None or time.monotonic() > deadline:
                raise NotMeasured("the relay of the bench did not start") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _commits(trace: Path) -> int:
    return trace.read_bytes().count(b"commit.after\n") if trace.exists() else 0


def _cpu(pid: int) -> float:
    """Processor seconds that a process has used so far (proc(5): utime and stime); 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
