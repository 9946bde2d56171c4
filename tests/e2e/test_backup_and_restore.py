"""Backups of a running relay, and what docs/operations.md says of putting one back."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Submitter

NOBODY = {"main": smtp_upstream(1)}


async def test_a_copy_made_under_load_holds_what_was_acknowledged_and_delays_nobody(tmp_path: Path) -> None:
    relay = Relay(tmp_path, NOBODY)
    async with relay:
        await relay.submit_many(500)
        client = await Submitter.connect(relay.port)
        worst = 0.0
        accepted = 500
        making = asyncio.create_task(relay.command("backup", str(tmp_path / "copy.db")))
        while not making.done():
            began = time.monotonic()
            reply = await client.submit("a@x.test", ["b@y.test"], b"Subject: meanwhile\r\n\r\nhello\r\n")
            worst = max(worst, time.monotonic() - began)
            assert reply.startswith("250")
            accepted += 1
        client.close()
        code, out, err = await making
        assert (code, err) == (0, "")
        assert "checked" in out
        with sqlite3.connect(f"file:{tmp_path}/copy.db?mode=ro&immutable=1", uri=True) as copy:
            (kept,) = copy.execute("SELECT messages FROM totals").fetchone()
        copy.close()
        assert 500 <= kept <= accepted
        assert worst < 2.0, "an application waited for the backup"
        code, _, err = await relay.command("backup", str(tmp_path / "copy.db"))
        assert code == 2
        assert "--force replaces it" in err
        assert (await relay.json("backup", "--force", str(tmp_path / "copy.db")))["messages"] == accepted


async def test_a_backup_put_back_and_held_sends_only_what_is_released(tmp_path: Path) -> None:
    relay = Relay(tmp_path, NOBODY)
    async with relay:
        first = await relay.submit("one\r\n")
        second = await relay.submit("two\r\n")
        code, _, err = await relay.command("backup", str(tmp_path / "copy.db"))
        assert code == 0, err
        await relay.submit("lost with the disk\r\n")
    async with SinkProcess(ledger=tmp_path / "ledger") as sink:
        # As docs/operations.md has it: the old files away, also the log's, the copy in their place, hold, start.
        for path in (tmp_path / "spool").glob("spool.db*"):
            path.rename(tmp_path / path.name)
        shutil.copyfile(tmp_path / "copy.db", tmp_path / "spool" / "spool.db")
        relay.upstreams = {"main": smtp_upstream(sink.port)}
        relay.write_config()
        code, out, err = await relay.command("queue", "hold", "--all")
        assert (code, out) == (0, "2 messages held\n"), err
        async with relay:
            assert (await relay.json("queue", "count"))["held"] == 2
            await relay.command("queue", "release", second)
            await relay.until(f"{second}: removed")
            assert (await relay.json("queue", "count"))["held"] == 1
            await relay.command("queue", "remove", first)
            assert (await sink.counters())["messages"] == 1


async def test_a_spool_of_a_later_release_is_refused_and_kept(tmp_path: Path) -> None:
    relay = Relay(tmp_path, NOBODY)
    async with relay:
        await relay.submit()
        assert await relay.stop() == 0
    path = tmp_path / "spool" / "spool.db"
    with sqlite3.connect(path) as spool:
        spool.execute("PRAGMA user_version = 999")
    spool.close()
    await relay.start(may_die=True)
    assert await relay.ended() == 74
    assert relay.lines(r"is of a later release \(schema 999, known up to \d+\)")
    code, _, err = await relay.command("queue", "count")
    assert code == 74
    assert "later release" in err
    code, _, err = await relay.command("backup", str(tmp_path / "copy.db"))
    assert code == 0, err


async def test_a_backup_without_a_spool_is_69(tmp_path: Path) -> None:
    relay = Relay(tmp_path, NOBODY)
    code, _, err = await relay.command("backup", str(tmp_path / "copy.db"))
    assert code == 69
    assert "No such file" in err
