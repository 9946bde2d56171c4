"""Notifications and Postfix: as the server that they are sent to, and as one that is asked for DSN itself."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.e2e.test_sender_is_told import REFUSED, commands, parsed
from tests.peers import postfix as peers
from tests.peers.scripted import Act, ScriptedUpstream

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(bool(peers.unavailable()), reason=peers.unavailable() or "-"),
]
ENVELOPE = b"MAIL FROM:<a@x.test> RET=FULL ENVID=e+2B1"


async def test_postfix_takes_our_notifications(tmp_path: Path) -> None:
    """From the relay through Postfix to a peer: nothing is bounced, changed or complained of on the way."""
    async with ScriptedUpstream({"RCPT b@y.test": REFUSED}) as refusing, ScriptedUpstream() as sink:
        with peers.Postfix(free_port(), sink.port) as postfix:
            upstreams = {"refusing": smtp_upstream(refusing.port), "postfix": smtp_upstream(postfix.port)}
            async with Relay(tmp_path, upstreams, {"bounces": "postfix"}) as relay:
                await commands(relay, ENVELOPE, b"RCPT TO:<b@y.test> NOTIFY=FAILURE ORCPT=rfc822;o@y.test")
                (arrived,) = await sink.received(1)
                assert arrived.recipients == ("a@x.test",)
                assert arrived.mail.startswith(b"MAIL FROM:<>")
                message, (of_message, of_b) = parsed(arrived)
                assert message["Auto-Submitted"] == "auto-replied"
                assert of_message["Original-Envelope-Id"] == "e+1"
                assert (of_b["Original-Recipient"], of_b["Action"]) == ("rfc822; o@y.test", "failed")
                await relay.drained()
                log = postfix.log()
                assert "status=sent" in log
                assert "warning" not in log


async def test_postfix_hears_what_was_asked_and_tells_by_itself(tmp_path: Path) -> None:
    """NOTIFY=SUCCESS goes on to Postfix, whose own notification, with our ENVID and ORCPT, reaches the sender."""
    async with ScriptedUpstream() as sink:
        with peers.Postfix(free_port(), sink.port) as postfix:
            async with Relay(tmp_path, {"postfix": smtp_upstream(postfix.port)}) as relay:
                await commands(relay, ENVELOPE, b"RCPT TO:<b@y.test> NOTIFY=SUCCESS ORCPT=rfc822;o@y.test")
                await relay.drained()
                received = await sink.received(2)
                (report,) = [each for each in received if each.recipients == ("a@x.test",)]
                _, (of_message, of_b) = parsed(report)
                assert of_message["Original-Envelope-Id"] == "e+1"
                assert (of_b["Original-Recipient"], of_b["Action"]) == ("rfc822;o@y.test", "relayed")
                assert not relay.lines("notification")


@pytest.mark.skipif(shutil.which("pflogsumm") is None, reason="pflogsumm is not installed")
async def test_pflogsumm_reads_the_log_of_all_of_it(tmp_path: Path) -> None:
    script: dict[str, Act | Sequence[Act]] = {"RCPT b@y.test": REFUSED, "RCPT a@x.test": [REFUSED]}
    async with ScriptedUpstream(script) as peer:
        async with Relay(tmp_path, {"peer": smtp_upstream(peer.port, in_doubt="hold")}) as relay:
            await commands(relay, b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>")
            await relay.until("can't be delivered")
            await commands(relay, b"MAIL FROM:<a@x.test>", b"RCPT TO:<c@y.test> NOTIFY=SUCCESS")
            await relay.until("sender delivery status notification")
            await relay.until("status=sent", 2)
        (tmp_path / "log").write_text("\n".join(relay.log) + "\n")
    done = await asyncio.to_thread(
        subprocess.run, ["pflogsumm", str(tmp_path / "log")], capture_output=True, text=True, check=True, timeout=60
    )
    told = re.findall(r"^ +(\d+) +(received|delivered|deferred|bounced)\b", done.stdout, re.MULTILINE)
    # Bounced: the message, and the notification that nobody takes.
    assert {what: int(count) for count, what in told} == {"received": 2, "delivered": 2, "deferred": 0, "bounced": 2}
    assert not done.stderr
