"""Routes as real receivers see them: who gets what, in which order, and who takes over."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from tests.e2e.harness import Relay, SinkProcess, reached, smtp_upstream
from tests.peers.ledger import Submitter

CONTENT = b"Subject: one of many\r\nX-Ledger: %s\r\n\r\nhello\r\n"


class Receivers:
    """Sinks with a ledger each."""

    def __init__(self, folder: Path, names: str) -> None:
        self.ledgers = {name: folder / name for name in names}
        self.stack = AsyncExitStack()
        self.sinks: dict[str, SinkProcess] = {}

    async def __aenter__(self) -> Self:
        for name, ledger in self.ledgers.items():
            self.sinks[name] = await self.stack.enter_async_context(SinkProcess(ledger=ledger))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    def upstreams(self, **settings: Any) -> dict[str, dict[str, Any]]:
        return {name: smtp_upstream(sink.port, **settings) for name, sink in self.sinks.items()}

    def got(self) -> dict[str, int]:
        return {name: len(self.lines(name)) for name in self.ledgers}

    def lines(self, name: str) -> list[str]:
        ledger = self.ledgers[name]
        return ledger.read_text().splitlines() if ledger.exists() else []

    def in_order(self) -> list[tuple[float, str, str]]:
        """When, where and what, of all."""
        return sorted(
            (float(line.split()[0]), name, line.split()[3]) for name in self.ledgers for line in self.lines(name)
        )


async def submit(relay: Relay, count: int, *recipients: str, head: bytes = b"", sender: str = "a@x.test") -> None:
    client = await Submitter.connect(relay.port)
    for n in range(count):
        content = head + CONTENT % str(n).encode()
        reply = await client.submit(sender, list(recipients or ("b@y.test",)), content)
        assert reply.startswith("250"), reply
    client.close()


async def test_five_accounts_in_balance_give_the_sum_of_their_limits_at_once(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "abcde") as receivers:
        upstreams = receivers.upstreams(limits=["60/hour"])
        route = {"upstreams": list("abcde"), "strategy": "balance"}
        async with Relay(tmp_path / "relay", upstreams, tables={"route.default": route}) as relay:
            await submit(relay, 400)
            await reached(lambda: sum(receivers.got().values()) >= 300, within=20.0)
            assert receivers.got() == dict.fromkeys("abcde", 60)
            order = receivers.in_order()
            assert order[-1][0] - order[0][0] < 10.0
            assert len({name for _, name, _ in order[:20]}) == 5, "all of them from the first moment"
            assert (await relay.json("status"))["queue"]["waiting"] == 100


async def test_unequal_limits_are_both_used_to_the_full(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "ab") as receivers:
        upstreams = receivers.upstreams()
        upstreams["a"]["limits"], upstreams["b"]["limits"] = ["100/hour"], ["20/hour"]
        route = {"upstreams": ["a", "b"], "strategy": "balance"}
        async with Relay(tmp_path / "relay", upstreams, tables={"route.default": route}) as relay:
            await submit(relay, 60)
            await relay.drained()
            got = receivers.got()
            assert got["a"] + got["b"] == 60
            assert 9 <= got["b"] <= 11, "by five to one, but for what was under way when one of them had no connection"
            await submit(relay, 70)
            await reached(lambda: receivers.got() == {"a": 100, "b": 20})


async def test_a_rotating_route_goes_on_after_each_cycle(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "abc") as receivers:
        upstreams = receivers.upstreams(cycle=10, max_connections=1, pipelining="off")
        upstreams["b"]["cycle"] = 5
        route = {"upstreams": ["a", "b", "c"], "strategy": "rotate"}
        async with Relay(tmp_path / "relay", upstreams, tables={"route.default": route}) as relay:
            client = await Submitter.connect(relay.port)
            for n in range(50):  # one at a time, so that the order at the receivers is the relay's
                reply = await client.submit("a@x.test", ["b@y.test"], CONTENT % str(n).encode())
                assert reply.startswith("250")
                await relay.drained()
            client.close()
            names = "".join(name for _, name, _ in receivers.in_order())
            assert names == "a" * 10 + "b" * 5 + "c" * 10 + "a" * 10 + "b" * 5 + "c" * 10


async def test_failover_spills_over_at_the_limit_and_goes_back(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "ab") as receivers:
        upstreams = receivers.upstreams()
        upstreams["a"]["limits"] = ["10/3s"]
        async with Relay(tmp_path / "relay", upstreams) as relay:
            await submit(relay, 25)
            await reached(lambda: receivers.got() == {"a": 10, "b": 15})
            await relay.drained()
            last = receivers.in_order()[-1][0]
            await reached(lambda: time.time() > last + 3.2)
            await submit(relay, 10)
            await reached(lambda: receivers.got() == {"a": 20, "b": 15})


async def test_recipients_of_one_message_take_their_own_routes_each_once(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "abc") as receivers:
        tables: dict[str, dict[str, Any]] = {
            "route.tagged": {"upstreams": ["c"]},
            "route.tagged.match.header": {"X-Campaign": "news-*"},
            "route.mail": {"upstreams": ["b"]},
            "route.mail.match": {"recipient_domain": ["gmail.test", "*.gmail.test"]},
            "route.default": {"upstreams": ["a"]},
        }
        async with Relay(tmp_path / "relay", receivers.upstreams(), tables=tables) as relay:
            await submit(relay, 1, "1@y.test", "2@gmail.test", "3@eu.gmail.test", "4@z.test")
            await submit(relay, 1, "5@gmail.test", head=b"X-Campaign: News-12\r\n")
            await submit(relay, 1, "6@gmail.test", head=b"X-Relay-Upstream: a\r\n")
            await relay.drained()
            ports = {sink.port: name for name, sink in receivers.sinks.items()}
            sent = [re.search(r"to=<(.*?)>, relay=.*?:(\d+),", line) for line in relay.lines("status=sent")]
            ways = sorted((found[1], ports[int(found[2])]) for found in sent if found)
            assert [name for _, name in ways] == ["a", "b", "b", "a", "c", "a"]
            assert receivers.got() == {"a": 2, "b": 1, "c": 1}


async def test_a_reload_sends_what_waits_the_new_way(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "ab") as receivers:
        upstreams = receivers.upstreams()
        upstreams["a"]["limits"] = ["1/hour"]
        tables = {"route.default": {"upstreams": ["a"]}}
        async with Relay(tmp_path / "relay", upstreams, tables=tables) as relay:
            await submit(relay, 20)
            await reached(lambda: receivers.got()["a"] == 1)
            relay.tables = {"route.default": {"upstreams": ["b"]}}
            relay.write_config()
            os.kill(relay.pid, signal.SIGHUP)
            await reached(lambda: receivers.got() == {"a": 1, "b": 19})


async def test_bounces_take_the_route_that_is_theirs(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "ab") as receivers:
        upstreams: dict[str, dict[str, Any]] = {**receivers.upstreams(), "sim": {"kind": "simulator"}}
        tables = {
            "route.bounces": {"upstreams": ["b"]},
            "route.default": {"upstreams": ["sim"]},
        }
        async with Relay(tmp_path / "relay", upstreams, queue={"bounces": "bounces"}, tables=tables) as relay:
            await submit(relay, 1, "bounce@y.test")
            await reached(lambda: receivers.got() == {"a": 0, "b": 1})


@pytest.mark.parametrize("limits", [["3/hour"], ["3/hour", "100/day"]])
async def test_who_submits_too_much_hears_when_to_come_again(tmp_path: Path, limits: list[str]) -> None:
    async with Relay(tmp_path / "relay", {"sim": {"kind": "simulator"}}, listener={"submit_limits": limits}) as relay:
        for _ in range(3):
            await relay.submit()
        reply = await relay.reply()
        assert reply.startswith("452 4.7.1 Error: no more than 3/hour from you; try again in 3"), reply


async def test_what_waits_is_counted_where_its_route_would_have_it_go(tmp_path: Path) -> None:
    async with Receivers(tmp_path, "ab") as receivers:
        upstreams = receivers.upstreams(limits=["1/hour"])
        bulk = {"upstreams": ["b"]}
        tables = {"route.bulk": bulk, "route.bulk.match": {"priority": ["bulk"]}, "route.default": {"upstreams": ["a"]}}
        async with Relay(tmp_path / "relay", upstreams, tables=tables) as relay:
            await submit(relay, 20)
            await submit(relay, 30, head=b"X-Relay-Priority: bulk\r\n")
            await submit(relay, 5, head=b"X-Relay-Upstream: b\r\n")
            await reached(lambda: receivers.got() == {"a": 1, "b": 1})
            status = (await relay.json("status"))["upstreams"]
            assert {name: each["waiting"] for name, each in status.items()} == {"a": 19, "b": 34}
