"""What an account may send, as its provider tells: kept to, also where others use it too, shown, and looked at anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.e2e.harness import Relay, reached
from tests.e2e.test_api_breaks_after_post import api_upstream
from tests.peers.api import Answer, SesPeer


def account(day: float, rate: float, used: float) -> Answer:
    return Answer(200, {"SendQuota": {"Max24HourSend": day, "MaxSendRate": rate, "SentLast24Hours": used}})


async def limits(relay: Relay) -> list[tuple[str, int, int]]:
    found: list[dict[str, Any]] = (await relay.json("status"))["upstreams"]["ses"]["limits"]
    return [(each["limit"], each["used"], each["left"]) for each in found]


async def test_an_accounts_rate_and_what_is_left_of_its_day_are_kept_to(tmp_path: Path) -> None:
    with SesPeer(account=account(60, 5, 20)) as peer:
        async with Relay(tmp_path, {"ses": api_upstream("ses", peer.port, limits=["1000/day"])}) as relay:
            await relay.submit_many(50)
            await relay.until("upstream ses may send 60/day of the account and 5/second of the account")
            await reached(lambda: len(peer.posts) == 40, within=20.0)
            times = [each.at for each in peer.posts]
            assert min(later - first for first, later in zip(times, times[5:], strict=False)) > 0.99, "5 in a second"
            assert times[-1] - times[0] < 8.5
            await asyncio.sleep(1.5)
            assert len(peer.posts) == 40
            assert await limits(relay) == [("60/day of the account", 60, 0), ("5/second of the account", 0, 5)]
            plan = await relay.json("plan")
            assert plan["upstreams"]["ses"]["bound_by"]["what"] == "60/day of the account"
            assert not relay.lines("status=(deferred|bounced)")
            # A new life asks before it sends, and finds the account raised; what it sent itself is not counted twice.
            await relay.stop()
            peer.account = account(68, 5, 60)
            await relay.start()
            await reached(lambda: len(peer.posts) == 48, within=20.0)
            await asyncio.sleep(1.5)
            assert len(peer.posts) == 48
