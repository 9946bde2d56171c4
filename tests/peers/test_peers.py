"""The peers do what tests believe of them."""

from __future__ import annotations

import asyncio
import random
import smtplib
from pathlib import Path

import pytest

from tests.e2e.harness import SinkProcess
from tests.peers.ledger import Ledger, Submitter, reply_of
from tests.peers.scripted import CLOSE, HANG, RESET, Act, ScriptedUpstream, say
from tests.peers.tap import ByteTap

CONTENT = b"Subject: x\r\n\r\n.dot\r\n..\r\nbody\r\n"


async def test_a_scripted_upstream_keeps_exact_octets_and_answers_per_recipient() -> None:
    async with ScriptedUpstream({"RCPT no@y.test": say("550 5.1.1 unknown"), "CONTENT": [say("451 4.3.0 x")]}) as peer:
        client = await Submitter.connect(peer.port)
        assert await client.command("MAIL FROM:<a@x.test>") == "250 2.1.0 Ok"
        assert await client.command("RCPT TO:<no@y.test>") == "550 5.1.1 unknown"
        assert await client.submit("a@x.test", ["b@y.test"], CONTENT) == "451 4.3.0 x"
        assert (await client.submit("a@x.test", ["b@y.test", "c@y.test"], CONTENT)).startswith("250")
        client.close()
        assert [m.content for m in peer.messages] == [CONTENT, CONTENT]
        assert b"\r\n...\r\n" in peer.messages[0].wire
        assert peer.accepted()[0].recipients == ("b@y.test", "c@y.test")
        assert peer.violations == []


async def test_content_may_lead_the_next_group_and_nothing_may_follow_data() -> None:
    async with ScriptedUpstream(delay=0.01) as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        await reply_of(reader)
        envelope = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
        flights = [b"EHLO x\r\n", envelope, b"one\r\n.\r\n" + envelope, b"two\r\n.\r\n", envelope + b"three\r\n.\r\n"]
        for flight, replies in zip(flights, (1, 3, 4, 1, 4), strict=True):
            writer.write(flight)
            for _ in range(replies):
                assert (await reply_of(reader))[0] in "23"
        writer.transport.abort()
        assert [m.wire for m in peer.messages] == [b"one\r\n", b"two\r\n", b"three\r\n"]
        assert peer.round_trips == 5
        assert len(peer.violations) == 1


@pytest.mark.parametrize("act", [CLOSE, RESET, Act(b"421 4.3.2 bye\r\n", close=True)])
async def test_a_scripted_upstream_ends_where_it_is_told_to(act: Act) -> None:
    async with ScriptedUpstream({"DATA": act}) as peer:
        client = await Submitter.connect(peer.port)
        if act.reply:
            assert (await client.submit("a@x.test", ["b@y.test"], b"x\r\n")).startswith("421")
            assert await client.reader.read() == b""
        else:
            with pytest.raises(ConnectionResetError):
                await client.submit("a@x.test", ["b@y.test"], b"x\r\n")
        client.close()
        assert peer.messages == []


async def test_a_hanging_upstream_says_nothing_and_a_splitting_one_the_same_bytewise() -> None:
    split = Act(b"250-2.1.0 One\r\n250 2.1.0 Two\r\n", split=True)
    async with ScriptedUpstream({"MAIL": split, "RCPT": HANG}) as peer:
        client = await Submitter.connect(peer.port)
        assert await client.command("MAIL FROM:<a@x.test>") == "250-2.1.0 One\n250 2.1.0 Two"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.command("RCPT TO:<b@y.test>"), 0.2)
        client.close()


async def test_a_tap_sees_all_octets_and_cuts_where_told(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, ByteTap(peer.port) as tap, ByteTap(peer.port, cut_at=40) as cut:
        client = await Submitter.connect(tap.port)
        await client.submit("a@x.test", ["b@y.test"], CONTENT)
        client.close()
        assert bytes(tap.sent[0]) == bytes(peer.wire)
        assert tap.answered[0].startswith(b"220 ")
        client = await Submitter.connect(cut.port)
        with pytest.raises(ConnectionResetError):
            await client.submit("a@x.test", ["b@y.test"], CONTENT)
        client.close()
        assert len(cut.sent[0]) == 40


async def test_a_sink_counts_messages_and_round_trips_and_the_ledger_balances(tmp_path: Path) -> None:
    ledger, arrived = Ledger(), tmp_path / "arrived"
    seed = random.Random(1)
    async with SinkProcess(ledger=arrived) as sink:
        client = await Submitter.connect(sink.port)
        for name in ("m-1", "m-2"):
            reply = await client.submit("a@x.test", ["b@y.test"], ledger.message(name, 2000, seed))
            assert reply.startswith("250")
            ledger.acknowledged.add(name)
        await client.submit("a@x.test", ["b@y.test"], b"X-Ledger: m-2\r\n\r\nchanged\r\n")
        await client.submit("a@x.test", ["b@y.test"], b"X-Ledger: nobody\r\n\r\n\r\n")
        ledger.acknowledged.add("never-came")
        counters = await sink.counters()
        client.close()
    assert (counters["messages"], counters["sessions"]) == (4, 1)
    assert counters["round_trips"] == 1 + 4 * 4, "EHLO, then MAIL, RCPT, DATA and content in lock step"
    verdict = ledger.verdict(arrived)
    assert (verdict.submitted, verdict.acknowledged) == (2, 3)
    assert verdict.lost == {"never-came"}
    assert verdict.altered == {"m-2"}
    assert verdict.phantom == {"nobody"}
    assert set(verdict.repeated) == {"m-2"}


async def test_chunks_are_taken_as_they_are() -> None:
    envelope = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
    flight = envelope + b"BDAT 6\r\n.dot\r\nBDAT 4 LAST\r\n..\r\n" + envelope + b"BDAT 0 LAST\r\n"
    async with ScriptedUpstream(extensions=("PIPELINING", "CHUNKING")) as peer, SinkProcess(chunking=True) as sink:
        for port in (peer.port, sink.port):
            client = await Submitter.connect(port)
            client.writer.write(flight)
            replies = [(await reply_of(client.reader))[:3] for _ in range(7)]
            assert replies == ["250"] * 7
            client.close()
        assert [m.content for m in peer.messages] == [b".dot\r\n..\r\n", b""]
        assert peer.violations == []
        counters = await sink.counters()
        assert (counters["messages"], counters["octets"]) == (2, 10)


async def test_an_ordinary_client_gets_on_with_both() -> None:
    def send(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=10) as client:
            return client.sendmail("a@x.test", ["b@y.test"], CONTENT)

    async with ScriptedUpstream() as peer, SinkProcess(delay=0.01) as sink:
        assert await asyncio.to_thread(send, peer.port) == {}
        assert await asyncio.to_thread(send, sink.port) == {}
        assert (await sink.counters())["messages"] == 1
        assert peer.messages[0].content == CONTENT
