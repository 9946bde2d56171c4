"""An API's connection that breaks, or a relay that ends, once the whole POST is out: in doubt, told, tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Relay, reached
from tests.peers.api import API_KEY, CLOSE, HANG, KEY_ID, REGION, SECRET, Answer, ApiPeer, SesPeer, SparkPostPeer

KINDS: dict[str, type[ApiPeer]] = {"ses": SesPeer, "sparkpost": SparkPostPeer}
BOTH = pytest.mark.parametrize("kind", KINDS)


def api_upstream(kind: str, port: int, **settings: Any) -> dict[str, Any]:
    keys: dict[str, Any] = {"api_key": API_KEY}
    if kind == "ses":
        keys = {"region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET}
    return {"kind": kind, "endpoint": f"http://127.0.0.1:{port}", **keys, **settings}


@BOTH
async def test_a_broken_connection_is_in_doubt_and_tried_again(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](acts=[CLOSE]) as peer:
        async with Relay(tmp_path, {"api": api_upstream(kind, peer.port)}) as relay:
            queue_id = await relay.submit()
            where = rf"relay=api\[127\.0\.0\.1\]:{peer.port}, "
            await relay.until(rf"{queue_id}: to=<b@y\.test>, {where}.*status=deferred \(in doubt: lost connection with")
            (sent,) = await relay.until(rf"{queue_id}: to=<b@y\.test>, {where}.*status=sent \(HTTP 200 Ok .*")
            await relay.until(rf"{queue_id}: removed")
    assert "dsn=2.0.0" in sent.string
    assert len(peer.posts) == 2
    assert not [line for line in relay.log if SECRET in line or API_KEY in line]


@BOTH
async def test_a_gateway_timeout_is_in_doubt_and_the_connection_goes_on(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](acts=[Answer(504, None)]) as peer:
        async with Relay(tmp_path, {"api": api_upstream(kind, peer.port)}) as relay:
            queue_id = await relay.submit()
            await relay.until(rf"{queue_id}: .*status=deferred \(in doubt: HTTP 504 Gateway Timeout with api\[")
            (sent,) = await relay.until(rf"{queue_id}: .*status=sent ")
    assert "conn_use=2" in sent.string


@BOTH
async def test_a_relay_that_stops_meanwhile(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](acts=[HANG]) as peer:
        queue = {"stop_timeout": "1s"}
        async with Relay(tmp_path, {"api": api_upstream(kind, peer.port)}, queue) as relay:
            queue_id = await relay.submit()
            await asyncio.to_thread(peer.heard.wait, 10)
            assert await relay.stop() == 0
            assert relay.lines(rf"{queue_id}: .*status=deferred \(in doubt: relay stopped with api\[")
            await relay.start()
            await relay.until(rf"{queue_id}: .*status=sent ")


@BOTH
async def test_a_relay_that_is_killed_meanwhile_loses_nothing(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](acts=[HANG]) as peer:
        async with Relay(tmp_path, {"api": api_upstream(kind, peer.port)}) as relay:
            queue_id = await relay.submit()
            await asyncio.to_thread(peer.heard.wait, 10)
            await relay.kill()
            await relay.start()
            await relay.until(rf"{queue_id}: .*status=sent ")


async def test_a_paused_account_spends_no_attempt_and_the_next_upstream_takes_over(tmp_path: Path) -> None:
    spent = Answer(420, {"errors": [{"message": "Exceed Sending Limit (daily)", "code": "2101"}]})
    with SparkPostPeer(acts=[spent]) as first, SesPeer() as second:
        upstreams = {"spent": api_upstream("sparkpost", first.port), "other": api_upstream("ses", second.port)}
        async with Relay(tmp_path, upstreams) as relay:
            queue_id = await relay.submit()
            await relay.until(rf"{queue_id}: .*relay=other\[.*status=sent ")
            status = (await relay.json("status"))["upstreams"]["spent"]
            assert "Exceed Sending Limit" in status["last_error"]
            assert status["state"] == "paused"
            assert not relay.lines(rf"{queue_id}: .*status=deferred")


@BOTH
async def test_many_share_few_connections(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](delay=0.02) as peer:
        async with Relay(tmp_path, {"api": api_upstream(kind, peer.port, max_connections=3)}) as relay:
            await relay.submit_many(60)
            await reached(lambda: len(peer.posts) == 60)
            await relay.until("status=sent", 60)
    assert len({each.connection for each in peer.posts}) == 3
