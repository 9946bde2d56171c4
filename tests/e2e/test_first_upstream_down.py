"""The first upstream is down: the next one takes over, no attempt is counted, and it is used again once it is back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.scripted import ScriptedUpstream


async def test_failover_and_back(tmp_path: Path) -> None:
    port = free_port()
    async with ScriptedUpstream() as second:
        upstreams = {"first": smtp_upstream(port), "second": smtp_upstream(second.port)}
        async with Relay(tmp_path, upstreams) as relay:
            began = time.monotonic()
            await asyncio.gather(*(relay.submit() for _ in range(10)))
            await relay.until(r"relay=second\[.*status=sent", 10)
            assert time.monotonic() - began < 10, "a refused connection is known at once"
            assert not relay.lines("status=deferred"), "a down upstream costs no message an attempt"
            status = await relay.json("status")
            assert status["upstreams"]["first"]["state"] == "down"
            assert status["upstreams"]["second"]["state"] == "up"
            async with ScriptedUpstream(port=port) as first:
                sent = 10
                async with asyncio.timeout(60):
                    while not first.accepted():
                        await relay.submit()
                        sent += 1
                        await relay.until("status=sent", sent)
                        await asyncio.sleep(0.1)
                assert relay.lines(r"relay=first\[.*status=sent")
                before = len(first.accepted())
                await relay.submit()
                await relay.until(r"relay=first\[.*status=sent", before + 1)
            assert len(second.messages) + len(first.messages) == sent + 1


async def test_all_down_loses_no_attempt(tmp_path: Path) -> None:
    port = free_port()
    async with Relay(tmp_path, {"only": smtp_upstream(port)}) as relay:
        queue_id = await relay.submit()
        await relay.until("(?i)only.*refused")
        (queued,) = await relay.json("queue", "list")
        assert queued["id"] == queue_id
        assert [recipient["attempts"] for recipient in queued["recipients"]] == [0]
        async with ScriptedUpstream(port=port):
            await relay.until(f"{queue_id}: to=<.*status=sent", within=60)
