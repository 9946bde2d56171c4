"""The connection is lost after the final dot: nobody knows, so the log says so and the message goes again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import CLOSE, Act, ScriptedUpstream

OK = Act(b"250 2.0.0 Ok\r\n")


def message_id(content: bytes) -> bytes:
    fields = content.partition(b"\r\n\r\n")[0].split(b"\r\n")
    (found,) = [line for line in fields if line.lower().startswith(b"message-id:")]
    return found


async def test_only_the_unanswered_message_is_in_doubt(tmp_path: Path) -> None:
    """Of five messages on one chained session the third one's dot goes unanswered."""
    async with ScriptedUpstream({"CONTENT": [OK, OK, CLOSE]}) as peer:
        upstreams = {"peer": smtp_upstream(peer.port, max_connections=1)}
        async with Relay(tmp_path, upstreams) as relay:
            await asyncio.gather(*(relay.submit(recipients=[f"{n}@y.test"]) for n in range(5)))
            await relay.until("postfix/qmgr.*: removed$", 5)
            doubtful = [message for message in peer.messages if not message.reply]
            assert len(doubtful) == 1
            (to,) = doubtful[0].recipients
            lines = relay.lines(f"to=<{to}>")
            assert len(lines) == 2
            assert "status=deferred (in doubt: " in lines[0]
            assert "status=sent" in lines[1]
            assert len(relay.lines("in doubt")) == 1
            again = [message for message in peer.messages if message.recipients == (to,)]
            assert len(again) == 2
            assert again[0].content == again[1].content, "the same octets, so the same Message-ID"
            assert message_id(again[0].content)
            assert len(peer.messages) == 6
            code, out, _ = await relay.command("trace", lines[0].split(": ")[1])
            assert code == 0
            assert "in doubt" in out
