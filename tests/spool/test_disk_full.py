"""A disk that is really full: a small tmpfs of our own, where the tests may mount one."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool import SpoolError, SpoolFull, Totals
from relay.spool.library import sqlite3
from relay.spool.opening import make_folder
from relay.spool.schema import APPLICATION_ID, migrate
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import NOW, arrival, settlement

pytestmark = pytest.mark.slow

DISK = 30 * 1024 * 1024
WAS_FULL = "the disk of {}/spool.db is full: new mail is refused where it finds no room"
HAS_ROOM = "the disk of {}/spool.db has room again: new mail is taken"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() or mount is None:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.skip("no tmpfs can be mounted here")
    folder.chmod(0o700)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def opened(folder: Path, min_free_disk: int = 0) -> SqliteSpool:
    settings = SpoolSettings(path=str(folder / "spool.db"), min_free_disk=min_free_disk)
    return await open_spool(settings, clock=SystemClock())


def make_old(spool: Path) -> None:
    """A file as releases made it that did not know auto_vacuum."""
    connection = sqlite3.connect(spool, isolation_level=None)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection)
    connection.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("relay.spool")]


async def accept_within(spool: SqliteSpool, seconds: float) -> int:
    """Offer a message until it is taken, as an application does."""
    async with asyncio.timeout(seconds):
        while True:
            number = spool.allocate(NOW)
            try:
                await spool.accept(arrival(number, content=b"x" * 100_000))
            except SpoolFull:
                await asyncio.sleep(0.1)
            else:
                return number


async def fill(spool: SqliteSpool, size: int = 100_000, *, leased: bool = True) -> list[int]:
    """Accept until it refuses; the numbers that were accepted."""
    accepted: list[int] = []
    for _ in range(1000):
        number = spool.allocate(NOW)
        try:
            await spool.accept(arrival(number, content=b"x" * size, leased=leased))
        except SpoolFull:
            return accepted
        accepted.append(number)
    raise AssertionError("a small disk took all of it")


async def test_a_full_disk_refuses_mail_records_outcomes_and_recovers(disk: Path) -> None:
    other_program = disk / "other"
    other_program.write_bytes(b"x" * (DISK // 2))
    spool = await opened(disk)
    accepted = await fill(spool)
    assert len(accepted) > 10
    accepted += await fill(spool)  # what was written back meanwhile may have made room for a few
    with pytest.raises(OSError, match="space"):
        (disk / "rest").write_bytes(b"x" * DISK)
    done = await asyncio.gather(*(spool.settle([settlement(number)]) for number in accepted))
    assert frozenset().union(*done) == set(accepted)
    assert await spool.totals() == Totals(0, 0, {"ses": len(accepted)})
    other_program.unlink()
    await accept_within(spool, 10)
    await spool.close()
    spool = await opened(disk)
    assert await spool.totals() == Totals(1, 100_000, {"ses": len(accepted)})
    await spool.close()


@pytest.mark.parametrize("size", [20_000, 250_000])
@pytest.mark.parametrize("reserved", [0, 6_000_000, 9_000_000])
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
async def test_a_disk_that_our_own_mail_filled_takes_mail_when_that_is_gone(
    disk: Path, size: int, reserved: int, *, old: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # Another program keeps what it has: nobody but us ever frees a block.
    (disk / "other").write_bytes(b"x" * reserved)
    if old:
        make_old(disk / "spool.db")
    spool = await opened(disk)
    numbers = await fill(spool, size, leased=False)
    assert len(numbers) > 10
    assert await spool.remove(numbers, NOW) == len(numbers)
    last = await accept_within(spool, 10)
    for _ in range(100):
        if len(warnings(caplog)) > 1:
            break
        await asyncio.sleep(0.1)
    assert warnings(caplog) == [WAS_FULL.format(disk), HAS_ROOM.format(disk)]
    await spool.remove([last], NOW)
    await spool.close()
    spool = await opened(disk)
    again = await fill(spool, size, leased=False)
    assert len(again) > 10
    await spool.remove(again, NOW)
    await accept_within(spool, 10)
    await spool.close()


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
async def test_a_stop_while_the_disk_is_full_leaves_room_for_outcomes(disk: Path, *, old: bool) -> None:
    if old:
        make_old(disk / "spool.db")
    spool = await opened(disk)
    numbers = await fill(spool, 200_000)
    for _ in range(3):
        await spool.close()
        spool = await opened(disk)
        assert (await spool.totals()).messages == len(numbers)
    done = await asyncio.gather(*(spool.settle([settlement(number)]) for number in numbers))
    assert frozenset().union(*done) == set(numbers)
    await accept_within(spool, 10)
    await spool.close()


async def test_min_free_disk_stops_before_the_disk_is_full(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = await opened(disk, min_free_disk=12_000_000)
    await fill(spool)
    figures = os.statvfs(disk)
    assert figures.f_bavail * figures.f_frsize > 4_000_000
    assert warnings(caplog) == [f"less than min_free_disk is left at {disk}: new mail is refused"]
    await spool.close()


def test_a_folder_that_others_may_write_to_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o755)
    make_folder(str(tmp_path / "spool.db"))
    assert warnings(caplog) == []
    tmp_path.chmod(0o770)
    make_folder(str(tmp_path / "spool.db"))
    assert warnings(caplog) == [f"others may write to {tmp_path}: the folder of the spool should be its owner's alone"]


async def test_a_disk_without_room_for_a_new_spool_is_told_so(disk: Path) -> None:
    (disk / "filler").write_bytes(b"x" * (DISK - 8192))
    with pytest.raises(SpoolError):
        await opened(disk)


@pytest.mark.parametrize("size", [2_000, 20_000])
async def test_a_disk_that_our_own_mail_filled_takes_every_outcome(disk: Path, size: int) -> None:
    """What the log holds must fit into the database at any time, or neither of them ever takes an outcome again."""
    spool = await opened(disk)
    numbers: list[int] = []
    refused = False
    while not refused:
        batch = [arrival(spool.allocate(NOW), content=b"x" * size, leased=True) for _ in range(20)]
        said = await asyncio.gather(*(spool.accept(each) for each in batch), return_exceptions=True)
        refused = any(isinstance(each, SpoolFull) for each in said)
        numbers += [each.message.number for each, its in zip(batch, said, strict=True) if its is None]
    for start in range(0, len(numbers), 20):
        some = numbers[start : start + 20]
        assert await spool.settle([settlement(number) for number in some]) == set(some)
    await accept_within(spool, 10)
    await spool.close()
