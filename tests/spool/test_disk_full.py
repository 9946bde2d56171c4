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
from relay.spool.sqlite import SqliteSpool, open_spool

from .examples import NOW, arrival, settlement

pytestmark = pytest.mark.slow

DISK = 24 * 1024 * 1024


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
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def opened(folder: Path, min_free_disk: int = 0) -> SqliteSpool:
    settings = SpoolSettings(path=str(folder / "spool.db"), min_free_disk=min_free_disk)
    return await open_spool(settings, clock=SystemClock())


async def fill(spool: SqliteSpool) -> list[int]:
    """Accept until it refuses; the numbers that were accepted."""
    accepted: list[int] = []
    for _ in range(1000):
        number = spool.allocate(NOW)
        try:
            await spool.accept(arrival(number, content=b"x" * 100_000, leased=True))
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
    with pytest.raises(SpoolFull):
        await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 100_000))
    with pytest.raises(OSError, match="space"):
        (disk / "rest").write_bytes(b"x" * DISK)
    done = await asyncio.gather(*(spool.settle([settlement(number)]) for number in accepted))
    assert frozenset().union(*done) == set(accepted)
    assert await spool.totals() == Totals(0, 0, {"ses": len(accepted)})
    other_program.unlink()
    async with asyncio.timeout(10):
        while True:
            try:
                await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 100_000))
                break
            except SpoolFull:
                await asyncio.sleep(0.1)
    await spool.close()
    spool = await opened(disk)
    assert await spool.totals() == Totals(1, 100_000, {"ses": len(accepted)})
    await spool.close()


async def test_min_free_disk_stops_before_the_disk_is_full(disk: Path) -> None:
    spool = await opened(disk, min_free_disk=12_000_000)
    await fill(spool)
    figures = os.statvfs(disk)
    assert figures.f_bavail * figures.f_frsize > 4_000_000
    await spool.close()


async def test_a_disk_without_room_for_a_new_spool_is_told_so(disk: Path) -> None:
    (disk / "filler").write_bytes(b"x" * (DISK - 8192))
    with pytest.raises(SpoolError):
        await opened(disk)
