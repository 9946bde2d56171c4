"""Connections over loopback's many addresses: 127.0.0.0/8 stands for a host with several."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import uvloop

from relay.outcome import Scope
from relay.upstream import UpstreamUnavailable, connecting
from relay.upstream.addresses import Family
from relay.upstream.connecting import Connected, Connector
from relay.upstream.names import Found, Names, NameServiceFailed, RecordType
from relay.upstream.watched import Watched

T = TypeVar("T")
LOOPS = ["asyncio", "uvloop"]


def run(on: str, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on == "uvloop" else None) as runner:
        return runner.run(what())


class Scene:
    """A connector to ``addresses``, tried in their order, with a clock that stands still."""

    def __init__(self, *addresses: str, family: Family = "any", sources: tuple[str, ...] = ()) -> None:
        self.now = 1000.0
        self.addresses = addresses
        names = Names(self._look_up, Watched((), dict), lambda: self.now)
        self.connector = Connector(names, lambda: self.now, lambda: 0.5, family=family, sources=sources)

    async def _look_up(self, _name: str, record: RecordType) -> Found:
        return Found(tuple(each for each in self.addresses if (":" in each) == (record == "AAAA")), 0.0)

    async def connect(self, port: int, timeout: float = 5.0) -> str:  # noqa: ASYNC109 - the connector's
        connected = await self.connector.connect("mx.test", port, timeout)
        assert connected.sock.getpeername()[1] == port
        self.source = connected.sock.getsockname()[0]
        connected.sock.close()
        return connected.address

    async def fails(self, port: int, timeout: float = 5.0) -> str:  # noqa: ASYNC109 - the connector's
        with pytest.raises(UpstreamUnavailable) as caught:
            await self.connect(port, timeout)
        assert caught.value.outcome.scope is Scope.UPSTREAM
        return caught.value.outcome.detail


@contextmanager
def listening(address: str, port: int = 0) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:
        yield server.getsockname()[1]


@contextmanager
def hanging(address: str) -> Iterator[int]:
    """A port whose backlog is full: a connect gets no answer (Linux drops the SYN)."""
    with socket.socket() as server:
        server.bind((address, 0))
        server.listen(0)
        where = server.getsockname()
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            assert filler.connect_ex(where) in {0, errno.EINPROGRESS}
            fillers.append(filler)
        time.sleep(0.05)
        try:
            yield where[1]
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("on", LOOPS)
def test_one_address(on: str) -> None:
    with listening("127.0.0.1") as port:
        assert run(on, lambda: Scene("127.0.0.1").connect(port)) == "127.0.0.1"


@pytest.mark.parametrize("on", LOOPS)
def test_ipv6_is_tried_first(on: str) -> None:
    with listening("127.0.0.1") as port, listening("::1", port):
        assert run(on, lambda: Scene("127.0.0.1", "::1").connect(port)) == "::1"


@pytest.mark.parametrize(("family", "address"), [("ipv4", "127.0.0.1"), ("ipv6", "::1")])
def test_one_family_where_that_is_wanted(family: Family, address: str) -> None:
    with listening("127.0.0.1") as port, listening("::1", port):
        assert run("uvloop", lambda: Scene("127.0.0.1", "::1", family=family).connect(port)) == address


@pytest.mark.parametrize("on", LOOPS)
def test_a_refusal_leads_to_the_next_address_at_once(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "STAGGER", 30.0)
    with listening("127.0.0.3") as port:
        assert run(on, lambda: Scene("127.0.0.1", "127.0.0.2", "127.0.0.3").connect(port)) == "127.0.0.3"


@pytest.mark.parametrize("on", LOOPS)
def test_silence_leads_to_the_next_address_after_a_moment(on: str) -> None:
    with hanging("127.0.0.1") as port, listening("127.0.0.2", port):
        started = time.monotonic()
        assert run(on, lambda: Scene("127.0.0.1", "127.0.0.2").connect(port)) == "127.0.0.2"
        assert connecting.STAGGER <= time.monotonic() - started < connecting.STAGGER + 1


@pytest.mark.parametrize("on", LOOPS)
def test_what_fails_is_named_with_each_address(on: str) -> None:
    with listening("127.0.0.1") as port:
        pass
    said = run(on, lambda: Scene("127.0.0.1", "127.0.0.2", "::1").fails(port))
    # IPv6 first, then the others in turn
    assert said.split("; ") == [
        f"connect to mx.test[{each}]:{port}: Connection refused" for each in ("::1", "127.0.0.1", "127.0.0.2")
    ]


@pytest.mark.parametrize("on", LOOPS)
def test_silence_everywhere_ends_in_time(on: str) -> None:
    with hanging("127.0.0.1") as port:
        started = time.monotonic()
        said = run(on, lambda: Scene("127.0.0.1", "127.0.0.2").fails(port, 0.6))
        assert time.monotonic() - started < 2
    assert sorted(said.split("; ")) == [
        f"connect to mx.test[127.0.0.1]:{port}: Connection timed out",
        f"connect to mx.test[127.0.0.2]:{port}: Connection refused",
    ]


async def test_a_failing_address_is_tried_last_for_a_while() -> None:
    scene = Scene("127.0.0.1", "127.0.0.2")
    with listening("127.0.0.2") as port:
        assert await scene.connect(port) == "127.0.0.2"  # the first refused
        with listening("127.0.0.1", port):
            assert await scene.connect(port) == "127.0.0.2"
            scene.now += connecting.FAILING_FOR + 1
            assert await scene.connect(port) == "127.0.0.1"
            scene.connector.failed("127.0.0.1")  # as after a failed handshake
            assert await scene.connect(port) == "127.0.0.2"


async def test_failing_addresses_are_still_tried() -> None:
    scene = Scene("127.0.0.1")
    with listening("127.0.0.1") as port:
        scene.connector.failed("127.0.0.1")
        assert await scene.connect(port) == "127.0.0.1"
        assert not scene.connector._failing


async def test_no_more_than_some_addresses_are_tried() -> None:
    with listening("127.0.0.1") as port:
        pass
    said = await Scene(*(f"127.0.1.{n}" for n in range(1, 101))).fails(port)
    assert said.count("Connection refused") == connecting.ADDRESSES_MOST


@pytest.mark.parametrize("on", LOOPS)
def test_the_source_address_is_bound(on: str) -> None:
    scene = Scene("127.0.0.1", "::1", sources=("127.0.0.9",))
    with listening("127.0.0.1") as port, listening("::1", port):
        assert run(on, lambda: scene.connect(port)) == "127.0.0.1", "no source of that family, no address of it"
    assert scene.source == "127.0.0.9"


@pytest.mark.parametrize("on", LOOPS)
def test_a_source_address_that_is_not_ours_is_named(on: str) -> None:
    with listening("127.0.0.1") as port:
        said = run(on, lambda: Scene("127.0.0.1", sources=("192.0.2.10",)).fails(port))
    assert said == f"connect to mx.test[127.0.0.1]:{port}: bind 192.0.2.10: Cannot assign requested address"


async def test_one_of_the_source_addresses_is_enough() -> None:
    scene = Scene("127.0.0.1", sources=("192.0.2.10", "127.0.0.9"))
    with listening("127.0.0.1") as port:
        await scene.connect(port)
    assert scene.source == "127.0.0.9"


async def test_no_source_address_of_the_family() -> None:
    said = await Scene("127.0.0.1", sources=("::1",)).fails(25)
    assert said == "connect to mx.test: no address of a family that source_addresses has"


async def test_an_unknown_interface_is_said_in_words() -> None:
    assert "connect to mx.test[fe80::1%nowhere]:25: " in await Scene("fe80::1%nowhere").fails(25)


async def test_name_trouble_is_the_upstreams() -> None:
    async def fail(_name: str, _record: RecordType) -> Found:
        raise NameServiceFailed

    scene = Scene()
    scene.connector._names._lookup = fail
    said = await scene.fails(25)
    assert said.endswith("Name service error for name=mx.test type=AAAA: Host not found, try again")


async def test_a_look_up_that_takes_too_long() -> None:
    async def hang(_name: str, _record: RecordType) -> Found:
        await asyncio.sleep(60)
        raise AssertionError

    scene = Scene()
    scene.connector._names._lookup = hang
    assert await scene.fails(25, 0.05) == "connect to mx.test: looking up its name timed out"


@pytest.mark.parametrize("on", LOOPS)
def test_a_connect_that_is_given_up_leaves_nothing_open(on: str) -> None:
    async def story(port: int) -> None:
        task = asyncio.ensure_future(Scene("127.0.0.1", "127.0.0.2").connect(port))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    with hanging("127.0.0.1") as port:
        run(on, lambda: story(port))


async def test_of_two_that_connect_at_once_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    socks: list[socket.socket] = []

    async def connect(_address: str, _port: int, _sources: tuple[str, ...]) -> socket.socket:
        await asyncio.sleep(0.1)
        socks.append(socket.socket())
        return socks[-1]

    monkeypatch.setattr(connecting, "STAGGER", 0.0)
    monkeypatch.setattr(connecting, "_connect", connect)
    connected: Connected = await Scene("127.0.0.1", "127.0.0.2").connector.connect("mx.test", 25, 5.0)
    await asyncio.sleep(0.05)
    assert [sock.fileno() >= 0 for sock in socks].count(True) == 1
    connected.sock.close()


@pytest.mark.parametrize("on", LOOPS)
def test_an_address_that_was_overtaken_is_tried_last_for_a_while(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(port: int) -> None:
        with listening("127.0.0.2", port):
            scene = Scene("127.0.0.1", "127.0.0.2")
            assert await scene.connect(port) == "127.0.0.2"
            monkeypatch.setattr(connecting, "STAGGER", 30.0)
            assert await scene.connect(port) == "127.0.0.2", "the black hole is waited for no more"
            scene.now += connecting.FAILING_FOR
            monkeypatch.setattr(connecting, "STAGGER", 0.05)
            began = time.monotonic()
            await scene.connect(port)
            assert time.monotonic() - began >= 0.045, "tried first again"  # uvloop's timers count milliseconds

    with hanging("127.0.0.1") as port:
        run(on, lambda: story(port))


async def test_who_was_begun_after_the_winner_was_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    async def connect(address: str, _port: int, _sources: tuple[str, ...]) -> socket.socket:
        begun.append(address)
        await asyncio.sleep(0.1 if address == "127.0.0.1" else 30.0)
        return socket.create_connection(("127.0.0.1", port))

    monkeypatch.setattr(connecting, "STAGGER", 0.02)
    monkeypatch.setattr(connecting, "_connect", connect)
    with listening("127.0.0.1") as port:
        scene = Scene("127.0.0.1", "127.0.0.2")
        assert await scene.connect(port) == "127.0.0.1"
        assert begun == ["127.0.0.1", "127.0.0.2"]
        scene.addresses = ("127.0.0.2", "127.0.0.1")
        await scene.connect(port)
    assert begun[2] == "127.0.0.2"
