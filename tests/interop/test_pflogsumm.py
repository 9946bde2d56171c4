"""pflogsumm, which reads Postfix's logs, counts in ours what the spool counts."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import ScriptedUpstream, say


def counts(log: str) -> dict[str, int]:
    """The grand totals of a report."""
    report = subprocess.run(["pflogsumm"], input=log, capture_output=True, text=True, check=True, timeout=30).stdout
    totals = report.partition("Grand Totals")[2].partition("bytes received")[0]
    return {name: int(number) for number, name in re.findall(r"^\s+(\d+)\s+(\w+)", totals, re.MULTILINE)}


@pytest.mark.interop
async def test_counts_are_the_spools(tmp_path: Path) -> None:
    if not shutil.which("pflogsumm"):
        pytest.skip("pflogsumm is not installed")
    script = {
        "RCPT no@y.test": say("550 5.1.1 unknown"),
        "RCPT later@y.test": say("451 4.2.0 greylisted"),
    }
    async with ScriptedUpstream(script) as peer:
        upstreams = {"peer": smtp_upstream(peer.port)}
        async with Relay(tmp_path, upstreams, queue={"backoff": ["1h"]}) as relay:
            await asyncio.gather(*(relay.submit() for _ in range(20)))
            await relay.submit(recipients=["b@y.test", "c@y.test"])
            await relay.submit(recipients=["no@y.test"])
            await relay.submit(recipients=["later@y.test"])
            refused = await relay.reply(recipients=["bad address@"])
            assert refused[0] == "5"
            # 20 + 2 recipients and the bounce; the messages, the refused one and the bounce.
            await relay.until("status=sent", 23)
            await relay.until("status=deferred", 1)
            await relay.until("removed$", 23)
            status = await relay.json("status")
            queued = await relay.json("queue", "count")
            log = "\n".join(relay.log) + "\n"
    found = counts(log)
    assert found["received"] == 23, "what came from a client, so not the bounce of our own"
    assert found["delivered"] == 23
    assert found["bounced"] == 1
    assert found["deferred"] == 1
    assert found["rejected"] == 1
    assert status["upstreams"]["peer"]["sent_total"] == 22, "messages: 20, the one with two recipients, the bounce"
    assert queued["deferred"] == 1
