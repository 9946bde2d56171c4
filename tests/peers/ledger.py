"""The ledger: what was submitted and acknowledged against what arrived.

The client notes what it submits before it does so and what was acknowledged after the 250; it is never killed. The
verdict is plain set algebra, so that no tool's opinion is needed: lost, altered, phantom, duplicates.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FIELD = re.compile(rb"^X-Ledger: (\S+)\r\n", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """``repeated`` has the times of all arrivals of each message that arrived more than once."""

    submitted: int
    acknowledged: int
    lost: frozenset[str]
    altered: frozenset[str]
    phantom: frozenset[str]
    repeated: dict[str, list[float]]

    def summary(self) -> str:
        """One line for a report."""
        twice = sum(len(times) - 1 for times in self.repeated.values())
        return (
            f"{self.submitted} submitted, {self.acknowledged} acknowledged, {len(self.lost)} lost, "
            f"{len(self.altered)} altered, {len(self.phantom)} phantom, {twice} duplicates"
        )


@dataclass
class Ledger:
    """Submissions by name, with the SHA-256 of the body."""

    submitted: dict[str, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)

    def message(self, name: str, size: int, seed: random.Random) -> bytes:
        """A message of about ``size`` octets whose body nobody else has, noted as submitted."""
        lines = [seed.randbytes(30).hex() for _ in range(max(1, size // 62))]
        lines.insert(len(lines) // 2, f"..dots {name}")
        lines.append(f".{name}")
        body = "".join(f"{line}\r\n" for line in lines).encode()
        self.submitted[name] = hashlib.sha256(body).hexdigest()
        head = f"From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: {name}\r\nX-Ledger: {name}\r\n"
        return head.encode() + b"\r\n" + body

    def verdict(self, arrived: Path) -> Verdict:
        """Compare with the ledger file that a sink wrote."""
        seen: dict[str, list[float]] = {}
        altered = set()
        for line in arrived.read_text().splitlines():
            at, _session, digest, name = line.split(" ")
            seen.setdefault(name, []).append(float(at))
            if digest != self.submitted.get(name):
                altered.add(name)
        return Verdict(
            len(self.submitted),
            len(self.acknowledged),
            frozenset(self.acknowledged - set(seen)),
            frozenset(altered & set(self.submitted)),
            frozenset(set(seen) - set(self.submitted)),
            {name: times for name, times in seen.items() if len(times) > 1},
        )

    @staticmethod
    def read(content: bytes) -> tuple[str, str]:
        """Name and digest of a message as it arrived; "-" where it has no name."""
        found = FIELD.search(content)
        digest = hashlib.sha256(content.partition(b"\r\n\r\n")[2]).hexdigest()
        return (found[1].decode() if found else "-"), digest


PATIENCE = 30.0
"""Seconds that a client waits for a line: TimeoutError (an OSError) then."""


async def reply_of(reader: asyncio.StreamReader) -> str:
    """One whole reply; ConnectionResetError where the server is gone."""
    lines = []
    while True:
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        if line[3:4] != b"-":
            return "\n".join(lines)


class Submitter:
    """A lock-step SMTP client with one session; ``submit`` gives the last reply."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> Submitter:
        reader, writer = await asyncio.open_connection(host, port)
        self = cls(reader, writer)
        try:
            greeting = await reply_of(reader)
            hello = await self.command("EHLO client.test")
        except BaseException:
            self.close()
            raise
        if not greeting.startswith("220") or not hello.startswith("250"):
            self.close()
            raise ConnectionRefusedError(f"{greeting} / {hello}")
        return self

    async def command(self, line: str) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await reply_of(self.reader)

    async def submit(self, sender: str, recipients: list[str], content: bytes, parameters: str = "") -> str:
        """Dot-stuffs ``content``, which has CRLF line ends."""
        for line in [f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{to}>" for to in recipients), "DATA"]:
            reply = await self.command(line)
            if reply[0] not in "23":
                return reply
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        self.writer.write(stuffed + b".\r\n")
        return await reply_of(self.reader)

    def close(self) -> None:
        self.writer.transport.abort()


async def submit_for_ever(ledger: Ledger, port: int, label: str, stop: asyncio.Event, pause: float = 0.0) -> None:
    """One ledger client: submits until told to stop, over restarts and refusals; never gives a name out twice."""
    seed = random.Random(label)
    client: Submitter | None = None
    number = 0
    while not stop.is_set():
        try:
            client = client or await Submitter.connect(port)
            number += 1
            name = f"{label}-{number}"
            content = ledger.message(name, seed.choice((200, 2000, 2000, 20_000)), seed)
            reply = await client.submit("a@x.test", ["b@y.test"], content)
        except OSError:
            if client is not None:
                client.close()
            client = None
            await asyncio.sleep(0.02)
            continue
        if reply.startswith("250"):
            ledger.acknowledged.add(name)
        else:
            ledger.refused[reply[:9]] += 1
            client.close()
            client = None
        if pause:
            await asyncio.sleep(pause)
    if client is not None:
        client.close()
