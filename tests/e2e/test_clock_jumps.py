"""The wall clock steps under a relay with mail that waits: none is lost, expires early or is stuck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.e2e.test_limits_at_the_receiver import FAKETIME
from tests.peers.scripted import ScriptedUpstream, say

LATER = say("451 4.3.0 not now")


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime")
@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("@2028-06-01 12:00:00", "@2028-06-01 13:00:00"),
        ("@2028-06-01 12:00:00", "@2028-06-01 11:00:00"),
        ("@2028-06-01 12:00:00", "@2027-06-01 12:00:00"),
        ("@2028-06-01 12:00:00", "@2034-06-01 12:00:00"),
    ],
    ids=["an-hour-ahead", "an-hour-back", "a-year-back", "six-years-ahead"],
)
async def test_deferred_mail_goes_on(tmp_path: Path, first: str, then: str) -> None:
    stamp = tmp_path / "faketime"
    stamp.write_text(f"{first}\n")
    # libfaketime 0.9.10 refuses clock_nanosleep() to a moment of the monotonic clock, which time.sleep() calls.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    )
    environment = {
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
    }
    async with ScriptedUpstream({"MAIL": [LATER] * 5}) as peer:
        queue = {"backoff": ["2s"], "lifetime": "4h"}
        upstreams = {"peer": smtp_upstream(peer.port, max_connections=1)}
        async with Relay(tmp_path / "relay", upstreams, queue=queue, environment=environment) as relay:
            ids = [await relay.submit() for _ in range(5)]
            await relay.until("status=deferred", 5)
            stamp.write_text(f"{then}\n")
            await relay.until("status=sent", 5, within=30)
            assert len(peer.accepted()) == 5
            assert {line for queue_id in ids for line in relay.lines(f"{queue_id}: removed")}
            assert not relay.lines("status=(bounced|expired)")
            ids.append(await relay.submit())
            await relay.until(f"{ids[-1]}: to=<.*status=sent")
