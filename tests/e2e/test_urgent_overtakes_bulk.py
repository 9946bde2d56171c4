"""Bulk backlogs that harm nobody: urgent mail overtakes them, and other tenants' mail has its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, SinkProcess, reached, smtp_upstream
from tests.peers.ledger import Submitter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
BODY = b"X-Ledger: %s\r\nSubject: x\r\n\r\nhello\r\n"


async def submit(relay: Relay, names: Sequence[str], head: bytes, sender: str, sessions: int = 8) -> None:
    async def one(share: Sequence[str]) -> None:
        client = await Submitter.connect(relay.port)
        for name in share:
            reply = await client.submit(sender, ["b@y.test"], head + BODY % name.encode())
            assert reply.startswith("250"), reply
        client.close()

    await asyncio.gather(*(one(names[n::sessions]) for n in range(sessions)))


def arrivals(ledger: Path) -> dict[str, float]:
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return {line.split()[3]: float(line.split()[0]) for line in lines}


async def latencies(
    relay: Relay, ledger: Path, count: int, every: float, head: bytes, sender: str, name: str
) -> list[float]:
    """From the 250 to the receiver's, of messages that come one by one."""
    accepted: dict[str, float] = {}
    for n in range(count):
        began = time.time()
        await submit(relay, [f"{name}{n}"], head, sender, sessions=1)
        accepted[f"{name}{n}"] = time.time()
        await asyncio.sleep(max(0.0, every - (time.time() - began)))
    await reached(lambda: accepted.keys() <= arrivals(ledger).keys())
    arrived = arrivals(ledger)
    return sorted(arrived[each] - at for each, at in accepted.items())


async def test_urgent_mail_leaves_at_once_behind_a_bulk_backlog_at_its_limit(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(delay=0.02, ledger=ledger) as sink,
        Relay(
            tmp_path / "relay",
            {"peer": smtp_upstream(sink.port, limits=["1000/hour"], reserve="10%")},
            listener={"max_sessions_per_client": 100},
        ) as relay,
    ):
        await submit(relay, [f"bulk{n}" for n in range(50_000)], b"X-Relay-Priority: bulk\r\n", "news@x.test")
        await reached(lambda: len(arrivals(ledger)) == 900)
        urgent = b"X-Relay-Priority: urgent\r\n"
        took = await latencies(relay, ledger, 60, 0.5, urgent, "shop@x.test", "urgent")
        print(f"urgent: median {took[30]:.3f} s, worst {took[-1]:.3f} s")
        assert took[-1] < 1.0
        assert len(arrivals(ledger)) == 960, "bulk mail had none of what is reserved"


async def test_urgent_mail_leaves_at_once_while_bulk_mail_flows(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(delay=0.05, ledger=ledger) as sink,
        Relay(tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=["100/second"])}) as relay,
    ):
        await submit(relay, [f"bulk{n}" for n in range(5_000)], b"X-Relay-Priority: bulk\r\n", "news@x.test")
        urgent = b"X-Relay-Priority: urgent\r\n"
        took = await latencies(relay, ledger, 40, 0.2, urgent, "shop@x.test", "urgent")
        print(f"urgent: median {took[20]:.3f} s, worst {took[-1]:.3f} s")
        assert took[-1] < 1.0
        assert 40 + 200 < len(arrivals(ledger)) < 5_000, "bulk mail still flows, and is not through"


async def test_a_tenants_backlog_does_not_block_another_ones_mail(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with (
        SinkProcess(delay=0.05, ledger=ledger) as sink,
        Relay(tmp_path / "relay", {"peer": smtp_upstream(sink.port, limits=["50/second"])}) as relay,
    ):
        await submit(relay, [f"a{n}" for n in range(20_000)], b"X-Relay-Tag: big\r\n", "a@x.test")
        before = len(arrivals(ledger))
        took = await latencies(relay, ledger, 10, 0.3, b"X-Relay-Tag: small\r\n", "a@x.test", "small")
        print(f"another tenant's: median {took[5]:.3f} s, worst {took[-1]:.3f} s")
        assert took[-1] < 1.0
        assert before < len(arrivals(ledger)) < 20_000


async def test_mail_for_a_spent_upstream_does_not_keep_others_in_the_spool(tmp_path: Path) -> None:
    spent, free = tmp_path / "spent", tmp_path / "free"
    async with (
        SinkProcess(ledger=spent) as one,
        SinkProcess(ledger=free) as other,
        Relay(
            tmp_path / "relay",
            {"one": smtp_upstream(one.port, limits=["1/hour"]), "other": smtp_upstream(other.port)},
            tables={
                "route.limited": {"upstreams": ["one"]},
                "route.limited.match": {"recipient_domain": ["limited.test"]},
                "route.default": {"upstreams": ["other"]},
            },
        ) as relay,
    ):

        async def submit_to(domain: str, count: int, *, upstream: str = "") -> None:
            client = await Submitter.connect(relay.port)
            head = f"X-Relay-Upstream: {upstream}\r\n".encode() if upstream else b""
            for n in range(count):
                reply = await client.submit("a@x.test", [f"b@{domain}"], head + BODY % str(n).encode())
                assert reply.startswith("250"), reply
            client.close()

        await asyncio.gather(*(submit_to("limited.test", 1000) for _ in range(4)))
        await asyncio.gather(*(submit_to("y.test", 1000, upstream="one") for _ in range(4)))
        began = time.time()
        await submit_to("y.test", 50)
        await reached(lambda: len(free.read_text().splitlines() if free.exists() else []) == 50, within=10.0)
        print(f"50 messages of another route: {time.time() - began:.3f} s")
        assert len(spent.read_text().splitlines()) == 1
