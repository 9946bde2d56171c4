from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool import Selector, SpoolDamaged, SpoolError
from relay.spool.copying import copy_spool
from relay.spool.schema import SCHEMA_VERSION
from relay.spool.sqlite import SqliteSpool, open_spool
from tests.spool.examples import NOW, arrival


async def a_spool(folder: Path) -> SqliteSpool:
    return await open_spool(SpoolSettings(str(folder / "spool.db"), min_free_disk=0), clock=SystemClock())


async def ids(spool: SqliteSpool) -> list[int]:
    found = await spool.find(Selector(everything=True), 2e9)
    return [each.message.number for each in found]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_copy_of_a_spool_that_is_written_to_is_one_moment_of_it(tmp_path: Path) -> None:
    spool = await a_spool(tmp_path)
    accepted = 0
    going_on = True

    async def write() -> None:
        nonlocal accepted
        while going_on:
            await spool.accept(arrival(spool.allocate(NOW)))
            accepted += 1

    writing = asyncio.create_task(write())
    try:
        for n in range(5):
            while accepted < 20 * (n + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            before = accepted
            copied = await asyncio.to_thread(copy_spool, tmp_path / "spool.db", tmp_path / f"copy{n}.db")
            assert before <= copied.messages <= accepted + 1
            with sqlite3.connect(f"file:{tmp_path}/copy{n}.db?mode=ro&immutable=1", uri=True) as copy:
                (messages,) = copy.execute("SELECT count(*) FROM message").fetchone()
                (contents,) = copy.execute("SELECT count(*) FROM content").fetchone()
            copy.close()
            assert messages == contents == copied.messages
    finally:
        going_on = False
        await writing
        await spool.close()


async def test_a_copy_is_a_spool(tmp_path: Path) -> None:
    spool = await a_spool(tmp_path)
    await spool.accept(arrival(spool.allocate(NOW)))
    before = await ids(spool)
    copied = copy_spool(tmp_path / "spool.db", tmp_path / "copy.db")
    await spool.close()
    assert (copied.messages, copied.schema) == (1, SCHEMA_VERSION)
    assert copied.size == (tmp_path / "copy.db").stat().st_size
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy.db").rename(tmp_path / "elsewhere" / "spool.db")
    again = await a_spool(tmp_path / "elsewhere")
    assert await ids(again) == before
    with sqlite3.connect(tmp_path / "elsewhere" / "spool.db") as look:
        assert look.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    look.close()
    await again.close()


async def test_what_a_killed_relay_left_in_the_log_is_copied_too(tmp_path: Path) -> None:
    """The log's index is gone with the machine; nobody runs, and no lock is taken."""
    spool = await a_spool(tmp_path)
    await spool.accept(arrival(spool.allocate(NOW)))
    left = tmp_path / "left"
    left.mkdir()
    for name in ("spool.db", "spool.db-wal"):
        (left / name).write_bytes((tmp_path / name).read_bytes())
    await spool.close()
    assert copy_spool(left / "spool.db", tmp_path / "copy.db").messages == 1
    again = await a_spool(left)
    assert len(await ids(again)) == 1
    await again.close()


async def test_a_copy_is_its_owners_alone_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    await (await a_spool(tmp_path)).close()
    target = tmp_path / "copy.db"
    before = os.umask(0)
    try:
        copy_spool(tmp_path / "spool.db", target)
        assert target.stat().st_mode & 0o777 == 0o600
        target.write_text("mine")
        with pytest.raises(FileExistsError):
            copy_spool(tmp_path / "spool.db", target)
        assert target.read_text() == "mine"
        copy_spool(tmp_path / "spool.db", target, replace=True)
        assert target.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    with pytest.raises(FileExistsError):
        copy_spool(tmp_path / "spool.db", tmp_path / "spool.db", replace=True)
    link = tmp_path / "link.db"
    link.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        copy_spool(tmp_path / "spool.db", link)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


async def test_a_damaged_spool_makes_no_copy(tmp_path: Path) -> None:
    spool = await a_spool(tmp_path)
    for _ in range(50):
        await spool.accept(arrival(spool.allocate(NOW), content=os.urandom(20_000)))
    await spool.close()
    path = tmp_path / "spool.db"
    octets = bytearray(path.read_bytes())
    for page in range(20, len(octets) // 4096 - 20):
        octets[page * 4096 : page * 4096 + 16] = os.urandom(16)
    path.write_bytes(octets)
    with pytest.raises(SpoolDamaged):
        copy_spool(path, tmp_path / "copy.db")
    assert not [name for name in names(tmp_path) if "copy" in name]


@pytest.mark.parametrize("what", ["text", "database", "folder"])
def test_what_is_no_spool_is_not_copied(tmp_path: Path, what: str) -> None:
    path = tmp_path / "spool.db"
    if what == "text":
        path.write_text("not a database" * 100)
    elif what == "database":
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE t (x)")
        other.close()
    else:
        path.mkdir()
    with pytest.raises(SpoolError):
        copy_spool(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_no_spool_and_no_folder_are_the_systems_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copy_spool(tmp_path / "none.db", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        copy_spool(tmp_path / "none.db", tmp_path / "none" / "copy.db")
