"""X-Relay-Not-After while a server lets us wait: nothing of the content leaves, and nobody else is hurt."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream


def until(at: float) -> bytes:
    return b"X-Relay-Not-After: " + formatdate(at).encode() + b"\r\nSubject: x\r\n\r\ncanary\r\n"


@pytest.mark.parametrize("policy", ["retry", "hold"])
async def test_a_deadline_that_passes_at_a_slow_server_is_kept(tmp_path: Path, policy: str) -> None:
    # Without PIPELINING greeting, EHLO, MAIL, RCPT and DATA take a second each: MAIL is said when the third begins.
    async with ScriptedUpstream(delay=1.0, extensions=("8BITMIME",)) as peer:
        upstream = smtp_upstream(peer.port, in_doubt=policy)
        async with Relay(tmp_path, {"peer": upstream}) as relay:
            client = await Submitter.connect(relay.port)
            assert (await client.submit("a@x.test", ["late@y.test"], until(time.time() + 3.9))).startswith("250 ")
            assert (await client.submit("a@x.test", ["good@y.test"], b"Subject: y\r\n\r\n")).startswith("250 ")
            client.close()
            await relay.until(r"to=<late@y\.test>, relay=none, .*status=expired")
            await relay.until(r"to=<good@y\.test>, .*status=sent")
            await relay.drained()
            assert b"canary" not in peer.wire
            assert b"late@y.test" in peer.wire, "it was on its way"
            assert not relay.lines("upstream peer is down")
