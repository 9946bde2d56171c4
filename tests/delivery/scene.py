"""An engine among fakes: a spool in memory, upstreams whose sessions do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from relay.delivery.engine import Engine
from relay.delivery.lane import Lane, LaneLimits
from relay.events import Event
from relay.mail import Envelope, Message, Recipient
from relay.outcome import Command, Outcome, Reply, Scope, Verdict, classify, lost, unavailable
from relay.settings import QueueSettings
from relay.spool import Arrival
from relay.upstream import DeliveryRequest, Finished, SessionObserver, UpstreamUnavailable
from tests.fake_spool import FakeSpool

UNFIT = Outcome(Verdict.FAILED, Scope.MESSAGE, "5.3.4", "too large for up", unfit=True)
START = 1_800_000_000.0
RELAYED = classify(Reply(250, "Ok", "2.0.0"), Command.CONTENT, host="up")
REFUSED = classify(Reply(550, "unknown", "5.1.1"), Command.RCPT, host="up")
LATER = classify(Reply(451, "later", "4.3.0"), Command.CONTENT, host="up")
CLOSING = classify(Reply(421, "closing", "4.3.2"), Command.MAIL, host="up")
BROKEN = lost("lost connection", host="up")
IN_DOUBT = lost("lost connection", host="up", in_doubt=True)


class StandingClock:
    """Time that stands until it is moved; ``set_by`` is how far somebody set the wall clock, the monotonic one not."""

    def __init__(self) -> None:
        self.wall = START
        self.set_by = 0.0

    def now(self) -> float:
        return self.wall + self.set_by

    def monotonic(self) -> float:
        return self.wall


class FakeSession:
    """Holds what was begun until the test finishes it; ``depth`` requests at a time."""

    def __init__(self, observer: SessionObserver, depth: int) -> None:
        self.observer = observer
        self.depth = depth
        self.begun: list[DeliveryRequest] = []
        self.transactions = 0
        self.max_recipients = 0
        self.retired = self.aborted = False
        self.content_sent = True

    @property
    def capacity(self) -> int:
        return 0 if self.retired else self.depth - len(self.begun)

    @property
    def in_flight(self) -> int:
        return len(self.begun)

    def begin(self, request: DeliveryRequest) -> None:
        assert self.capacity > 0
        self.begun.append(request)
        self.transactions += 1

    def retire(self) -> None:
        if not self.retired:
            self.retired = True
            if not self.begun:
                self.observer.ended(self, None)

    def abort(self, why: str) -> None:
        self.aborted = True
        self.broken(lost(why, host="up"))

    def answer(self, *outcomes: Outcome) -> None:
        """Finish the oldest request: one outcome for all its recipients, or one each."""
        request = self.begun.pop(0)
        count = len(request.message.envelope.recipients)
        each = outcomes * count if len(outcomes) == 1 else outcomes
        assert len(each) == count
        self._finished(Finished(request, each, "up[192.0.2.1]:25", self.transactions))
        if self.retired and not self.begun:
            self.observer.ended(self, None)

    def broken(self, why: Outcome) -> None:
        self.retired = True
        while self.begun:
            self.answer_quietly(why)
        self.observer.ended(self, why)

    def answer_quietly(self, outcome: Outcome) -> None:
        request = self.begun.pop(0)
        count = len(request.message.envelope.recipients)
        self._finished(Finished(request, (outcome,) * count, "up[192.0.2.1]:25"))

    def _finished(self, finished: Finished) -> None:
        self.observer.finished(self, replace(finished, content_sent=self.content_sent))


class FakeUpstream:
    """Opens sessions, or refuses while ``refuses`` is set."""

    def __init__(self, name: str, depth: int = 1) -> None:
        self.name = name
        self.destination = f"{name}[192.0.2.1]:25"
        self.depth = depth
        self.max_recipients = 0
        self.refuses: Outcome | None = None
        self.sessions: list[FakeSession] = []
        self.connects = 0

    async def connect(self, observer: SessionObserver) -> FakeSession:
        self.connects += 1
        await asyncio.sleep(0)
        if self.refuses is not None:
            raise UpstreamUnavailable(self.refuses)
        session = FakeSession(observer, self.depth)
        session.max_recipients = self.max_recipients
        self.sessions.append(session)
        return session

    @property
    def working(self) -> list[FakeSession]:
        return [session for session in self.sessions if session.begun]


class Scene:
    """The engine with its surroundings."""

    def __init__(self, *upstreams: FakeUpstream, settings: QueueSettings | None = None, connections: int = 2) -> None:
        self.upstreams = upstreams
        self.spool = FakeSpool()
        self.clock = StandingClock()
        self.events: list[Event] = []
        self.engine = Engine(
            self.spool,
            settings or QueueSettings(),
            self.clock,
            self.events.append,
            reporter="relay.test",
            chance=lambda: 0.5,
        )
        limits = LaneLimits(connections, 100)
        self.engine.route([Lane(upstream, limits, self.engine, lambda: 0.5) for upstream in upstreams])

    async def arrives(
        self, *recipients: str, sender: str = "a@x.test", content: bytes = b"Subject: x\r\n\r\n", **asked: Any
    ) -> int:
        """Accept and hand over one message, as the door does."""
        number = self.spool.allocate(self.clock.wall)
        envelope = Envelope(sender, tuple(Recipient(n, address) for n, address in enumerate(recipients)))
        message = Message(number, envelope, len(content), self.clock.wall, "<id@x.test>", **asked)
        arrival = Arrival(message, content, leased=self.engine.reserve(len(content)))
        await self.spool.accept(arrival)
        if arrival.leased:
            self.engine.handed_over(arrival)
        else:
            self.engine.waiting()
        await settle_down()
        return number

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def states(self, number: int) -> list[tuple[str, int]]:
        story = await self.spool.story(number)
        assert story is not None
        return [(recipient.state, recipient.attempts) for recipient in story.queued.recipients]


async def settle_down(turns: int = 30) -> None:
    """Let everything that can go on go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


def refusing(name: str) -> FakeUpstream:
    upstream = FakeUpstream(name)
    upstream.refuses = unavailable(f"connect to {name}[192.0.2.1]:25: Connection refused")
    return upstream


def with_lifetime(seconds: float, backoff: Sequence[float] = (60.0,)) -> QueueSettings:
    return replace(QueueSettings(), lifetime=seconds, backoff=tuple(backoff))
