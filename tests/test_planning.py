"""``relay plan`` and ``relay top``: the service over a spool, and what people see."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from relay.cli import main, planning
from relay.cli.top import frame
from relay.control.errors import Exit, Refused
from relay.control.planning import Planning
from relay.control.server import ControlServer
from relay.control.services import Services
from relay.control.verbs import perform
from relay.control.views import LimitView, UpstreamView
from relay.delivery.estimate import Outlook, Way
from relay.delivery.quota.ledger import Ledger
from relay.delivery.rehearsal import Standing
from relay.mail import Envelope, Message, Recipient, RecipientState
from relay.settings import Limit, Warmup
from relay.spool import Arrival, Settled, Settlement
from tests.fake_spool import FakeSpool

NOW = 1_800_000_000.0
STATUS: dict[str, Any] = {
    "upstreams": {
        "ses": {
            "state": "up",
            "connections": 3,
            "in_flight": 2,
            "waiting": 1200,
            "deferred": 1,
            "limits": [{"limit": "600/hour", "used": 590, "left": 10, "resets_at": "2027-01-15T08:00:00+00:00"}],
            "sent_total": 5000,
            "rate": 12.5,
            "last_error": "454 Throttling\x1b[31m failure",
        }
    },
    "queue": {"waiting": 1200, "leased": 2, "deferred": 1, "held": 0},
    "accepted_total": 10,
    "oldest_seconds": 90,
}


class StandingClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class FakeForecaster:
    def __init__(self, *standings: Standing, ways: tuple[Way, ...] | None = None) -> None:
        self.standings = standings
        self.ways = ways or (Way("default", tuple(each.name for each in standings)),)

    async def outlook(self) -> Outlook:
        return Outlook(self.standings, self.ways, 1000.0, NOW, lifetime=5 * 86400.0)

    def way(self, message: Message) -> str:
        return f"={message.upstream}" if message.upstream else message.tag or "default"


def upstream(name: str, count: int, **more: Any) -> Standing:
    return Standing(name, 10, 0.05, 0.05, measured=True, ledger=Ledger((Limit(count, 1.0, f"{count}/second"),)), **more)


async def put(spool: FakeSpool, count: int, *, leased: bool = False, **more: Any) -> list[int]:
    numbers = []
    for _ in range(count):
        number = spool.allocate(NOW - 60)
        envelope = Envelope("a@x.example", (Recipient(0, "b@y.example"),))
        await spool.accept(Arrival(Message(number, envelope, 100, NOW - 60, "<m@x>", **more), b"x", leased=leased))
        numbers.append(number)
    return numbers


async def planned(services: Services, **arguments: Any) -> dict[str, Any]:
    (answer,) = [part async for part in perform(services, "plan", arguments)]
    assert isinstance(answer, dict)
    return answer


async def test_the_plan_has_these_keys() -> None:
    spool = FakeSpool()
    await put(spool, 100)
    services = Services(spool, StandingClock(), forecaster=FakeForecaster(upstream("ses", 10)))
    answer = json.loads(json.dumps(await planned(services)))
    assert answer["clears_in_seconds"] == pytest.approx(9.6, rel=0.02)
    assert datetime.fromisoformat(answer["clears_at"]).timestamp() == pytest.approx(NOW + answer["clears_in_seconds"])
    assert (answer["messages"], answer["deferred"], answer["ahead"]) == (100, 0, 0)
    assert answer["bound_by"] == {"upstream": "ses", "kind": "limit", "what": "10/second"}
    assert answer["together"].keys() == {"second", "minute", "hour", "day"}
    assert answer["lifetime_seconds"] == 432_000
    assert answer["upstreams"]["ses"] | {"speed": None} == {
        "state": "up",
        "speed": None,
        "messages": 100,
        "bound_by": {"kind": "limit", "what": "10/second"},
        "connections": 10,
        "seconds_per_message": 0.05,
        "latency_seconds": 0.05,
        "measured": True,
        "warmup": None,
    }


async def test_messages_asks_ahead() -> None:
    services = Services(FakeSpool(), StandingClock(), forecaster=FakeForecaster(upstream("ses", 10)))
    assert (await planned(services))["clears_in_seconds"] == 0
    answer = await planned(services, messages=1000)
    assert answer["clears_in_seconds"] == pytest.approx(104, rel=0.03)
    assert answer["ahead"] == 1000


@pytest.mark.parametrize("arguments", [{"messages": -1}, {"messages": "5"}, {"messages": True}, {"mesages": 5}])
async def test_what_it_can_not_reckon_with_is_refused(arguments: Mapping[str, Any]) -> None:
    services = Services(FakeSpool(), StandingClock(), forecaster=FakeForecaster(upstream("ses", 10)))
    with pytest.raises(Refused):
        await planned(services, **arguments)
    with pytest.raises(Refused) as refused:
        await planned(Services(FakeSpool(), StandingClock()))
    assert refused.value.exit == Exit.UNAVAILABLE


async def test_deferred_mail_is_reckoned_with_when_it_falls_due() -> None:
    spool = FakeSpool()
    (number,) = await put(spool, 1, leased=True)
    later = Settled(
        0, "b@y.example", RecipientState.WAITING, 1, NOW + 600, "ses", "ses[1]:587", "deferred", "4.0.0", "x"
    )
    await spool.settle([Settlement(number, 1, NOW, (later,))])
    services = Services(spool, StandingClock(), forecaster=FakeForecaster(upstream("ses", 10)))
    answer = await planned(services)
    assert answer["deferred"] == 1
    assert answer["clears_in_seconds"] == pytest.approx(600, abs=10)


async def test_what_is_sent_and_not_recorded_yet_is_not_sent_again() -> None:
    spool = FakeSpool()
    await put(spool, 100, leased=True)
    planning = Planning(spool, StandingClock(), FakeForecaster(upstream("ses", 10)))
    waits = (await planning.plan({}, 1, 98))["upstreams"]["ses"]["messages"]
    assert waits == 1
    assert (await planning.plan({}, 0))["upstreams"]["ses"]["messages"] == 100


async def test_mail_goes_its_own_way() -> None:
    spool = FakeSpool()
    await put(spool, 20, upstream="slow")
    standings = upstream("fast", 100), upstream("slow", 1)
    services = Services(spool, StandingClock(), forecaster=FakeForecaster(*standings))
    answer = await planned(services)
    assert [answer["upstreams"][name]["messages"] for name in ("fast", "slow")] == [0, 20]
    assert answer["upstreams"]["fast"]["bound_by"] is None
    assert answer["bound_by"]["upstream"] == "slow"


async def test_the_calendar_of_a_warm_up_is_shown() -> None:
    today = datetime.fromtimestamp(NOW).astimezone().date()
    standing = upstream("ses", 10, warmup=Warmup(today - timedelta(days=1), 200, 1.5))
    services = Services(FakeSpool(), StandingClock(), forecaster=FakeForecaster(standing))
    calendar = (await planned(services))["upstreams"]["ses"]["warmup"]
    assert [day["messages"] for day in calendar] == [300, 450, 675, 1012, 1518, 2278, 3417]
    assert date.fromisoformat(calendar[0]["day"]) == today


# -- for people -----------------------------------------------------------------------------------------------------
async def test_people_read_when_it_clears_and_what_is_in_the_way() -> None:
    spool = FakeSpool()
    await put(spool, 50)
    standings = upstream("ses", 10), Standing("backup", 2, 0.1, 0.1, measured=False)
    services = Services(spool, StandingClock(), forecaster=FakeForecaster(*standings))
    text = planning.shown(await planned(services, messages=100_000))
    local = datetime.fromtimestamp(NOW).astimezone().strftime("%Y-%m-%d")
    assert "50 messages wait; asked ahead for 100,000 more" in text
    assert f"clears at {local}" in text
    assert "held up by 10/second of ses" in text
    assert "2 connections at 100 ms a message, assumed" in text
    assert " ".join(text.split()).startswith("UPSTREAM STATE SECOND MINUTE HOUR DAY TAKES HELD UP BY ses up 10 ")
    assert "together" in text
    assert "expires" not in text


async def test_people_are_told_of_what_does_not_clear_in_time() -> None:
    slow = Standing("ses", 1, 0.1, 0.1, measured=True, ledger=Ledger((Limit(10, 86400.0, "10/day"),)))
    services = Services(FakeSpool(), StandingClock(), forecaster=FakeForecaster(slow))
    text = planning.shown(await planned(services, messages=100))
    assert "in 9 d" in text
    assert "[queue] lifetime, 5 d, expires before" in text
    assert "clears not within a year" in planning.shown(await planned(services, messages=10_000))
    assert planning.shown(await planned(services)).endswith("nothing to clear")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.05, "0.1 s"), (42, "42 s"), (600, "10 min"), (7980, "2 h 13 min"), (86_400, "1 d"), (200_000, "2 d 7 h")],
)
def test_spans(seconds: float, text: str) -> None:
    assert planning.span(seconds) == text


def test_a_frame_shows_all_that_there_is_and_no_control_character() -> None:
    console = Console(file=StringIO(), width=160, highlight=False)
    console.print(frame(STATUS, 3.25, None))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "\x1b" not in text
    for part in ("in 3.2/s", "out 12.5/s", "1,200 waiting", "1m 30s", "600/hour: 590/10", "454 Throttling", "5,000"):
        assert part in text
    console.print(frame(STATUS, None, "no relay answers: gone"))
    assert "no relay answers: gone" in console.file.getvalue()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The configuration of a relay whose control socket is served in a thread."""
    config = tmp_path / "relay.toml"
    config.write_text(
        f'hostname = "relay.test"\n[spool]\nurl = "sqlite:///{tmp_path}/spool.db"\n[upstream.ses]\nkind = "simulator"\n'
    )
    spool = FakeSpool()

    class Delivery:
        def upstreams(self) -> Mapping[str, UpstreamView]:
            return {"ses": UpstreamView("up", 2, 1, limits=(LimitView("5/second", 1, 4, NOW),), rate=4.0)}

        def preferred(self) -> str | None:
            return "ses"

        def takers(self) -> Mapping[int, str]:
            return {}

        def waiting_for(self) -> Mapping[str, int]:
            return {}

        def in_flight(self) -> frozenset[int]:
            return frozenset()

        def unsettled(self) -> int:
            return 2

    services = Services(
        spool,
        StandingClock(),
        Delivery(),  # type: ignore[arg-type]
        forecaster=FakeForecaster(upstream("ses", 5)),
    )
    loop = asyncio.new_event_loop()
    server = ControlServer(services, str(tmp_path / "control.sock"))
    loop.run_until_complete(put(spool, 7))
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield config
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_commands_ask_the_relay(running: Path) -> None:
    invoked = CliRunner().invoke(main, ["plan", "--messages", "20", "--json", "-c", str(running)])
    assert invoked.exit_code == 0, invoked.output
    assert json.loads(invoked.stdout)["ahead"] == 20
    assert "clears at" in CliRunner().invoke(main, ["plan", "-c", str(running)]).stdout
    assert "4.0/s" in CliRunner().invoke(main, ["status", "-c", str(running)]).stdout


def test_top_is_one_frame_where_nobody_looks(running: Path) -> None:
    invoked = CliRunner().invoke(main, ["top", "-c", str(running)])
    assert invoked.exit_code == 0, invoked.output
    assert invoked.stdout.count("UPSTREAM") == 1
    assert "5/second: 1/4" in invoked.stdout
    assert "\x1b" not in invoked.stdout


def test_top_at_a_terminal_goes_on_until_q(running: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:  # in the child: the command itself, at a terminal
        os.environ.update(TERM="xterm", COLUMNS="150", LINES="40")
        os.execv(sys.executable, [sys.executable, "-m", "relay", "top", "-c", str(running)])
    seen = b""
    deadline = time.monotonic() + 30
    pressed = False
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            octets = os.read(terminal, 65536)
        except OSError:  # the child has closed the terminal
            break
        seen += octets
        if seen.count(b"5/second: 1/4") >= 2 and not pressed:
            os.write(terminal, b"q")
            pressed = True
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert pressed, seen[-2000:]
    assert os.waitstatus_to_exitcode(status) == 0
