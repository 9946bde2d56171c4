"""Every upstream with the whole corpus: what it hands on, or keeps, is what the application had."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.harness import smtp_upstream
from tests.matrix import known
from tests.matrix.arrivals import differences
from tests.matrix.clients import by_aiosmtplib
from tests.matrix.corpus import CORPUS
from tests.matrix.doors import House
from tests.matrix.servers import SERVERS, ServerUnavailable, server


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SERVERS)
async def test_an_upstream_with_the_whole_corpus(tmp_path: Path, name: str) -> None:
    exceptions = known.UPSTREAMS.get(name, {})
    refused = {case for case, exception in exceptions.items() if exception.becomes is None}
    try:
        async with server(name, tmp_path) as kept:
            upstreams = {"other": smtp_upstream(kept.port, max_connections=4)}
            async with House(tmp_path, upstreams, queue={"bounces": "off"}) as house:
                await asyncio.to_thread(by_aiosmtplib, house.doors["plain"], list(CORPUS.values()), tmp_path)
                await house.until("removed$", len(CORPUS), within=60)
                assert not house.lines("status=deferred")
            arrived = await kept.contents(set(CORPUS) - refused)
    except ServerUnavailable as reason:
        pytest.skip(str(reason))
    found = differences(list(CORPUS.values()), arrived, exceptions)
    assert not found, "\n".join(found)
