"""How the relay's cost grows with what is queued: rates, the start and the memory with a full spool."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from relay.clock import SystemClock
from relay.mail import next_queue_number
from relay.settings import SpoolSettings
from relay.spool.library import sqlite3
from relay.spool.sqlite import open_spool

CONTENT = 2048


@dataclass(frozen=True)
class Depth:
    """What was measured with ``queued`` messages that are not due yet."""

    queued: int
    start: float
    resident: float
    rates: tuple[float, ...]
    resident_after: float


def fill(path: Path, count: int) -> None:
    """Put ``count`` messages that fall due tomorrow into the spool at ``path``."""

    async def make() -> None:
        await (await open_spool(SpoolSettings(path=str(path), min_free_disk=0), clock=SystemClock())).close()

    asyncio.run(make())
    now = time.time()
    first = next_queue_number(0, now - 86_400)
    due = int((now + 86_400) * 1000)
    series = f"WITH RECURSIVE series(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM series LIMIT {count})"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.execute(
        f"""{series} INSERT INTO message (id, arrived, sender, size, body, smtputf8, message_id, client, nrcpt, parts)
        SELECT i, i >> 4, 'a@x.test', {CONTENT}, '7BIT', 0, '<' || i || '@x.test>', 'localhost[127.0.0.1]', 1, 1
        FROM series"""
    )
    connection.execute(
        f"""{series} INSERT INTO recipient (message, n, address, state, due, attempts, upstream, detail)
        SELECT i, 0, 'user' || i || '@y.test', 'waiting', {due}, 1, 'sink', 'try again later' FROM series"""
    )
    connection.execute(f"{series} INSERT INTO content SELECT i << 12, zeroblob({CONTENT}) FROM series")
    connection.execute("UPDATE totals SET messages = ?, octets = ?", (count, CONTENT * count))
    connection.execute("COMMIT")
    connection.close()
    # On disk now, not while somebody measures.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise ProcessLookupError(pid)
