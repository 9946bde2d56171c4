"""kill -9 between any two statements: what was promised holds, what was not happened wholly or not at all."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool import Selector, SpoolError
from relay.spool.library import sqlite3
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import NOW
from .victim import BRAKED, LARGE, LOGINS, SMALL, WHERE

ROOT = Path(__file__).parents[2]
AT_ONCE = 4


async def run_victim(path: Path, n: int) -> tuple[int, list[list[str]]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.spool.victim", str(path), str(n)), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [line.split() for line in out.decode().splitlines()]


def named_points() -> set[str]:
    """The fault points that stand in the spool's code."""
    sources = "".join(path.read_text() for path in (ROOT / "relay" / "spool").glob("*.py"))
    return set(re.findall(r'(?:fault\(|_change\(.*)"([a-z]+\.[a-z_]+)"\)', sources))


async def content_of(spool: SqliteSpool, number: int) -> bytes:
    octets = b""
    for part in range(3):
        try:
            octets += await spool.content(number, part)
        except SpoolError:
            break
    return octets


def check_rows(path: Path) -> None:
    """No row that another one should explain, and sums that are the sums."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    opened = "SELECT DISTINCT message FROM recipient WHERE due IS NOT NULL"
    orphans = connection.execute(f"SELECT count(*) FROM content WHERE id >> 12 NOT IN ({opened})").fetchone()
    assert orphans == (0,)
    assert connection.execute("SELECT count(*) FROM staging").fetchone() == (0,)
    kept = connection.execute("SELECT messages, octets FROM totals").fetchone()
    counted = connection.execute(f"SELECT count(*), total(size) FROM message WHERE id IN ({opened})").fetchone()
    assert kept == counted
    whole = "SELECT count(*) FROM message WHERE nrcpt != (SELECT count(*) FROM recipient WHERE message = message.id)"
    assert connection.execute(whole).fetchone() == (0,)
    # An imprint comes in with its message.
    strays = connection.execute("SELECT count(*) FROM imprint WHERE id >> 1 NOT IN (SELECT id FROM message)").fetchone()
    assert strays == (0,)
    # A failure and its bounce come in one commit, and so do a delay that is told and its notification.
    told = connection.execute(
        "SELECT message FROM recipient WHERE state = 'failed' AND status = 'bounced' OR warned IS NOT NULL"
    ).fetchall()
    of = "printf('%X', of.id) = message.bounce_of"  # whom it tells of may be swept by now
    notifications = connection.execute(f"SELECT of.id FROM message JOIN message of ON {of}").fetchall()
    assert sorted(notifications) == sorted(told)
    # What the brake stopped goes free with it.
    stopped = "SELECT count(*) FROM recipient WHERE state = 'held' AND detail LIKE '%stale list'"
    assert connection.execute(stopped).fetchone()[0] in {0, 1}
    begun = "SELECT count(*) FROM recipient WHERE begun IS NOT NULL"
    assert connection.execute(f"{begun} AND message NOT IN (SELECT message FROM signature)").fetchone() == (0,)
    connection.close()


async def check_promises(path: Path, promises: list[list[str]]) -> None:
    spool = await open_spool(SpoolSettings(path=str(path), min_free_disk=0), clock=SystemClock())
    await spool.rescue(NOW)
    states: dict[int, str] = {}
    for word, *numbers in promises:
        if word not in {"names", "points", "quota", "logins", "repeated"}:
            states.update((int(number), word) for number in numbers)
    # What was used of limits: what was promised last, or whole what was on its way.
    written = [int(number) for word, number, *_ in promises if word == "quota"]
    quotas = (None, {1.0: [(1, 1), (2, 2)]}, {1.0: [(2, 3), (4, 4)]})
    found = (await spool.quotas()).get("ses")
    assert (None if found is None else found.windows) in quotas[max(written, default=0) :]
    told = [int(number) for word, number, *_ in promises if word == "logins"]
    assert (await spool.refused_logins()).get("ses", ()) in ((), *LOGINS)[max(told, default=0) :]
    listed = await spool.find(Selector(everything=True), NOW)
    in_doubt = {each.claimed.message.number: each.where for each in await spool.begun()}
    unwarned = {each.message.number for each in await spool.delayed(0, NOW + 60, 100)}
    brakes = [each.source for each in await spool.brakes()]
    for number, word in states.items():
        if word == "begun":
            assert in_doubt == {number: WHERE}
        if word == "warned":
            assert number not in unwarned
        if word == "swept":
            assert await spool.story(number) is None
            continue
        story = await spool.story(number)
        if story is None:
            # Done, and swept just before the kill, the sweep's answer being lost.
            assert word in {"relayed", "failed", "removed"}
            continue
        (state, *_) = {recipient.state for recipient in story.queued.recipients}
        done = {"relayed": "relayed", "failed": "failed", "removed": "failed"}.get(word)
        if done is not None:
            assert state == done
    for queued in listed:
        expected = LARGE if queued.message.size == len(LARGE) else SMALL
        assert await content_of(spool, queued.message.number) == expected
    open_numbers = [queued.message.number for queued in listed]
    assert len(open_numbers) == len(set(open_numbers))
    last = [word for word, *_ in promises if word in {"braked", "logins"}]
    if last:
        assert brakes in ([BRAKED], []) if last[-1] == "braked" else brakes == []
    open_words = {"accepted", "deferred", "held", "claimed", "begun", "warned", "released", "braked"}
    still_open = {number for number, word in states.items() if word in open_words}
    # An operation on its way may have ended some of them: the one whose answer the kill cut off, and no other.
    assert len(still_open - set(open_numbers)) <= 1
    held = {number for number, word in states.items() if word == "held"}
    found_held = {queued.message.number for queued in await spool.find(Selector(state="held"), NOW)}
    # Those of the verb whose answer the kill cut off may be free already: all of them, or none.
    assert held <= found_held or (promises[-1][0] == "held" and {*map(int, promises[-1][1:])} == held - found_held)
    # What is braked is held, until the brake goes: both in one commit.
    assert all((number in found_held) is bool(brakes) for number, word in states.items() if word == "braked")
    await spool.close()


async def check_one(tmp_path: Path, n: int, limit: asyncio.Semaphore) -> list[list[str]]:
    path = tmp_path / f"{n}" / "spool.db"
    async with limit:
        code, promises = await run_victim(path, n)
        assert code == (-signal.SIGKILL if n else 0)
        await check_promises(path, promises)
        check_rows(path)
    return promises


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_kill_at_each_fault_point_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    limit = asyncio.Semaphore(AT_ONCE)
    *_, (_, *names), (word, last) = await check_one(tmp_path, 0, limit)
    assert word == "points"
    points = int(last)
    assert points > 80
    assert set(names) >= named_points(), "a verb that the victim does not use"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(check_one(tmp_path, n, limit)) for n in range(1, points + 1)]
    promised = [len(task.result()) for task in tasks]
    assert promised == sorted(promised), "a later death promised less: the points are not passed in order"
    assert promised[0] == 0 < promised[-1]
