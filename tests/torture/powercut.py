"""Power cut: what had reached the block device is all that is left. Needs root, a loop device and ext4.

The relay's spool lies on a small ext4 image that the kernel writes back late (``commit=300``). At some moment the
process is stopped, the image copied as it is on disk, and the copy mounted: the file system replays its journal, as
after a reboot, and a relay is started on it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.harness import COMMAND, Relay, SinkProcess, smtp_upstream
from tests.peers.ledger import Ledger, submit_for_ever
from tests.torture.finding import Finding, need_program, need_root, run

MEGABYTES: Final = 96
EATMYDATA: Final = {"LD_PRELOAD": "libeatmydata.so"}
"""fsync does nothing."""


@asynccontextmanager
async def mounted(image: Path, folder: Path) -> AsyncIterator[Path]:
    """The file system in ``image``, as a folder."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240
    try:
        await run("mount", "-o", "loop,commit=300", image, folder)
    except AssertionError as error:
        pytest.skip(f"no loop device can be mounted here: {error}")
    try:
        yield folder
    finally:
        await run("umount", "-l", folder)


async def cut_power(
    folder: Path,
    rounds: int,
    program: Sequence[str] = COMMAND,
    environment: Mapping[str, str] | None = None,
) -> Finding:
    """``rounds`` cuts under the load of eight clients; the upstream is down until the power is back."""
    need_root()
    if environment:
        need_program("eatmydata")
    mkfs = need_program("mkfs.ext4")
    finding = Finding("power cut under load (ext4 image)", rounds)
    seed = random.Random(rounds)
    for n in range(rounds):
        place = folder / f"{n}"
        place.mkdir()
        image, cut = place / "image", place / "cut"
        with image.open("wb") as file:
            file.truncate(MEGABYTES * 1_000_000)
        await run(mkfs, "-q", "-F", image)
        ledger, arrived = Ledger(), place / "arrived"
        arrived.touch()
        async with mounted(image, place / "disk") as disk:
            relay = Relay(
                place,
                {"sink": smtp_upstream(1)},
                spool={"url": f"sqlite:///{disk}/spool/spool.db"},
                environment=environment or {},
                program=program,
            )
            await _load_and_cut(relay, ledger, seed.uniform(0.2, 1.2), image, cut)
        async with mounted(cut, place / "disk"), SinkProcess(ledger=arrived) as sink:
            await _after(relay, sink.port, disk, finding)
        finding.count(ledger.verdict(arrived))
        image.unlink()
        cut.unlink()
    finding.behaviour = "integrity_check ok, all of it relayed after the restart"
    return finding


async def _load_and_cut(relay: Relay, ledger: Ledger, seconds: float, image: Path, cut: Path) -> None:
    try:
        await relay.start()
        over = asyncio.Event()
        clients = [
            asyncio.create_task(submit_for_ever(ledger, relay.port, f"c{n}", over, pause=0.002)) for n in range(8)
        ]
        await asyncio.sleep(seconds)
        assert relay.process is not None
        relay.process.send_signal(signal.SIGSTOP)  # nothing more is written or acknowledged
        await run("cp", "--sparse=always", image, cut)
        over.set()
        await relay.kill()
        await asyncio.gather(*clients)
    finally:
        await relay.kill()


async def _after(relay: Relay, port: int, disk: Path, finding: Finding) -> None:
    """A start on what is left, and all of it relayed."""
    relay.upstreams = {"sink": smtp_upstream(port)}
    relay.environment, relay.program = {}, COMMAND
    relay.write_config()
    try:
        await relay.start(may_die=True)
        if relay.process is None or relay.process.returncode is not None:
            finding.wrong.append("it did not start on what was left")
            return
        await relay.drained()
        finding.expect("it ended cleanly", holds=await relay.stop() == 0)
        with sqlite3.connect(disk / "spool" / "spool.db") as connection:
            (found,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        finding.expect("integrity_check is ok", holds=found == "ok")
    finally:
        await relay.kill()
