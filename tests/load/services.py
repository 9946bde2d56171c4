"""What a bench runs: the relay and Postfix as services of the same shape, sinks, and what they cost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.e2e.harness import free_port, toml
from tests.load.depth import fill
from tests.peers.postfix import Postfix

TICKS = os.sysconf("SC_CLK_TCK")
SMTP_SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin") or "smtp-sink"
SMTP_SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin") or "smtp-source"


class LogCounter:
    """Counts ``status=sent`` in a growing log, reading what is new only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.sent = 0

    def look(self) -> int:
        """Messages sent so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            self._offset += len(new)
            whole, newline, rest = (self._rest + new).rpartition(b"\n")
            self._rest = rest
            self.sent += (whole + newline).count(b"status=sent")
        return self.sent

    def wait(self, count: int, within: float) -> float:
        """The monotonic time at which ``count`` were sent."""
        deadline = time.monotonic() + within
        while self.look() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.sent} of {count} messages sent after {within} s")
            time.sleep(0.005)
        return time.monotonic()


@dataclass
class Service:
    """A mail relay under measurement: where it listens, what it logs, which processes it is made of."""

    name: str
    port: int
    log: LogCounter
    root: Callable[[], int]

    def processes(self) -> list[int]:
        """Its process and all descendants."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (stat := _stat(int(entry.name))):
                parents.setdefault(int(stat[1]), []).append(int(entry.name))
        found = [self.root()]
        for pid in found:
            found.extend(parents.get(pid, []))
        return found

    def cpu(self) -> float:
        """Processor seconds used so far, those of ended children included."""
        ticks = 0
        for pid in self.processes():
            if stat := _stat(pid):
                ticks += sum(map(int, stat[11:15]))
        return ticks / TICKS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, ppid, …, utime, stime, cutime, cstime at 11 to 14."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Bench:
    """``with Bench() as bench``: starts services and sinks, and ends them all."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._sinks: dict[int, subprocess.Popen[str]] = {}
        self.configurations: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def smtp_sink(self) -> int:
        """Debian's smtp-sink; its port."""
        port = free_port()
        self._sinks[port] = self._program([SMTP_SINK, "-u", "nobody", f"127.0.0.1:{port}", "1000"])
        _listening(port)
        return port

    @contextmanager
    def held(self, sink: int) -> Iterator[None]:
        """Nothing gets through to that smtp-sink meanwhile: the kernel takes its connections, nobody answers."""
        self._sinks[sink].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._sinks[sink].send_signal(signal.SIGCONT)

    def delay_sink(self, delay: float, *, chunking: bool = False) -> DelaySink:
        """The sink that simulates a round trip."""
        program = Path(__file__).parents[1] / "peers" / "sink.py"
        options = ["--delay", str(delay), *(("--chunking",) if chunking else ())]
        process = self._program([sys.executable, str(program), *options], stdout=subprocess.PIPE)
        sink = DelaySink(process)
        sink.port = sink.line()["port"]
        return sink

    def postfix(self, sink: int, connections: int) -> Service:
        """Debian's Postfix with the configuration of tests/peers/postfix.py."""
        postfix = self._stack.enter_context(Postfix(free_port(), sink, connections=connections))
        self.configurations["Postfix"] = (postfix.folder / "etc" / "main.cf").read_text()
        return Service(
            f"Postfix {postfix.version()}", postfix.port, LogCounter(postfix.maillog), lambda: postfix.master
        )

    def relay(self, sink: int, connections: int, command: list[str], *, signed: bool = False) -> Service:
        """The relay with its defaults, or signing what comes from x.test."""
        folder = self._folder()
        tables = _tables(folder, sink, connections)
        if signed:
            key = folder / "r1.pem"
            made = ["dkim", "keygen", "--domain", "x.test", "--selector", "r1", "-o", str(key)]
            subprocess.run([*command, *made], check=True, capture_output=True)
            # As text: JSON's objects are no TOML.
            signing = f'\n[dkim."x.test"]\nkeys = [{{ selector = "r1", key_file = "{key}" }}]\n'
            return self._serve(folder, tables, command, signing)
        return self._serve(folder, tables, command)

    def deep_relay(self, sink: int, connections: int, command: list[str], queued: int) -> tuple[Service, float]:
        """The relay with so many messages in its spool; and the seconds from its start until it listens."""
        folder = self._folder()
        fill(folder / "spool" / "spool.db", queued)
        began = time.monotonic()
        service = self._serve(folder, _tables(folder, sink, connections), command)
        return service, time.monotonic() - began

    def end(self, service: Service) -> None:
        """End a service before the others."""
        os.kill(service.root(), signal.SIGTERM)
        deadline = time.monotonic() + 20
        while _stat(service.root())[:1] not in ([], ["Z"]) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _serve(self, folder: Path, tables: dict[str, Any], command: list[str], more: str = "") -> Service:
        port = free_port()
        config = folder / "relay.toml"
        tables["listener.app"] = {"address": f"127.0.0.1:{port}"}
        config.write_text(toml(tables) + more)
        self.configurations.setdefault("relay", config.read_text())
        process = self._program([*command, "serve", "-c", str(config)])
        _listening(port)
        return Service("relay", port, LogCounter(folder / "maillog"), lambda: process.pid)

    def _program(self, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(arguments, text=True, **options)
        self._stack.callback(_end, process)
        return process


def _tables(folder: Path, sink: int, connections: int) -> dict[str, Any]:
    upstream = {"host": "127.0.0.1", "port": sink, "tls": "none", "max_connections": connections}
    return {
        "spool": {"url": f"sqlite:///{folder}/spool/spool.db"},
        "upstream.sink": upstream,
        "log": {"target": str(folder / "maillog")},
    }


class DelaySink:
    """tests/peers/sink.py in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = 0

    def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        read: dict[str, Any] = json.loads(self._process.stdout.readline())
        return read

    def counters(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGUSR1)
        return self.line()

    def count_anew(self) -> None:
        self._process.send_signal(signal.SIGUSR2)


def _listening(port: int, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def fsyncs(service: Service, work: Callable[[], None]) -> int:
    """How often the service's processes synced a file while ``work`` ran: under strace, so nothing is timed."""
    with tempfile.NamedTemporaryFile("r", prefix="strace-") as out:
        attach = [argument for pid in service.processes() for argument in ("-p", str(pid))]
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o", out.name, *attach],
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10
            while not all(_traced(pid) for pid in service.processes()):
                if time.monotonic() > deadline or tracer.poll() is not None:
                    raise RuntimeError("strace can't attach")
                time.sleep(0.02)
            work()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        return len(re.findall(r"^\d+ +(?:fsync|fdatasync|sync_file_range|msync)\(", out.read(), re.MULTILINE))


def _traced(pid: int) -> bool:
    try:
        return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
