"""A million queued messages: the relay starts, claims, settles and counts as if there were ten."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.mail import next_queue_number
from relay.settings import SpoolSettings
from relay.spool import ORDINARY, Selector, Totals
from relay.spool.library import sqlite3
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import NOW, settlement

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MILLION = 1_000_000
FIRST = next_queue_number(0, NOW - 86_400)

_SERIES = f"WITH RECURSIVE series(i) AS (SELECT {FIRST} UNION ALL SELECT i + 1 FROM series LIMIT {MILLION})"
FILL = (
    f"""{_SERIES} INSERT INTO message (id, arrived, sender, size, body, smtputf8, ret, envid, message_id, client, nrcpt,
    parts, bounce_of) SELECT i, i >> 4, 'app@example.com', 300, '7BIT', 0, NULL, NULL,
    '<' || i || '@example.com>', 'localhost[127.0.0.1]', 1, 1, NULL FROM series""",
    f"""{_SERIES} INSERT INTO recipient (message, n, address, state, due)
    SELECT i, 0, 'user' || i || '@example.net', 'waiting', i >> 4 FROM series""",
    f"{_SERIES} INSERT INTO content SELECT i << 12, zeroblob(300) FROM series",
    f"UPDATE totals SET messages = {MILLION}, octets = {300 * MILLION}",
)


async def opened(path: Path) -> SqliteSpool:
    return await open_spool(SpoolSettings(path=str(path), min_free_disk=0), clock=SystemClock())


def fill(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    for statement in FILL:
        connection.execute(statement)
    connection.execute("COMMIT")
    connection.close()


async def test_a_million_queued_messages_cost_a_start_and_a_claim_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "spool.db"
    await (await opened(path)).close()
    await asyncio.to_thread(fill, path)

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    spool = await opened(path)
    took = {"open": time.perf_counter() - started}
    assert spool.allocate(0) == FIRST + MILLION

    claims = []
    for _ in range(5):
        started = time.perf_counter()
        claimed = await spool.claim(NOW, 500, 1_000_000)
        claims.append(time.perf_counter() - started)
        assert len(claimed) == 500
        assert all(entry.content is not None for entry in claimed)
    took["claim"] = min(claims)
    started = time.perf_counter()
    assert await spool.due_turns(NOW, -1, 1000) == [ORDINARY]
    took["turns"] = time.perf_counter() - started
    started = time.perf_counter()
    in_turn = await spool.claim(NOW, 500, 1_000_000, {ORDINARY: 500})
    took["claim in turn"] = time.perf_counter() - started
    assert len(in_turn) == 500
    started = time.perf_counter()
    assert len(await spool.settle([settlement(entry.message.number) for entry in claimed])) == 500
    took["settle"] = time.perf_counter() - started
    started = time.perf_counter()
    assert await spool.next_due(NOW) is not None
    assert len(await spool.find(Selector(everything=True), NOW, 100)) == 100
    took["list"] = time.perf_counter() - started
    started = time.perf_counter()
    assert await spool.counts(NOW) == {"leased": 2500, "waiting": MILLION - 3000, "deferred": 0, "held": 0}
    took["counts"] = time.perf_counter() - started
    assert await spool.totals() == Totals(MILLION - 500, 300 * (MILLION - 500), {"ses": 500})
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    await spool.close()

    # Ten times and more what they take here; a scan of the table would be far above.
    assert took["open"] < 3, took
    assert took["claim"] < 0.2, took
    assert took["claim in turn"] < 0.5, took
    assert took["turns"] < 0.2, took
    assert took["settle"] < 1, took
    assert took["list"] < 1, took
    assert took["counts"] < 5, took
    assert grown < 40_000, f"{grown} KB more"
