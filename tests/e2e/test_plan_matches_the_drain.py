"""What ``relay plan`` says against what then happens, with real processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Relay, SinkProcess, smtp_upstream


async def predicted_and_actual(
    folder: Path, tables: dict[str, dict[str, Any]], messages: int, delay: float
) -> tuple[dict[str, Any], float]:
    """The plan made while a backlog leaves, and the seconds until its last message was at a sink.

    ``tables`` are upstreams, each with a sink of its own, and tables within them.
    """
    async with AsyncExitStack() as stack:
        sinks = [await stack.enter_async_context(SinkProcess(delay=delay)) for name in tables if "." not in name]
        ports = iter(sink.port for sink in sinks)
        upstreams = {
            name: table if "." in name else smtp_upstream(next(ports), **table) for name, table in tables.items()
        }
        relay = await stack.enter_async_context(Relay(folder, upstreams))
        await relay.submit_many(messages)
        await asyncio.sleep(3)  # what was measured while applications had the processor is not what is asked for
        plan = await relay.json("plan")
        arrived = 0
        async with asyncio.timeout(90):
            while arrived < messages:
                await asyncio.sleep(1)
                counters = [await sink.counters() for sink in sinks]
                arrived = sum(each["messages"] for each in counters)
        # Counters are on the wall clock, as the plan is.
        return plan, max(each["last"] for each in counters) - datetime.fromisoformat(plan["at"]).timestamp()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tables", "messages", "delay", "kind", "speed"),
    [
        ({"a": {"limits": ["20/second"]}}, 500, 0.02, "limit", 20),
        ({"a": {"limits": ["20/second"], "pacing": "even"}}, 300, 0.2, "pacing", 16),
        ({"a": {"limits": ["20/second", "100/10s"]}}, 300, 0.02, "limit", 20),
        (
            {
                "a": {"limits": ["100/10s"]},
                "a.pause": {"after": 50, "for": "5s"},
                "b": {"limits": ["100/10s"]},
                "b.pause": {"after": 50, "for": "5s"},
            },
            700,
            0.02,
            "pause",
            20,
        ),
        ({"a": {"max_connections": 4}}, 2500, 0.05, "connections", 75),
    ],
    ids=["a limit", "an even pace", "two limits", "two upstreams that pause", "round trips"],
)
async def test_the_backlog_clears_when_the_plan_says(
    tmp_path: Path, tables: dict[str, dict[str, Any]], messages: int, delay: float, kind: str, speed: float
) -> None:
    plan, actual = await predicted_and_actual(tmp_path / "relay", tables, messages, delay)
    assert actual > 10
    assert plan["clears_in_seconds"] == pytest.approx(actual, rel=0.1)
    assert plan["bound_by"]["kind"] == kind
    assert plan["together"]["second"] == pytest.approx(speed, rel=0.2)
