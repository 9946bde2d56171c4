"""A bug in the writer's thread: who waits is told, and the relay ends; it must not seem to live."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool import SpoolBroken
from relay.spool.room import Ballast
from relay.spool.sqlite import open_spool
from relay.spool.writer import Writer


class Unforeseen(Exception):
    pass


def fail(*_: object, **__: object) -> None:
    raise Unforeseen


async def test_a_bug_at_the_start_is_the_starters_to_hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ballast, "take", fail)
    async with asyncio.timeout(10):
        with pytest.raises(Unforeseen):
            await open_spool(SpoolSettings(path=str(tmp_path / "spool.db")), clock=SystemClock())


async def test_a_bug_while_it_serves_ends_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = asyncio.Event()
    spool = await open_spool(
        SpoolSettings(path=str(tmp_path / "spool.db"), min_free_disk=0),
        clock=SystemClock(),
        on_broken=lambda _: told.set(),
    )
    monkeypatch.setattr(Writer, "_serve", fail)
    beat = asyncio.ensure_future(spool.beat())
    async with asyncio.timeout(10):
        await told.wait()
        with pytest.raises(SpoolBroken):
            spool.check_room(1)
        await spool.close()
    beat.cancel()
