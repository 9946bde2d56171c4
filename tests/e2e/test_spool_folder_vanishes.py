"""Somebody deletes the spool's folder under a running relay: it says so and still ends when it is told to."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import ScriptedUpstream


async def test_it_ends_all_the_same(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await relay.submit()
        await relay.until("removed$")
        shutil.rmtree(relay.folder / "spool")
        async with asyncio.timeout(20):
            assert await relay.stop() in {0, 74}
