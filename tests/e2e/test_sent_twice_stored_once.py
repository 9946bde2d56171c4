"""An application that sends again: over a kill, in two sessions at the same moment, and by relay trace."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import HANG, ScriptedUpstream

DEDUPE = {"dedupe": "24h"}
MAIL = b"Message-ID: <1@app.test>\r\nSubject: x\r\n\r\n"
KEYED = b"Idempotency-Key: order-42\r\nSubject: x\r\n\r\n"


async def submit(relay: Relay, content: bytes, *to: str) -> str:
    client = await Submitter.connect(relay.port)
    reply = await client.submit("a@x.test", list(to or ("b@y.test",)), content)
    client.close()
    return reply


async def test_sent_twice_stored_once_over_a_kill(tmp_path: Path) -> None:
    async with ScriptedUpstream({"MAIL": HANG}) as peer:
        relay = Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, DEDUPE)
        await relay.start()
        by_id, by_key = await submit(relay, MAIL), await submit(relay, KEYED)
        await relay.kill()
        await relay.start()
        assert await submit(relay, MAIL + b"written anew\r\n") == by_id
        assert await submit(relay, KEYED) == by_key
        # To somebody else it is another message.
        assert await submit(relay, KEYED, "b@y.test", "c@y.test") != by_key
        first = by_id.rpartition(" ")[2]
        (told,) = await relay.until(
            r"cleanup\[\d+\]: (\w+): duplicate of (\w+) by Message-ID, not stored; from localhost"
        )
        assert told[2] == first != told[1]
        assert sum((await relay.json("queue", "count")).values()) == 3
        (story,) = await relay.json("trace", first)
        assert (story["repeated"], story["last_repeated"] is None) == (1, False)
        code, out, _ = await relay.command("trace", first)
        assert code == 0
        assert "came again" in out
        await relay.stop()


async def test_sent_in_fifty_sessions_at_once_stored_once(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, DEDUPE) as relay,
    ):
        large = MAIL + b"x" * 600_000 + b"\r\n"
        replies = await asyncio.gather(
            *(submit(relay, KEYED) for _ in range(40)), *(submit(relay, large) for _ in range(8))
        )
        assert len(set(replies[:40])) == len(set(replies[40:])) == 1
        await relay.drained()
        assert len(peer.messages) == 2
        assert len(relay.lines(r"client=")) == 2, "what was not stored did not arrive, for those who count lines"
        assert len(relay.lines(r"duplicate of")) == 46
