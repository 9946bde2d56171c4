"""The write-ahead log is filled with zeros ahead of what is written, and nothing is lost or misread by that."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool import filling
from relay.spool.filling import STEP, LogFiller
from relay.spool.library import sqlite3
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import NOW, arrival

FRAME = 4096 + 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "spool.db"


def log_of(path: Path) -> Path:
    return path.with_name("spool.db-wal")


async def opened(path: Path) -> SqliteSpool:
    return await open_spool(SpoolSettings(path=str(path), min_free_disk=0), clock=SystemClock())


async def accept(spool: SqliteSpool, messages: int) -> None:
    for _ in range(messages):
        await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 2000))
    # The writer answers before it fills: behind the next answer that is done.
    await spool.beat()


def frames(path: Path) -> tuple[int, int]:
    """How many frames the log has room for, and how many of these begin with a page's number."""
    octets = log_of(path).read_bytes()[32:]
    numbers = [octets[start : start + 4] for start in range(0, len(octets) - FRAME + 1, FRAME)]
    return len(numbers), sum(any(number) for number in numbers)


async def test_zeros_stand_ahead_of_the_log_in_blocks_of_their_own(path: Path) -> None:
    spool = await opened(path)
    await accept(spool, 30)
    room, written = frames(path)
    assert written > filling.FIRST
    assert room - written > filling.AHEAD
    status = log_of(path).stat()
    assert status.st_blocks * 512 >= status.st_size, "reserved, but not written"
    before = status.st_size
    await accept(spool, 2)
    assert log_of(path).stat().st_size == before, "written over, not appended"
    await spool.close()
    assert not log_of(path).exists()


async def test_a_single_message_pays_for_nothing(path: Path) -> None:
    await (await opened(path)).close()
    spool = await opened(path)
    await accept(spool, 1)
    room, written = frames(path)
    assert room == written < filling.FIRST
    await spool.close()


async def test_the_log_is_filled_up_to_the_length_that_it_has_anyway(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_FULL", 3 * STEP)
    spool = await opened(path)
    await accept(spool, 200)
    room, written = frames(path)
    assert room * FRAME > 3 * STEP
    assert room == written, "SQLite lengthens it by itself then"
    await spool.close()


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
async def test_what_is_found_after_a_crash_ends_where_the_zeros_begin(path: Path, *, torn: bool) -> None:
    spool = await opened(path)
    await accept(spool, 40)
    left = path.parent.parent / "left" / "spool.db"
    left.parent.mkdir(mode=0o700)
    shutil.copy(path, left)
    shutil.copy(log_of(path), log_of(left))
    await spool.close()
    _, written = frames(left)
    if torn:
        # Half of the last frame, which ends the last message's commit, did not reach the disk.
        with log_of(left).open("r+b") as log:
            log.seek(32 + (written - 1) * FRAME + FRAME // 2)
            log.write(bytes(FRAME // 2))
    spool = await opened(left)
    assert (await spool.totals()).messages == 40 - torn
    await accept(spool, 10)
    assert (await spool.totals()).messages == 50 - torn
    await spool.close()
    connection = sqlite3.connect(left)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def a_log(path: Path) -> int:
    """A log whose frame at the first mark is written; its size."""
    path.parent.mkdir(mode=0o700)
    log_of(path).write_bytes(b"\1" * (32 + (filling.FIRST + 1) * FRAME))
    return log_of(path).stat().st_size


def test_little_room_on_the_disk_is_left_to_mail(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = a_log(path)
    monkeypatch.setattr(filling, "free_octets", lambda _folder: filling.SPARED - 1)
    filler = LogFiller(path)
    filler.keep_ahead()
    assert log_of(path).stat().st_size == size
    filler.close()


@pytest.mark.parametrize("room", [0, STEP // 2])
def test_a_disk_that_is_full_after_all_gets_its_blocks_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    size = a_log(path)
    filler = LogFiller(path)

    def some(descriptor: int, octets: bytes, offset: int) -> int:
        os.lseek(descriptor, offset, os.SEEK_SET)
        left = size + room - offset
        if left:
            return os.write(descriptor, octets[:left])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", some)
    filler.keep_ahead()
    assert log_of(path).stat().st_size == size
    monkeypatch.undo()
    filler.keep_ahead()
    assert log_of(path).stat().st_size == size, "it was tried again"
    filler.close()


def test_without_a_log_or_with_another_ones_nothing_is_filled(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    LogFiller(path).keep_ahead()
    other = path.parent / "other"
    other.write_bytes(b"\1" * (2 * filling.FIRST * FRAME))
    os.link(other, log_of(path))
    LogFiller(path).keep_ahead()
    assert other.stat().st_size == 2 * filling.FIRST * FRAME
