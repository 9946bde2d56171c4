"""Mail that was queued when the relay stopped, or was killed, goes out after the next start, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.scripted import ScriptedUpstream


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_restart(tmp_path: Path, ending: str) -> None:
    port = free_port()
    names = [f"{n}@y.test" for n in range(40)]
    async with Relay(tmp_path, {"peer": smtp_upstream(port)}) as relay:
        ids = await asyncio.gather(*(relay.submit(recipients=[name]) for name in names))
        if ending == "stop":
            assert await relay.stop() == 0
        else:
            await relay.kill()
        code, out, err = await relay.command("queue", "list", "--json")
        assert code == 0, err
        assert all(queue_id in out for queue_id in ids), "commands read a stopped relay's spool"
        async with ScriptedUpstream(port=port) as peer:
            await relay.start()
            await relay.until("removed$", len(names))
            assert Counter(m.recipients for m in peer.messages) == Counter((name,) for name in names)
            assert (await relay.json("queue", "count"))["waiting"] == 0
