from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.backlog import Dues
from relay.control import server, services
from relay.control.client import ask
from relay.control.errors import Exit, Refused, Unreachable
from relay.control.selection import selection
from relay.control.server import ControlServer
from relay.control.services import Services
from relay.control.verbs import perform
from relay.control.views import LearnedView, LimitView, UpstreamView
from relay.control.waiting import WaitingMail
from relay.delivery.turns import WAY_SHIFT, way_digest
from relay.mail import Envelope, Message, Recipient, RecipientState, queue_id
from relay.spool import ORDINARY, Arrival, Settled, Settlement, Spool, SpoolDamaged, SpoolFull
from tests.fake_spool import FakeSpool

NOW = 1_800_000_000.0


class StandingClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


@dataclass
class FakeDelivery:
    spool: Spool
    flying: set[int] = field(default_factory=set)
    in_memory: set[int] = field(default_factory=set)
    views: dict[str, UpstreamView] = field(default_factory=lambda: {"ses": UpstreamView("up", 2, 1)})
    pauses: int = 0
    resumed: int = 0

    def upstreams(self) -> Mapping[str, UpstreamView]:
        return self.views

    def preferred(self) -> str | None:
        return "ses"

    def takers(self) -> Mapping[int, str]:
        return {way_digest(""): "ses", way_digest("bulk"): "backup"}

    def waiting_for(self) -> Mapping[str, int]:
        return {"ses": len(self.in_memory)}

    def in_flight(self) -> frozenset[int]:
        return frozenset(self.flying)

    def unsettled(self) -> int:
        return 0

    def claimed(self) -> frozenset[int]:
        return frozenset(self.in_memory)

    async def withdraw(self, numbers: Collection[int]) -> None:
        given_back = sorted(self.in_memory & set(numbers))
        self.in_memory -= set(given_back)
        await self.spool.settle(
            [
                Settlement(n, 1, NOW, (Settled(0, "", RecipientState.WAITING, 0, due=NOW, charged=False),))
                for n in given_back
            ]
        )

    def pause(self) -> None:
        assert self.pauses == self.resumed, "a change is under way"
        self.pauses += 1

    def resume(self) -> None:
        self.resumed += 1

    def waits_for(self, number: int) -> str | None:
        return "a connection to ses" if number in self.in_memory else None


class BouncingDelivery(FakeDelivery):
    async def bounce(self, numbers: Collection[int]) -> int:
        return await self.spool.remove(sorted(numbers), NOW)


async def accept(
    spool: FakeSpool,
    *to: str,
    sender: str = "a@x.example",
    age: float = 60.0,
    leased: bool = False,
    message_id: str = "<m@x.example>",
    turn: int = ORDINARY,
) -> int:
    number = spool.allocate(NOW - age)
    envelope = Envelope(sender, tuple(Recipient(n, address) for n, address in enumerate(to)))
    message = Message(number, envelope, 100, NOW - age, message_id, "localhost[127.0.0.1]")
    await spool.accept(Arrival(message, b"x", leased=leased, turn=turn))
    return number


async def settle(spool: FakeSpool, number: int, *recipients: Settled) -> None:
    await spool.settle([Settlement(number, len(recipients), NOW - 1, recipients)])


def deferred(n: int = 0, *, upstream: str = "ses", due: float = NOW + 60, address: str = "b@y.example") -> Settled:
    return Settled(n, address, RecipientState.WAITING, 1, due, upstream, "ses[1]:587", "deferred", "4.0.0", "451 later")


def relayed(n: int = 0, *, address: str = "b@y.example") -> Settled:
    return Settled(n, address, RecipientState.RELAYED, 1, None, "ses", "ses[1]:587", "sent", "2.0.0", "250 Ok")


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def delivery(spool: FakeSpool) -> FakeDelivery:
    return FakeDelivery(spool)


@pytest.fixture
def running(spool: FakeSpool, delivery: FakeDelivery) -> Services:
    return Services(spool, StandingClock(), delivery)


@pytest.fixture
def stopped(spool: FakeSpool) -> Services:
    return Services(spool, StandingClock(), upstreams=("ses", "backup"))


async def listed(asked: Services, **arguments: Any) -> list[dict[str, Any]]:
    return [record async for part in asked.listing(arguments) for record in part]


async def changed(asked: Services, verb: str, **arguments: Any) -> int:
    (answer,) = [part async for part in perform(asked, verb, arguments)]
    return int(answer["changed"])


# -- looking --------------------------------------------------------------------------------------------------------


async def test_waiting_mail_counts_where_its_own_route_would_have_it_go(
    spool: FakeSpool, running: Services, delivery: FakeDelivery
) -> None:
    delivery.views["backup"] = UpstreamView("up")
    delivery.in_memory = {await accept(spool, "b@y.example", leased=True) for _ in range(2)}
    for _ in range(3):
        await accept(spool, "b@y.example", turn=ORDINARY | way_digest("bulk") << WAY_SHIFT)
    later = await accept(spool, "b@y.example", leased=True, turn=ORDINARY | way_digest("bulk") << WAY_SHIFT)
    await settle(spool, later, deferred())
    told = await running.status()
    assert {name: each["waiting"] for name, each in told["upstreams"].items()} == {"ses": 2, "backup": 3}
    assert told["queue"]["waiting"] == 5
    await accept(spool, "b@y.example", turn=ORDINARY | way_digest("of an earlier configuration") << WAY_SHIFT)
    told = await running.status()
    assert {name: each["waiting"] for name, each in told["upstreams"].items()} == {"ses": 3, "backup": 3}


async def test_a_spool_that_takes_long_to_read_is_read_a_part_of_the_time(spool: FakeSpool) -> None:
    class Passing(StandingClock):
        at = 0.0

        def monotonic(self) -> float:
            return self.at

    clock, asked = Passing(), 0
    dues = spool.dues

    async def slow(now: float, grain: float) -> list[Dues]:
        nonlocal asked
        asked += 1
        clock.at += 2.0
        return await dues(now, grain)

    spool.dues = slow  # type: ignore[method-assign]
    waiting = WaitingMail(spool, clock, FakeDelivery(spool))
    for n in range(4):
        await accept(spool, "b@y.example", turn=ORDINARY | way_digest("bulk" if n else "") << WAY_SHIFT)
    assert await waiting.by_upstream(4, "ses") == {"ses": 1, "backup": 3}
    assert await waiting.by_upstream(8, "ses") == {"ses": 5, "backup": 3}, "more than was known are the preferred one's"
    assert await waiting.by_upstream(2, "ses") == {"ses": 1, "backup": 1}, "fewer are shared out"
    clock.at += 15.0
    await waiting.by_upstream(4, "ses")
    assert asked == 1
    clock.at += 5.0
    await waiting.by_upstream(4, "ses")
    assert asked == 2


async def test_status_has_the_shape_of_the_contract(
    spool: FakeSpool, running: Services, delivery: FakeDelivery
) -> None:
    delivery.views["ses"] = UpstreamView(
        "backoff",
        2,
        1,
        "451 slow",
        limits=(LimitView("600/hour", 5, 595, NOW + 0.5),),
        learned=LearnedView(13.7654, None, NOW - 60, "454 4.7.0 Throttling failure"),
        rate=2.5,
    )
    sent = await accept(spool, "b@y.example", leased=True)
    await settle(spool, sent, relayed())
    await accept(spool, "b@y.example", age=90.4)
    flying = await accept(spool, "b@y.example", leased=True)
    delivery.flying = {flying}
    delivery.in_memory = {await accept(spool, "b@y.example", leased=True)}
    assert await running.status() == {
        "upstreams": {
            "ses": {
                "state": "backoff",
                "connections": 2,
                "in_flight": 1,
                "waiting": 2,
                "deferred": 0,
                "limits": [{"limit": "600/hour", "used": 5, "left": 595, "resets_at": "2027-01-15T08:00:00.500+00:00"}],
                "sent_total": 1,
                "rate": 2.5,
                "last_error": "451 slow",
                "learned": {
                    "rate": 13.765,
                    "connections": None,
                    "since": "2027-01-15T07:59:00.000+00:00",
                    "reason": "454 4.7.0 Throttling failure",
                },
            }
        },
        "queue": {"waiting": 2, "leased": 1, "deferred": 0, "held": 0},
        "accepted_total": 0,
        "oldest_seconds": 90,
    }


async def test_deferred_mail_counts_for_the_upstream_that_deferred_it(
    spool: FakeSpool, running: Services, delivery: FakeDelivery
) -> None:
    delivery.views = {"ses": UpstreamView("up"), "backup": UpstreamView("up")}
    for upstream in ("backup", "ses", "ses"):
        await settle(spool, await accept(spool, "b@y.example", leased=True), deferred(upstream=upstream))
    told = (await running.status())["upstreams"]
    assert {name: view["deferred"] for name, view in told.items()} == {"ses": 2, "backup": 1}


async def test_status_of_a_stopped_relay_shows_its_upstreams_down(spool: FakeSpool, stopped: Services) -> None:
    await accept(spool, "b@y.example", leased=True)
    told = await stopped.status()
    assert {name: view["state"] for name, view in told["upstreams"].items()} == {"ses": "down", "backup": "down"}
    assert told["upstreams"]["ses"]["last_error"] == "the relay is not running"
    assert told["queue"] == {"waiting": 1, "leased": 0, "deferred": 0, "held": 0}


async def test_status_of_an_empty_spool(running: Services) -> None:
    told = await running.status()
    assert told["oldest_seconds"] == 0
    assert not any(told["queue"].values())


async def test_list_has_the_shape_of_the_contract(spool: FakeSpool, running: Services) -> None:
    number = await accept(spool, "b@y.example", "c@y.example", leased=True)
    await settle(spool, number, relayed(0), deferred(1))
    assert await listed(running) == [
        {
            "id": queue_id(number),
            "arrived": "2027-01-15T07:59:00.000+00:00",
            "size": 100,
            "sender": "a@x.example",
            "state": "deferred",
            "recipients": [
                {
                    "address": "b@y.example",
                    "state": "relayed",
                    "attempts": 1,
                    "next_attempt": None,
                    "upstream": "ses",
                    "last_reply": "250 Ok",
                },
                {
                    "address": "c@y.example",
                    "state": "deferred",
                    "attempts": 1,
                    "next_attempt": "2027-01-15T08:01:00.000+00:00",
                    "upstream": "ses",
                    "last_reply": "451 later",
                },
            ],
        }
    ]


async def test_leased_means_in_a_session(spool: FakeSpool, running: Services, delivery: FakeDelivery) -> None:
    flying = await accept(spool, "b@y.example", leased=True)
    in_memory = await accept(spool, "b@y.example", leased=True)
    waiting = await accept(spool, "b@y.example")
    delivery.flying, delivery.in_memory = {flying}, {in_memory}
    assert [r["id"] for r in await listed(running, state="leased")] == [queue_id(flying)]
    assert [r["id"] for r in await listed(running, state="waiting")] == [queue_id(in_memory), queue_id(waiting)]
    assert [r["id"] for r in await listed(running, state="waiting", limit=1)] == [queue_id(in_memory)]
    assert await running.count({}) == {"waiting": 2, "leased": 1, "deferred": 0, "held": 0}
    assert await running.count({"all": True}) == {"waiting": 2, "leased": 1, "deferred": 0, "held": 0}


async def test_selectors_choose(spool: FakeSpool, running: Services) -> None:
    one = await accept(spool, "b@y.example", age=7200)
    two = await accept(spool, "c@z.example", sender="")
    three = await accept(spool, "b@z.example", leased=True)
    await settle(spool, three, deferred())
    asked: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [one, two, three]),
        ({"all": True}, [one, two, three]),
        ({"ids": [queue_id(two), queue_id(one)]}, [one, two]),
        ({"sender": ""}, [two]),
        ({"recipient": "B@Y.example"}, [one]),
        ({"domain": "z.example"}, [two, three]),
        ({"upstream": "ses"}, [three]),
        ({"state": "deferred"}, [three]),
        ({"older_than": 3600}, [one]),
        ({"domain": "z.example", "state": "waiting"}, [two]),
        ({"limit": 2}, [one, two]),
    ]
    for arguments, numbers in asked:
        assert [r["id"] for r in await listed(running, **arguments)] == [queue_id(n) for n in numbers], arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": "8889D160292"},
        {"ids": ["no-id"]},
        {"ids": [5]},
        {"state": "gone"},
        {"older_than": "5m"},
        {"older_than": float("nan")},
        {"older_than": -1},
        {"older_than": True},
        {"all": 1},
        {"all": True, "sender": "a@x.example"},
        {"limit": 0},
        {"limit": True},
        {"sender": 5},
        {"colour": "red"},
    ],
)
def test_a_wrong_selection_is_refused_as_wrong_usage(arguments: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        selection(arguments, NOW)
    assert refused.value.exit is Exit.USAGE


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["ids", "sender", "state", "older_than", "all", "limit", "x"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=5)),
    )
)
def test_no_selection_does_worse_than_being_refused(arguments: dict[str, Any]) -> None:
    # No text is long enough for a queue id.
    with contextlib.suppress(Refused):
        assert selection(arguments, NOW).selector.numbers == ()


async def test_a_long_list_comes_in_slices(
    spool: FakeSpool, running: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "SLICE", 2)
    for _ in range(5):
        await accept(spool, "b@y.example")
    assert [len(part) async for part in running.listing({})] == [2, 2, 1]
    assert [len(part) async for part in running.listing({"limit": 3})] == [2, 1]


async def test_trace_tells_the_story_by_id_and_by_message_id(spool: FakeSpool, running: Services) -> None:
    number = await accept(spool, "b@y.example", leased=True)
    await settle(spool, number, deferred())
    twin = await accept(spool, "b@y.example")
    (by_id,) = await running.trace(queue_id(number))
    assert by_id["id"] == queue_id(number)
    assert by_id["message_id"] == "<m@x.example>"
    assert by_id["client"] == "localhost[127.0.0.1]"
    assert by_id["attempts"] == [
        {
            "at": "2027-01-15T07:59:59.000+00:00",
            "recipient": "b@y.example",
            "upstream": "ses",
            "relay": "ses[1]:587",
            "status": "deferred",
            "dsn": "4.0.0",
            "detail": "451 later",
            "delays": "",
        }
    ]
    assert by_id["waits_for"] == "its next attempt"
    for text in ("<m@x.example>", "m@x.example"):
        assert [s["id"] for s in await running.trace(text)] == [queue_id(number), queue_id(twin)]
    assert await running.trace("abcdef123") == []


async def test_what_was_left_in_doubt_says_so_while_no_relay_runs(
    spool: FakeSpool, running: Services, stopped: Services
) -> None:
    number = await accept(spool, "b@y.example", leased=True)
    await spool.begin(number, [0], "ses[192.0.2.1]:587")
    (message,) = await listed(stopped)
    assert message["recipients"][0]["last_reply"] == "in doubt, settled at the next start"
    (told,) = await stopped.trace(queue_id(number))
    assert told["waits_for"] == "the relay's start: in doubt, settled at the next start"
    (message,) = await listed(running)
    assert message["recipients"][0]["last_reply"] is None


async def test_trace_says_what_a_message_waits_for(
    spool: FakeSpool, running: Services, stopped: Services, delivery: FakeDelivery
) -> None:
    async def waits_for(asked: Services, number: int) -> Any:
        (told,) = await asked.trace(queue_id(number))
        return told["waits_for"]

    number = await accept(spool, "b@y.example", leased=True)
    delivery.in_memory = {number}
    assert await waits_for(running, number) == "a connection to ses"
    assert await waits_for(stopped, number) == "the relay's start"
    delivery.in_memory, delivery.flying = set(), {number}
    assert await waits_for(running, number) == "the upstream's reply"
    await settle(spool, number, relayed())
    delivery.flying = set()
    assert await waits_for(running, number) is None
    held = await accept(spool, "b@y.example")
    assert await waits_for(running, held) == "its turn"
    await spool.hold([held])
    assert await waits_for(running, held) == "its release: an operator holds it"


# -- changing -------------------------------------------------------------------------------------------------------


async def test_hold_release_retry_remove(spool: FakeSpool, running: Services, delivery: FakeDelivery) -> None:
    number = await accept(spool, "b@y.example", leased=True)
    await settle(spool, number, deferred())
    assert await changed(running, "retry", ids=[queue_id(number)]) == 1
    assert spool.kept[number].rows[0].due == NOW
    assert await changed(running, "retry", ids=[queue_id(number)]) == 0
    assert await changed(running, "hold", sender="a@x.example") == 1
    assert (await listed(running))[0]["state"] == "held"
    assert await changed(running, "release", all=True) == 1
    assert (await listed(running))[0]["state"] == "waiting"
    assert await changed(running, "remove", all=True) == 1
    assert await listed(running) == []
    assert (delivery.pauses, delivery.resumed) == (5, 5)


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "remove"])
async def test_what_is_not_named_is_not_changed(spool: FakeSpool, running: Services, verb: str) -> None:
    await accept(spool, "b@y.example")
    for arguments in ({}, {"limit": 5}):
        with pytest.raises(Refused) as refused:
            await changed(running, verb, **arguments)
        assert refused.value.exit is Exit.USAGE
    assert (await listed(running))[0]["state"] == "waiting"


@pytest.mark.parametrize("verb", ["hold", "remove"])
async def test_leased_mail_is_taken_back_from_delivery_but_not_out_of_a_session(
    spool: FakeSpool, running: Services, delivery: FakeDelivery, verb: str
) -> None:
    flying = await accept(spool, "b@y.example", leased=True)
    delivery.flying = {flying}
    delivery.in_memory = {await accept(spool, "b@y.example", leased=True)}
    (answer,) = [part async for part in perform(running, verb, {"all": True})]
    assert answer == {"changed": 1, "in_flight": 1}
    assert delivery.in_memory == set()
    assert spool.kept[flying].rows[0].state == "leased"


async def test_a_stopped_relays_leases_do_not_keep_mail_from_being_held(spool: FakeSpool, stopped: Services) -> None:
    await accept(spool, "b@y.example", leased=True)
    assert await changed(stopped, "hold", all=True) == 1


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [("hold", "waiting", "held"), ("release", "held", "waiting"), ("remove", "waiting", None)],
)
async def test_a_change_of_more_than_is_read_at_once_reaches_all(
    spool: FakeSpool,
    running: Services,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    before: str,
    after: str | None,
) -> None:
    monkeypatch.setattr(services, "SLICE", 3)
    numbers = [await accept(spool, "b@y.example") for _ in range(10)]
    if before == "held":
        await spool.hold(numbers)
    assert await changed(running, verb, all=True) == 10
    assert {kept.state(NOW) for kept in spool.kept.values()} == {after}


async def test_a_limit_limits_a_change(spool: FakeSpool, running: Services) -> None:
    for _ in range(5):
        await accept(spool, "b@y.example")
    assert await changed(running, "hold", all=True, limit=2) == 2


async def test_bounce_needs_a_delivery_that_bounces(spool: FakeSpool, running: Services, stopped: Services) -> None:
    number = await accept(spool, "b@y.example")
    for asked in (running, stopped):
        with pytest.raises(Refused) as refused:
            await changed(asked, "bounce", ids=[queue_id(number)])
        assert refused.value.exit is Exit.UNAVAILABLE
    bouncing = Services(spool, StandingClock(), BouncingDelivery(spool))
    assert await changed(bouncing, "bounce", ids=[queue_id(number)]) == 1


# -- the socket -----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")


@pytest.fixture
async def served(running: Services, path: str) -> AsyncIterator[ControlServer]:
    listening = ControlServer(running, path, patience=5.0)
    await listening.start()
    yield listening
    await listening.stop()


async def asked(path: str, verb: str, arguments: Mapping[str, Any] | None = None, patience: float = 5) -> list[Any]:
    return await asyncio.to_thread(lambda: list(ask(path, verb, arguments or {}, timeout=patience)))


@contextlib.asynccontextmanager
async def connected(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 5) == b""
    return True


def is_there(path: str) -> bool:
    return os.path.lexists(path)


async def said(path: str, octets: bytes) -> list[Any]:
    """What the server answers to these octets, until it closes or has answered once."""
    async with connected(path) as (reader, writer):
        writer.write(octets)
        answer = await asyncio.wait_for(reader.readline(), 5)
    return [json.loads(answer)]


async def test_a_command_reaches_the_running_relay(spool: FakeSpool, served: ControlServer, path: str) -> None:
    number = await accept(spool, "b@y.example")
    assert await asked(path, "count") == [{"waiting": 1, "leased": 0, "deferred": 0, "held": 0}]
    assert [r["id"] for part in await asked(path, "list") for r in part] == [queue_id(number)]
    assert await asked(path, "hold", {"ids": [queue_id(number)]}) == [{"changed": 1, "in_flight": 0}]


async def test_the_socket_is_its_owners_from_the_first_instant(
    running: Services, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    listen = socket.socket.listen

    def look(self: socket.socket, backlog: int = 16) -> None:
        modes.append(stat.S_IMODE(os.lstat(path).st_mode))
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", look)
    before = os.umask(0)
    try:
        control = ControlServer(running, path)
        await control.start()
        assert os.umask(0) == 0
        await control.stop()
    finally:
        os.umask(before)
    assert modes[0] == 0o600


async def test_stopping_takes_the_socket_away_and_cuts_clients_off(served: ControlServer, path: str) -> None:
    async with connected(path) as (reader, writer):
        writer.write(b'{"verb": "count"}\n')
        assert await asyncio.wait_for(reader.readline(), 5)
        await served.stop()
        assert not is_there(path)
        assert await is_cut_off(reader)
    with pytest.raises(Unreachable):
        await asked(path, "count")


async def test_a_stale_socket_gives_way(running: Services, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    control = ControlServer(running, path)
    await control.start()
    assert await asked(path, "count")
    await control.stop()


async def test_a_live_socket_and_a_file_do_not_give_way(running: Services, served: ControlServer, path: str) -> None:
    with pytest.raises(OSError, match="another relay answers"):
        await ControlServer(running, path).start()
    assert await asked(path, "count")
    other = Path(path).with_name("file")
    other.write_text("precious")
    with pytest.raises(FileExistsError):
        await ControlServer(running, str(other)).start()
    assert other.read_text() == "precious"


async def test_a_path_too_long_for_a_socket_address_works(running: Services, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = str(folder / "control.sock")
    control = ControlServer(running, path)
    await control.start()
    assert await asked(path, "count")
    await control.stop()
    assert not is_there(path)


@pytest.mark.parametrize(
    ("octets", "exit_code"),
    [
        (b"GET / HTTP/1.0\r\n", Exit.USAGE),
        (b"[]\n", Exit.USAGE),
        (b'{"verb": 5}\n', Exit.USAGE),
        (b'{"verb": "count", "arguments": []}\n', Exit.USAGE),
        (b'{"verb": "__init__"}\n', Exit.USAGE),
        (b'{"verb": "trace"}\n', Exit.USAGE),
        (b'{"verb": "list", "arguments": {"state": "gone"}}\n', Exit.USAGE),
        (b"[" * 100_000 + b"\n", Exit.USAGE),
        (b"\xff\xfe\n", Exit.USAGE),
        (b"x" * (server.REQUEST_LIMIT + 2) + b"\n", Exit.USAGE),
    ],
)
async def test_nonsense_is_answered_and_hurts_nobody(
    served: ControlServer, path: str, octets: bytes, exit_code: Exit
) -> None:
    (answer,) = await said(path, octets)
    assert answer["exit"] == exit_code
    assert answer["error"]
    assert await asked(path, "count")


async def test_one_connection_carries_several_requests(served: ControlServer, path: str) -> None:
    async with connected(path) as (reader, writer):
        writer.write(b'{"verb": "nonsense"}\n{"verb": "count"}\n')
        answers = [json.loads(await asyncio.wait_for(reader.readline(), 5)) for _ in range(2)]
    assert "error" in answers[0]
    assert "result" in answers[1]


async def test_a_silent_client_is_let_go(running: Services, path: str) -> None:
    control = ControlServer(running, path, patience=0.05)
    await control.start()
    async with connected(path) as (reader, _):
        assert await is_cut_off(reader)
    await control.stop()


async def test_a_client_that_does_not_read_is_let_go_and_others_are_served(
    spool: FakeSpool, running: Services, path: str
) -> None:
    for _ in range(3000):
        await accept(spool, "b@y.example")
    control = ControlServer(running, path, patience=0.2)
    await control.start()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(path)
        deaf.sendall(b'{"verb": "list"}\n')
        assert await asked(path, "count")
        await asyncio.wait(control._clients, timeout=5)
        assert not control._clients
    await control.stop()


async def test_too_many_clients_are_told(served: ControlServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CLIENTS_LIMIT", 1)
    async with connected(path) as (reader, writer):
        writer.write(b'{"verb": "count"}\n')
        assert await asyncio.wait_for(reader.readline(), 5)
        (answer,) = await said(path, b'{"verb": "count"}\n')
    assert answer["exit"] == Exit.TEMPORARY


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (SpoolFull("no room"), Exit.TEMPORARY),
        (SpoolDamaged("not a database"), Exit.IO_ERROR),
        (ZeroDivisionError("secret detail"), Exit.UNAVAILABLE),
    ],
)
async def test_trouble_of_ours_is_an_answer(
    spool: FakeSpool, served: ControlServer, path: str, error: Exception, exit_code: Exit, caplog: Any
) -> None:
    spool.error = error
    with pytest.raises(Refused) as refused:
        await asked(path, "count")
    assert refused.value.exit is exit_code
    assert "secret detail" not in str(refused.value)
    spool.error = None
    assert await asked(path, "count")


async def test_nobody_there_is_unreachable(path: str) -> None:
    with pytest.raises(Unreachable, match=r"control\.sock: No such file"):
        await asked(path, "count")


@pytest.mark.parametrize("answer", [b"", b"220 hello\r\n", b"[]\n", b'{"error": "x", "exit": 999}\n', b'{"x": 1}\n'])
async def test_what_is_no_relay_is_unreachable(path: str, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    impostor = await asyncio.start_unix_server(serve, path)
    with pytest.raises(Unreachable):
        await asked(path, "count")
    impostor.close()


async def test_a_relay_that_hangs_is_unreachable(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        with pytest.raises(Unreachable, match="timed out"):
            await asked(path, "count", patience=0.05)


def test_the_fakes_are_what_they_stand_for() -> None:
    _: Sequence[Spool] = [FakeSpool()]
