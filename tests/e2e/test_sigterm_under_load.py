"""SIGTERM under load: what is in flight ends, the rest waits; nothing is lost, nothing goes twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, reached, smtp_upstream
from tests.peers.ledger import Ledger, Submitter, submit_for_ever
from tests.peers.scripted import HANG, ScriptedUpstream


@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_sigterm(tmp_path: Path, delay: float) -> None:
    ledger, arrived = Ledger(), tmp_path / "arrived"
    async with (
        SinkProcess(ledger=arrived, delay=delay) as sink,
        Relay(tmp_path, {"sink": smtp_upstream(sink.port)}) as relay,
    ):
        for _ in range(3):
            over = asyncio.Event()
            clients = [
                asyncio.create_task(submit_for_ever(ledger, relay.port, f"{relay.lives}-{n}", over)) for n in range(8)
            ]
            enough = len(ledger.acknowledged) + 300
            await reached(lambda: len(ledger.acknowledged) >= enough)  # noqa: B023 - awaited at once
            began = time.monotonic()
            assert await relay.stop() == 0
            assert time.monotonic() - began < 10, "within stop_timeout"
            over.set()
            await asyncio.gather(*clients)
            await relay.start()
        await relay.drained()
        assert await relay.stop() == 0

    verdict = ledger.verdict(arrived)
    assert not verdict.lost
    assert not verdict.altered
    assert not verdict.phantom
    assert verdict.repeated == {}
    assert verdict.acknowledged >= 900


async def test_a_second_sigterm_leaves_at_once(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"CONTENT": HANG}) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, queue={"stop_timeout": "60s"}) as relay,
    ):
        queue_id = await relay.submit()
        await peer.received(1)
        assert relay.process is not None
        relay.process.terminate()
        await relay.until("(?i)stopping|terminat|shut")
        began = time.monotonic()
        await relay.stop()
        assert time.monotonic() - began < 5
        peer.script = {}
        await relay.start()
        await relay.until(f"{queue_id}: to=<.*status=sent")


async def test_a_transaction_open_at_the_end_has_the_whole_stop_timeout(tmp_path: Path) -> None:
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}, queue={"stop_timeout": "30s"}) as relay:
        client = await Submitter.connect(relay.port)
        for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<success@y.test>", "DATA"):
            assert (await client.command(line))[0] in "23"
        assert relay.process is not None
        relay.process.terminate()
        await relay.until("terminating on signal")
        await asyncio.sleep(6.0)  # more than the five seconds that there once were
        reply = await client.command("Subject: late\r\n\r\nhello\r\n.")
        assert reply.startswith("250 2.0.0 Ok"), reply
        client.close()
        began = time.monotonic()
        assert await relay.ended() == 0
        assert time.monotonic() - began < 5, "nothing is left to wait for"


async def test_mail_leaves_while_an_application_ends_its_transaction(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, queue={"stop_timeout": "20s"}) as relay,
    ):
        slow, other = await Submitter.connect(relay.port), await Submitter.connect(relay.port)
        for client in (slow, other):
            for line in ("MAIL FROM:<a@x.test>", "RCPT TO:<b@y.test>", "DATA"):
                assert (await client.command(line))[0] in "23"
        assert relay.process is not None
        relay.process.terminate()
        await relay.until("terminating on signal")
        assert (await other.command("Subject: in time\r\n\r\nhello\r\n.")).startswith("250 ")
        await relay.until("status=sent", within=8)
        assert (await slow.command("Subject: later\r\n\r\nhello\r\n.")).startswith("250 ")
        slow.close()
        other.close()
        assert await relay.ended() == 0
