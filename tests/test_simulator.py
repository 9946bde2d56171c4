"""The simulator as upstream: a provider's outcomes without a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from relay.mail import Envelope, Message, Recipient
from relay.outcome import Outcome, Scope, Verdict
from relay.settings import UpstreamSettings
from relay.smtp.mailbox import MAILBOXES, SLOW_SECONDS, end_of_content, mailbox
from relay.upstream import DeliveryRequest, Finished, Session, Upstream
from relay.upstream.simulator import SimulatorUpstream


@dataclass
class Clock:
    """Time that stands still unless told to move."""

    at: float = 1000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@dataclass
class Observer:
    """Remembers what a session tells; ``changed`` wakes whoever waits."""

    results: list[Finished] = field(default_factory=list)
    ends: list[Outcome | None] = field(default_factory=list)
    capacity: list[int] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def finished(self, session: Session, finished: Finished) -> None:
        assert not self.ends, "finished after ended"
        self.results.append(finished)
        self.changed.set()

    def capacity_changed(self, session: Session) -> None:
        self.capacity.append(session.capacity)

    def ended(self, session: Session, why: Outcome | None) -> None:
        assert session.in_flight == 0
        self.ends.append(why)
        self.changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 5)


def request(number: int, *addresses: str) -> DeliveryRequest:
    recipients = tuple(Recipient(n, address) for n, address in enumerate(addresses))
    return DeliveryRequest(Message(number, Envelope("a@x.test", recipients), 4, 0.0), b"x\r\n")


def upstream(max_messages: int = 100) -> SimulatorUpstream:
    return SimulatorUpstream(
        UpstreamSettings("sim", kind="simulator", max_messages_per_connection=max_messages), Clock()
    )


def test_it_is_an_upstream() -> None:
    port: Upstream = upstream()
    assert port.name == "sim"


@pytest.mark.parametrize(
    ("address", "code", "enhanced"),
    [
        ("success@x.test", 250, "2.1.5"),
        ("bounce@x.test", 550, "5.1.1"),
        ("ooto@x.test", 250, "2.1.5"),
        ("complaint@x.test", 250, "2.1.5"),
        ("suppressionlist@x.test", 550, "5.1.1"),
        ("throttle@x.test", 454, "4.7.0"),
        ("defer@x.test", 451, "4.4.1"),
        ("slow@x.test", 250, "2.1.5"),
        ("drop@x.test", 250, "2.1.5"),
        ("bounce+label@x.test", 550, "5.1.1"),
        ("BOUNCE+a+b@x.test", 550, "5.1.1"),
        ('"bounce"@x.test', 550, "5.1.1"),
        ("bounces@x.test", 250, "2.1.5"),
        ("bounce", 550, "5.1.1"),
        ("anybody@bounce", 250, "2.1.5"),
        ("", 250, "2.1.5"),
    ],
)
def test_the_local_part_decides(address: str, code: int, enhanced: str) -> None:
    reply = mailbox(address).reply
    assert (reply.code, reply.enhanced) == (code, enhanced)


def test_throttling_reads_as_the_provider_says_it() -> None:
    assert "Throttling failure" in mailbox("throttle@x.test").reply.text


def test_one_slow_or_dropping_recipient_is_enough() -> None:
    success, slow, drop = MAILBOXES["success"], MAILBOXES["slow"], MAILBOXES["drop"]
    assert end_of_content([success]) == (0.0, False)
    assert end_of_content([success, slow]) == (SLOW_SECONDS, False)
    assert end_of_content([drop, success]) == (0.0, True)
    assert end_of_content([]) == (0.0, False)


async def test_each_recipient_has_its_own_outcome() -> None:
    observer = Observer()
    sim = upstream()
    session = await sim.connect(observer)
    asked = request(1 << 24, "success@y.test", "bounce@y.test", "throttle@y.test", "defer@y.test")
    session.begin(asked)
    assert not observer.results, "an observer is never called from inside begin"
    await observer.until(lambda: bool(observer.results))
    (finished,) = observer.results
    assert finished.request is asked
    assert [(o.verdict, o.dsn) for o in finished.outcomes] == [
        (Verdict.RELAYED, "2.0.0"),
        (Verdict.FAILED, "5.1.1"),
        (Verdict.DEFERRED, "4.7.0"),
        (Verdict.DEFERRED, "4.4.1"),
    ]
    assert finished.outcomes[1].detail.startswith("host sim[simulator]:25 said: 550 5.1.1 ")
    assert finished.outcomes[0].detail == f"250 2.0.0 Ok: simulated as {asked.message.queue_id}"
    assert sim.counts == {"success": 1, "bounce": 1, "throttle": 1, "defer": 1}


async def test_a_session_counts_its_transactions_and_ends_at_its_cap() -> None:
    observer = Observer()
    session = await upstream(max_messages=3).connect(observer)
    session.begin(request(1, "a@y.test"))
    session.begin(request(2, "b@y.test"))
    assert (session.capacity, session.in_flight, session.transactions) == (0, 2, 2)
    await observer.until(lambda: len(observer.results) == 2)
    assert session.capacity == 1
    session.begin(request(3, "c@y.test"))
    await observer.until(lambda: bool(observer.ends))
    assert [f.conn_use for f in observer.results] == [1, 2, 3]
    assert [f.request.message.number for f in observer.results] == [1, 2, 3]
    assert observer.ends == [None]
    assert session.capacity == 0
    assert observer.capacity[:1] == [1]


async def test_a_retiring_session_ends_after_what_it_began() -> None:
    observer = Observer()
    session = await upstream().connect(observer)
    session.begin(request(1, "a@y.test"))
    session.retire()
    assert session.capacity == 0
    await observer.until(lambda: bool(observer.ends))
    assert [f.outcomes[0].verdict for f in observer.results] == [Verdict.RELAYED]
    assert observer.ends == [None]


async def test_an_idle_session_retires_at_once_and_once() -> None:
    observer = Observer()
    session = await upstream().connect(observer)
    session.retire()
    session.retire()
    session.abort("too late")
    await observer.until(lambda: bool(observer.ends))
    await asyncio.sleep(0)
    assert observer.ends == [None]


async def test_drop_leaves_its_own_message_in_doubt_and_the_next_one_untouched() -> None:
    observer = Observer()
    session = await upstream().connect(observer)
    session.begin(request(1, "drop@y.test", "bounce@y.test"))
    session.begin(request(2, "b@y.test"))
    await observer.until(lambda: bool(observer.ends))
    first, second = observer.results
    assert first.outcomes[0].in_doubt
    assert first.outcomes[0].detail == "in doubt: lost connection after end of DATA with sim[simulator]:25"
    assert first.outcomes[1].verdict is Verdict.FAILED, "a refusal that was answered stands"
    assert not second.outcomes[0].in_doubt
    assert second.outcomes[0].scope is Scope.SESSION
    (end,) = observer.ends
    assert end is not None
    assert session.capacity == 0


async def test_what_begins_before_the_observer_knows_of_the_end_was_not_sent() -> None:
    observer = Observer()
    session = await upstream().connect(observer)
    session.begin(request(1, "drop@y.test"))
    session.abort("timed out")
    session.begin(request(2, "b@y.test", "c@y.test"))
    await observer.until(lambda: len(observer.results) == 2)
    second = observer.results[1]
    assert [(o.scope, o.in_doubt) for o in second.outcomes] == [(Scope.SESSION, False)] * 2
    assert not second.content_sent
    assert len(observer.ends) == 1


async def test_slow_keeps_those_behind_it_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Observer()
    loop = asyncio.get_running_loop()
    delays: list[float] = []

    def at_once(delay: float, callback: Callable[[], None]) -> asyncio.Handle:
        delays.append(delay)
        return loop.call_soon(callback)

    session = await upstream().connect(observer)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_later", at_once)
        session.begin(request(1, "slow@y.test"))
        session.begin(request(2, "b@y.test"))
    await observer.until(lambda: len(observer.results) == 2)
    assert delays == [SLOW_SECONDS]
    assert [f.request.message.number for f in observer.results] == [1, 2]


async def test_abort_gives_every_request_an_outcome() -> None:
    observer = Observer()
    session = await upstream().connect(observer)
    session.begin(request(1, "slow@y.test"))
    session.begin(request(2, "b@y.test"))
    session.abort("timed out while sending end of data")
    session.abort("again")
    await observer.until(lambda: bool(observer.ends))
    assert [f.outcomes[0].in_doubt for f in observer.results] == [True, False]
    assert all(f.outcomes[0].verdict is Verdict.DEFERRED for f in observer.results)
    assert len(observer.ends) == 1
