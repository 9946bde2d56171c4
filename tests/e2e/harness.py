"""A real relay in its own process, folder and ports, for tests named after accidents.

Tests wait for named moments: a line of the log, a message at a peer, the end of the process; never for a guessed time.
What a harness starts it also ends, whatever the test does.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.peers.ledger import Submitter

COMMAND = (sys.executable, "-m", "relay")
Table = Mapping[str, str | int | bool | Sequence[str]]


def free_port() -> int:
    """A port below the range of outgoing connections, so that none of these takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def reached(condition: Callable[[], bool], within: float = 30.0) -> None:
    """Wait for what nobody announces: a counter of this process."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def toml(tables: Mapping[str, Table]) -> str:
    """Tables as relay.toml spells them; JSON's strings, numbers, booleans and arrays are TOML's too."""
    lines = ['hostname = "relay.test"']
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def smtp_upstream(port: int, **settings: Any) -> dict[str, Any]:
    """An ``[upstream.NAME]`` table for a peer on this machine."""
    return {"kind": "smtp", "host": "127.0.0.1", "port": port, "tls": "none", **settings}


@dataclass
class Relay:
    """``async with Relay(folder, {"peer": smtp_upstream(port)}) as relay``; ``log`` has the lines of all its lives."""

    folder: Path
    upstreams: Mapping[str, Table]
    queue: Table = field(default_factory=dict)
    listener: Table = field(default_factory=dict)
    spool: Table = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = COMMAND
    port: int = 0
    log: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    lives: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reading: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "relay.toml"
        self.write_config()

    def write_config(self) -> None:
        tables: dict[str, Table] = {
            "spool": {"url": f"sqlite:///{self.folder}/spool/spool.db", "min_free_disk": "0MB", **self.spool},
            "queue": {"backoff": ["1s"], "stop_timeout": "10s", **self.queue},
            "listener.app": {"address": f"127.0.0.1:{self.port}", **self.listener},
            **{f"upstream.{name}": table for name, table in self.upstreams.items()},
            **self.tables,
        }
        self.config.write_text(toml(tables))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self, within: float = 30.0, *, may_die: bool = False) -> float:
        """Start and wait until it listens, or where it ``may_die`` has ended; the seconds that took."""
        assert self.process is None
        began = time.monotonic()
        self.lives += 1
        earlier = len(self.lines("daemon started"))
        self.process = await asyncio.create_subprocess_exec(
            *self.program,
            "serve",
            "-c",
            str(self.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        self._reading = asyncio.create_task(self._read_log(self.process))
        while time.monotonic() - began < within:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    listening = time.monotonic() - began
                if not may_die:
                    await self.until("daemon started", earlier + 1)  # the other listeners too
                return listening
            except (ConnectionRefusedError, ConnectionResetError):
                if self.process.returncode is not None:
                    break
                await asyncio.sleep(0.01)
        code = self.process.returncode
        if may_die and code is not None:
            return time.monotonic() - began
        await self.kill()
        raise AssertionError(f"the relay doesn't listen (exit {code}):\n" + "\n".join(self.log[-20:]))

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            async with self._changed:
                self.log.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._changed.notify_all()

    async def until(self, pattern: str, count: int = 1, within: float = 30.0) -> list[re.Match[str]]:
        """Wait for the ``count``-th log line that matches; all matches so far."""
        compiled = re.compile(pattern)
        found: list[re.Match[str]] = []
        read = 0

        def enough() -> bool:
            nonlocal read
            new, read = self.log[read:], len(self.log)
            found.extend(match for line in new if (match := compiled.search(line)))
            return len(found) >= count

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(enough)
        except TimeoutError:
            tail = "\n".join(self.log[-30:])
            raise AssertionError(f"{len(found)} of {count} lines match {pattern!r} after {within} s:\n{tail}") from None
        return found

    async def drained(self, within: float = 120.0) -> None:
        """Wait until nothing is queued."""
        deadline = time.monotonic() + within
        while any((counts := await self.json("queue", "count")).values()):
            assert time.monotonic() < deadline, f"still queued: {counts}"
            await asyncio.sleep(0.2)

    def lines(self, pattern: str) -> list[str]:
        """Log lines so far that match."""
        return [line for line in self.log if re.search(pattern, line)]

    async def ended(self, within: float = 30.0) -> int:
        """Wait for the process to end by itself; its exit code."""
        assert self.process is not None
        async with asyncio.timeout(within):
            code = await self.process.wait()
        if self._reading is not None:
            await self._reading
        self.process = None
        return code

    async def stop(self, within: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(within)

    async def kill(self) -> None:
        """SIGKILL, wherever it is."""
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def command(self, *arguments: str, within: float = 30.0) -> tuple[int, str, str]:
        """Run ``relay ARGUMENTS -c FILE``: exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            "-c",
            str(self.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        try:
            async with asyncio.timeout(within):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def json(self, *arguments: str) -> Any:
        """What ``relay ARGUMENTS --json`` prints."""
        code, out, err = await self.command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    async def submit(
        self, body: str = "hello\r\n", recipients: Sequence[str] = ("b@y.test",), sender: str = "a@x.test"
    ) -> str:
        """Submit one message over a session of its own; its queue id."""
        reply = await self.reply(body, recipients, sender)
        found = re.match(r"250 2\.0\.0 Ok: queued as (\w+)", reply)
        assert found is not None, reply
        return found[1]

    async def submit_many(self, count: int, sessions: int = 10) -> None:
        """Submit ``count`` messages over ``sessions`` that stay open."""

        async def one(share: int) -> None:
            client = await Submitter.connect(self.port)
            for _ in range(share):
                reply = await client.submit("a@x.test", ["b@y.test"], b"Subject: one of many\r\n\r\nhello\r\n")
                assert reply.startswith("250"), reply
            client.close()

        await asyncio.gather(*(one(count // sessions + (n < count % sessions)) for n in range(sessions)))

    async def reply(
        self, body: str = "hello\r\n", recipients: Sequence[str] = ("b@y.test",), sender: str = "a@x.test"
    ) -> str:
        """The last reply to a message submitted over a session of its own."""
        client = await Submitter.connect(self.port)
        try:
            content = f"From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: test\r\n\r\n{body}"
            return await client.submit(sender, list(recipients), content.encode())
        finally:
            client.close()


@dataclass
class SinkProcess:
    """``async with SinkProcess(delay=0.05) as sink``: tests/peers/sink.py as a process of its own."""

    delay: float = 0.0
    ledger: Path | None = None
    hide: tuple[str, ...] = ()
    chunking: bool = False
    port: int = 0

    async def __aenter__(self) -> Self:
        program = Path(__file__).parents[1] / "peers" / "sink.py"
        extra = ["--ledger", str(self.ledger)] if self.ledger is not None else []
        extra += ["--chunking"] if self.chunking else []
        for extension in self.hide:
            extra += ["--hide", extension]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(program),
            "--port",
            str(self.port),
            "--delay",
            str(self.delay),
            *extra,
            stdout=asyncio.subprocess.PIPE,
        )
        self.port = (await self._line())["port"]
        return self

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            line: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return line

    async def counters(self) -> dict[str, Any]:
        """What it counted so far."""
        self._process.send_signal(signal.SIGUSR1)
        return await self._line()

    def count_anew(self) -> None:
        self._process.send_signal(signal.SIGUSR2)

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
