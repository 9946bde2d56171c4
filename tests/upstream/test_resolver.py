from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from relay.upstream import resolver
from relay.upstream.names import Found, NameServiceFailed, NoSuchHost
from relay.upstream.resolver import DnsResolver
from tests.upstream.name_server import CUT, GARBAGE, SERVFAIL, SILENCE, NameServer

T = TypeVar("T")

RECORDS = (
    "mx.test 120 IN A 192.0.2.1",
    "mx.test 120 IN A 192.0.2.2",
    "mx.test 90 IN AAAA 2001:db8::1",
    "only4.test 120 IN A 192.0.2.4",
    "alias.test 30 IN CNAME mx.test.",
    "loop.test 30 IN CNAME pool.test.",
    "pool.test 30 IN CNAME loop.test.",
    "mailhub.example.test 60 IN A 192.0.2.9",
    "smtp.provider.test.example.test 60 IN A 192.0.2.66",
)


def asking(server: NameServer, folder: Path, more: str = "") -> DnsResolver:
    path = folder / "resolv.conf"
    path.write_text(f"nameserver 127.0.0.1\n{more}")
    return DnsResolver(str(path), server.port)


def run(on: str, what: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on == "uvloop" else None) as runner:
        return runner.run(what)


@pytest.mark.parametrize("on", ["asyncio", "uvloop"])
def test_both_families_with_their_ttl(on: str, tmp_path: Path) -> None:
    async def story() -> tuple[Found, Found]:
        async with NameServer(RECORDS) as server:
            ask = asking(server, tmp_path)
            return await ask("mx.test", "A"), await ask("mx.test", "AAAA")

    v4, v6 = run(on, story())
    assert (set(v4.addresses), v4.ttl) == ({"192.0.2.1", "192.0.2.2"}, 120.0)
    assert v6 == Found(("2001:db8::1",), 90.0)


async def test_a_cname_is_followed_and_the_least_ttl_counts(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        found = await asking(server, tmp_path)("alias.test", "AAAA")
    assert found == Found(("2001:db8::1",), 30.0)


async def test_no_such_record_is_an_empty_answer_for_as_long_as_the_soa_says(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        assert await asking(server, tmp_path)("only4.test", "AAAA") == Found((), 60.0)


@pytest.mark.parametrize("on", ["asyncio", "uvloop"])
def test_no_such_name(on: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with NameServer(RECORDS) as server:
            await asking(server, tmp_path)("gone.test", "A")

    with pytest.raises(NoSuchHost):
        run(on, story())


@pytest.mark.parametrize("mood", [SERVFAIL, GARBAGE])
async def test_a_server_that_fails_is_no_answer(mood: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "TRY_TIMEOUT", 0.1)
    monkeypatch.setattr(resolver, "LIFETIME", 0.3)  # nonsense might be forged: the true answer is waited for
    async with NameServer(RECORDS, {"mx.test": mood}) as server:
        with pytest.raises(NameServiceFailed):
            await asking(server, tmp_path)("mx.test", "A")


async def test_a_loop_of_cnames_is_no_answer(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        with pytest.raises(NameServiceFailed):
            await asking(server, tmp_path)("loop.test", "A")


async def test_a_name_that_can_not_be_is_no_answer(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        with pytest.raises(NameServiceFailed):
            await asking(server, tmp_path)(f"{'a' * 64}.test", "A")
        assert not server.asked


@pytest.mark.parametrize("on", ["asyncio", "uvloop"])
def test_silence_ends_in_bounded_time(on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "TRY_TIMEOUT", 0.1)
    monkeypatch.setattr(resolver, "LIFETIME", 0.3)

    async def story() -> list[str]:
        async with NameServer(RECORDS, {"mx.test": SILENCE}) as server:
            with pytest.raises(NameServiceFailed):
                await asking(server, tmp_path)("mx.test", "A")
            return server.asked

    started = time.monotonic()
    asked = run(on, story())
    assert time.monotonic() - started < 2
    assert len(asked) > 1, "asked once and given up"


@pytest.mark.parametrize("on", ["asyncio", "uvloop"])
def test_an_answer_that_was_cut_is_asked_for_over_tcp(on: str, tmp_path: Path) -> None:
    async def story() -> tuple[Found, list[str]]:
        async with NameServer(RECORDS, {"mx.test": CUT}) as server:
            return await asking(server, tmp_path)("mx.test", "A"), server.asked

    found, asked = run(on, story())
    assert set(found.addresses) == {"192.0.2.1", "192.0.2.2"}
    assert asked == ["mx.test A udp", "mx.test A tcp"]


async def test_the_search_list_completes_bare_names_only(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        ask = asking(server, tmp_path, "search example.test\noptions ndots:5\n")
        assert (await ask("mailhub", "A")).addresses == ("192.0.2.9",)
        with pytest.raises(NoSuchHost):
            await ask("smtp.provider.test", "A")


async def test_resolv_conf_is_read_again_when_it_changes(tmp_path: Path) -> None:
    async with NameServer(RECORDS) as server:
        ask = asking(server, tmp_path)
        with pytest.raises(NoSuchHost):
            await ask("mailhub", "A")
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch example.test\n")
        assert (await ask("mailhub", "A")).addresses == ("192.0.2.9",)


@pytest.mark.parametrize("content", [None, "", "nameserver nonsense\n", "search \xff.test\n"])
async def test_without_a_usable_resolv_conf_this_machine_is_asked(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    async with NameServer(RECORDS) as server:
        assert (await DnsResolver(str(path), server.port)("only4.test", "A")).addresses == ("192.0.2.4",)
