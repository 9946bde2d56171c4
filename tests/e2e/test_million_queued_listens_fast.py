"""With a million messages queued a start listens within 3 seconds, stays small and begins to relay."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream

QUEUED = 1_000_000
CONTENT = b"Received: from test\r\nSubject: one of a million\r\nMessage-ID: <m@x.test>\r\n\r\nbody\r\n"

NUMBERS = f"WITH RECURSIVE k (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < {QUEUED})"
FILL = (
    (
        f"INSERT INTO message (id, arrived, sender, size, body, smtputf8, message_id, client, nrcpt, parts) {NUMBERS} "
        "SELECT :base + i, :arrived, 'a@x.test', :size, '7BIT', 0, '<m@x.test>', 'localhost[127.0.0.1]', 1, 1 FROM k"
    ),
    (
        f"INSERT INTO recipient (message, n, address, state, due) {NUMBERS} "
        "SELECT :base + i, 0, 'b@y.test', 'waiting', :arrived + i % 1000 FROM k"
    ),
    f"INSERT INTO content (id, octets) {NUMBERS} SELECT (:base + i) << 12, :content FROM k",
    f"UPDATE totals SET messages = {QUEUED}, octets = {QUEUED} * :size, last = :base + {QUEUED}",
)


def fill(spool: Path) -> None:
    """Straight into the file: a million submissions would take minutes."""
    arrived = int(time.time() * 1000) - 600_000
    values = {"base": arrived << 4, "arrived": arrived, "size": len(CONTENT), "content": CONTENT}
    with closing(sqlite3.connect(spool)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in FILL:
            connection.execute(statement, values)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_million(tmp_path: Path) -> None:
    async with SinkProcess() as sink, Relay(tmp_path, {"sink": smtp_upstream(sink.port)}) as relay:
        assert await relay.stop() == 0
        await asyncio.to_thread(fill, tmp_path / "spool" / "spool.db")
        seconds = await relay.start()
        assert seconds < 3, "from exec to an answering port"
        began = time.monotonic()
        await relay.submit()
        assert time.monotonic() - began < 2, "a new message is taken as if nothing were queued"
        await relay.until("status=sent", 2000, within=20)
        counts = await relay.json("queue", "count")
        assert QUEUED // 2 < sum(counts.values()) <= QUEUED
        status = Path(f"/proc/{relay.pid}/status").read_text()  # noqa: ASYNC240 - a pseudo file
        (rss,) = re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        print(f"listening after {seconds:.2f} s, resident {int(rss) // 1024} MB")
        assert int(rss) < 256_000
