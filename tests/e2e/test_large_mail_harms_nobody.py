"""Many large messages at once: memory stays bounded, and who submits small ones goes on meanwhile (issue 3, item 4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.harness import Relay
from tests.peers.ledger import Submitter, reply_of

LARGE = 40
SIZE = 10_000_000
PIECE = (b"x" * 76 + b"\r\n") * 840
SMALL = b"Subject: small\r\n\r\nhello\r\n"


async def submit_large(port: int) -> str:
    client = await Submitter.connect(port)
    try:
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<success@y.test>", "DATA"):
            assert (await client.command(line))[0] in "23"
        for _ in range(SIZE // len(PIECE)):
            client.writer.write(PIECE)
            await client.writer.drain()
        client.writer.write(b".\r\n")
        return await reply_of(client.reader)
    finally:
        client.close()


async def submit_small(port: int, over: asyncio.Event) -> int:
    client = await Submitter.connect(port)
    count = 0
    while not over.is_set():
        assert (await client.submit("a@x.test", ["success@y.test"], SMALL)).startswith("250 ")
        count += 1
    client.close()
    return count


def peak(pid: int) -> float:
    """The most memory that a process ever had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1000


async def test_large_mail(tmp_path: Path) -> None:
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}) as relay:
        over = asyncio.Event()
        small = asyncio.create_task(submit_small(relay.port, over))
        replies = await asyncio.gather(*(submit_large(relay.port) for _ in range(LARGE)))
        over.set()
        assert all(reply.startswith("250 2.0.0 ") for reply in replies)
        # 400 MB are 1,600 parts; behind all forty that may come at once each time it would be some 40 messages.
        assert await small >= 100
        assert peak(relay.pid) < 200
