"""An idle relay waits: it does not poll, and it is small."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.e2e.harness import Relay, reached, smtp_upstream
from tests.peers.scripted import ScriptedUpstream

SECONDS = 5
WAKINGS = 10
"""In all threads together over SECONDS: room for a time-out or a checkpoint that falls due, none for polling."""


def wakings(pid: int) -> int:
    """Times that a thread of the process went to sleep by itself."""
    return sum(
        int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def cpu_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def resident_kilobytes(pid: int) -> int:
    (rss,) = re.findall(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(rss)


async def test_idle(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer:
        upstreams = {"peer": smtp_upstream(peer.port, idle_timeout="1s")}
        async with Relay(tmp_path, upstreams) as relay:
            for _ in range(20):
                await relay.submit()
            await relay.until("removed$", 20)
            await reached(lambda: not peer.open_sessions)
            # What follows a burst of mail, such as a checkpoint, is not idleness.
            await asyncio.sleep(2)
            before, ticks = wakings(relay.pid), cpu_ticks(relay.pid)
            await asyncio.sleep(SECONDS)
            assert wakings(relay.pid) - before <= WAKINGS
            assert cpu_ticks(relay.pid) - ticks <= 2
            assert resident_kilobytes(relay.pid) < 60_000
