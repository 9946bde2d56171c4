"""The spool is full: 452 and nothing lost; when there is room again, mail is taken again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream

BODY = ("x" * 70 + "\r\n") * 500


async def test_max_size(tmp_path: Path) -> None:
    port = free_port()
    async with Relay(tmp_path, {"peer": smtp_upstream(port)}, spool={"max_size": "400kB"}) as relay:
        taken = 0
        while (reply := await relay.reply(BODY)).startswith("250"):
            taken += 1
            assert taken < 30, "max_size has no effect"
        assert reply.startswith("452 4.3.1"), reply
        assert taken >= 8
        async with ScriptedUpstream(port=port) as peer:
            await relay.until("status=sent", taken, within=60)
            async with asyncio.timeout(10):
                while not (reply := await relay.reply(BODY)).startswith("250"):
                    assert reply.startswith("452")
                    await asyncio.sleep(0.1)
            await peer.received(taken + 1)
            assert len(peer.messages) == taken + 1


async def test_min_free_disk(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer:
        upstreams = {"peer": smtp_upstream(peer.port)}
        async with Relay(tmp_path, upstreams, spool={"min_free_disk": "900000GB"}) as relay:
            reply = await relay.reply()
            assert reply.startswith("452 4.3.1"), reply


async def test_our_own_trouble_is_not_counted_as_the_clients_error(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer:
        upstreams = {"peer": smtp_upstream(peer.port)}
        async with Relay(tmp_path, upstreams, spool={"min_free_disk": "900000GB"}) as relay:
            client = await Submitter.connect(relay.port)
            for _ in range(25):
                assert (await client.command("MAIL FROM:<a@x.test>")).startswith("452 4.3.1")
            client.writer.close()
