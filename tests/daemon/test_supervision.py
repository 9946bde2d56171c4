from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.daemon.notify import notify
from relay.daemon.supervision import Supervision
from relay.daemon.watchdog import keep_watch, watchdog_period
from relay.settings import SpoolSettings
from relay.spool import SpoolBroken, SpoolError, SpoolFull
from relay.spool.sqlite import SqliteSpool, open_spool
from tests.fake_spool import FakeSpool


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.settimeout(10)
        yield receiving


async def standing() -> str:
    return "0 queued; main is up"


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    notify({}, "READY=1")
    notify({"NOTIFY_SOCKET": str(tmp_path / "none")}, "READY=1")


def test_an_abstract_socket_is_reached_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind("\0relay-test-notify")
        receiving.settimeout(10)
        notify({"NOTIFY_SOCKET": "@relay-test-notify"}, "READY=1", "STATUS=fine")
        assert receiving.recv(100) == b"READY=1\nSTATUS=fine"


async def test_the_manager_hears_of_each_change(manager: socket.socket) -> None:
    told = Supervision({"NOTIFY_SOCKET": manager.getsockname()}, 7)
    await told.ready(FakeSpool(), standing)
    assert manager.recv(1000) == b"READY=1\nSTATUS=0 queued; main is up"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    told.reloading()
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    told.reloaded()
    assert manager.recv(1000) == b"READY=1"
    told.stopping()
    assert manager.recv(1000).startswith(b"STOPPING=1\n")


async def test_life_signs_come_while_the_relay_lives(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "7"}
    told = Supervision(environ, 7)
    await told.ready(FakeSpool(), standing)
    manager.setblocking(False)
    loop = asyncio.get_running_loop()
    heard = [await asyncio.wait_for(loop.sock_recv(manager, 1000), 10) for _ in range(4)]
    assert heard[1:] == [b"WATCHDOG=1\nSTATUS=0 queued; main is up"] * 3
    told.stopping()


@pytest.mark.parametrize(
    ("environ", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_period_is_half_of_what_the_manager_waits(environ: dict[str, str], period: float | None) -> None:
    assert watchdog_period(environ, 7) == period


class Ill(FakeSpool):
    def __init__(self, illness: SpoolError) -> None:
        super().__init__()
        self.illness = illness

    async def beat(self) -> None:
        raise self.illness


async def signs_of(spool: FakeSpool, wanted: int) -> int:
    """Life signs that came until there were ``wanted``."""
    count = 0
    enough = asyncio.Event()

    async def live() -> None:
        nonlocal count
        count += 1
        if count == wanted:
            enough.set()

    watch = asyncio.create_task(keep_watch(spool, 0.0, live))
    done = asyncio.create_task(enough.wait())
    await asyncio.wait({watch, done}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    watch.cancel()
    done.cancel()
    return count


async def test_a_full_disk_is_no_reason_to_be_restarted() -> None:
    assert await signs_of(Ill(SpoolFull("full")), 3) >= 3


async def test_a_broken_spool_shows_no_life() -> None:
    assert await signs_of(Ill(SpoolBroken("fsync")), 3) == 0


async def a_spool(folder: Path, fault: Callable[[str], None] | None = None) -> SqliteSpool:
    settings = SpoolSettings(str(folder / "spool.db"), min_free_disk=0)
    return await open_spool(settings, clock=SystemClock(), fault=fault)


def written(folder: Path) -> dict[str, int]:
    """When each file was last written to; the index of the log is memory."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if not path.name.endswith("-shm")}


async def test_a_writer_that_hangs_ends_the_life_signs(tmp_path: Path) -> None:
    """As in an fsync that never returns: the loop turns, and the relay is dead all the same."""
    go_on = threading.Event()
    go_on.set()

    def hang(_point: str) -> None:
        go_on.wait(30)

    spool = await open_spool(
        SpoolSettings(str(tmp_path / "spool.db"), min_free_disk=0), clock=SystemClock(), fault=hang
    )
    count = 0

    async def live() -> None:
        nonlocal count
        count += 1

    watch = asyncio.create_task(keep_watch(spool, 0.001, live))
    try:
        while count < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        go_on.clear()
        await asyncio.sleep(0.1)
        before = count
        await asyncio.sleep(0.2)
        assert count == before
        go_on.set()
        while count == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    finally:
        go_on.set()
        watch.cancel()
        await spool.close()


async def test_a_beat_writes_nothing(tmp_path: Path) -> None:
    spool = await a_spool(tmp_path)
    try:
        await spool.beat()
        before = written(tmp_path)
        for _ in range(20):
            await spool.beat()
        assert written(tmp_path) == before
    finally:
        await spool.close()
