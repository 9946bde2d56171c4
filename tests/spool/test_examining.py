"""``relay check --spool``: all of the file is read, beside a relay that writes; damage has an exit code of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from relay.cli import main
from relay.clock import SystemClock
from relay.settings import SpoolSettings
from relay.spool.sqlite import open_spool

from .examples import NOW, arrival


async def check(spool: Path, *options: str) -> tuple[int, str]:
    config = spool.parent / "relay.toml"
    config.write_text(f'[spool]\nurl = "sqlite:///{spool}"\n[upstream.sim]\nkind = "simulator"\n')
    arguments = ["check", "--spool", "-c", str(config), *options]
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments)  # a command has a loop of its own
    return result.exit_code, result.stdout


async def made(spool: Path) -> None:
    opened = await open_spool(SpoolSettings(path=str(spool), min_free_disk=0), clock=SystemClock())
    await opened.accept(arrival(opened.allocate(NOW), content=b"x" * 100_000))
    code, said = await check(spool)
    assert (code, "1 open messages" in said) == (0, True), "while it is open"
    await opened.close()


async def test_a_sound_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool.db"
    assert (await check(spool))[0] == 0
    await made(spool)
    code, said = await check(spool, "--json")
    assert code == 0
    (found,) = json.loads(said)["checks"]
    assert (found["subject"], found["level"], found["messages"]) == ("spool", "ok", 1)


async def test_a_damaged_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool.db"
    await made(spool)
    octets = bytearray(spool.read_bytes())
    for at in range(4096, 5 * 4096, 7):
        octets[at] ^= 0xA5
    spool.write_bytes(octets)
    code, said = await check(spool)
    assert code == 74
    assert "FAIL" in said
    assert spool.read_bytes() == octets


async def test_what_is_no_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool.db"
    spool.write_bytes(b"SQLite format 3\0" + bytes(200))
    assert (await check(spool))[0] == 74
