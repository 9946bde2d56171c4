"""One round trip a message on a warm connection, counted by the upstream at 50 ms."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream

MESSAGES = 60
DELAY = 0.05


@pytest.mark.parametrize(
    ("pipelining", "hidden", "each"),
    [("auto", (), 1), ("chained", (), 1), ("on", (), 2), ("off", (), 4), ("auto", ("PIPELINING",), 4)],
)
async def test_round_trips(tmp_path: Path, pipelining: str, hidden: tuple[str, ...], each: int) -> None:
    async with SinkProcess(delay=DELAY, hide=hidden) as sink:
        settings = smtp_upstream(sink.port, max_connections=1, pipelining=pipelining)
        async with Relay(tmp_path, {"sink": settings}) as relay:
            await relay.submit()
            await relay.until("removed$", 1)
            sink.count_anew()
            began = time.monotonic()
            await relay.submit_many(MESSAGES)
            await relay.until("status=sent", MESSAGES + 1)
            took = time.monotonic() - began
            counted = await sink.counters()
            assert counted["messages"] == MESSAGES
            assert counted["sessions"] == 0, "the warm connection was used"
            # The first message finds an idle session: its envelope leads no content.
            assert each * MESSAGES - 1 <= counted["round_trips"] <= each * MESSAGES + 2
            assert took < each * MESSAGES * DELAY * 1.5 + 1
