"""A session's I/O over a transport that the test holds: what is written when, how silence and loss end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from relay.mail import Envelope, Message, Recipient
from relay.outcome import Outcome, Scope, Verdict
from relay.smtp.capabilities import Capabilities
from relay.smtp.client import Pipelining
from relay.upstream import ContentWithheld, DeliveryRequest, Finished, Session
from relay.upstream.conversation import SessionLimits, SmtpSession

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
ALL = Capabilities(pipelining=True, size=True)


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.wrote = asyncio.Event()
        self.closed = self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)
        self.wrote.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def taken(self) -> bytes:
        written, self.written = b"".join(self.written), []
        return written


class Observer:
    """Remembers what it is told; ``more`` is begun as soon as something is finished."""

    def __init__(self) -> None:
        self.ends: list[Finished] = []
        self.over: list[Outcome | None] = []
        self.end = asyncio.Event()
        self.more: list[DeliveryRequest] = []
        self.capacities: list[int] = []

    def finished(self, session: Session, finished: Finished) -> None:
        self.ends.append(finished)
        if self.more and session.capacity:
            session.begin(self.more.pop(0))

    def capacity_changed(self, session: Session) -> None:
        self.capacities.append(session.capacity)

    def ended(self, session: Session, why: Outcome | None) -> None:
        self.over.append(why)
        self.end.set()

    def verdicts(self) -> list[list[str]]:
        return [[outcome.verdict.value for outcome in end.outcomes] for end in self.ends]


def request(*addresses: str, content: bytes | None = CONTENT, **more: Any) -> DeliveryRequest:
    recipients = tuple(Recipient(n, address) for n, address in enumerate(addresses or ("b@y.test",)))
    message = Message(1 << 30, Envelope("a@x.test", recipients), len(content or b""), 0.0)
    return DeliveryRequest(message, content, **more)


class Scene:
    def __init__(
        self, pipelining: Pipelining = Pipelining.CHAINED, capabilities: Capabilities = ALL, **limits: float
    ) -> None:
        self.observer = Observer()
        self.transport = FakeTransport()
        self.lost_step: list[bool] = []
        given = {"max_messages": 10_000, "max_age": 300.0, "idle_timeout": 30.0, "reply_timeout": 300.0} | limits
        self.session = SmtpSession(
            self.observer,
            SessionLimits(final_reply_timeout=600.0, **given),  # type: ignore[arg-type]
            capabilities,
            pipelining,
            relay="up[192.0.2.1]:25",
            setup=0.5,
            lost_step=self._stumbled,
        )
        self.session.attach(cast("asyncio.Transport", self.transport))

    def _stumbled(self, refused: bool) -> None:
        self.lost_step.append(refused)

    def says(self, data: bytes) -> None:
        self.session.data_received(data)


@pytest.fixture
async def scene() -> Callable[..., Scene]:
    return Scene


async def test_content_and_the_next_envelope_are_one_write(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.observer.more = [request("d@y.test")]
    here.session.begin(request())
    here.session.begin(request("c@y.test"))
    assert here.transport.taken().count(b"MAIL FROM") == 1
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert len(here.transport.written) == 1
    assert here.transport.taken() == CONTENT + b".\r\nMAIL FROM:<a@x.test> SIZE=21\r\nRCPT TO:<c@y.test>\r\nDATA\r\n"
    here.says(b"250 taken\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert len(here.transport.written) == 1, "one flight: content of the second, envelope of the third"
    assert here.transport.taken().startswith(CONTENT + b".\r\nMAIL FROM")
    assert here.observer.verdicts() == [["relayed"]]
    assert here.observer.ends[0].setup == 0.5


async def test_only_the_first_transaction_pays_for_the_connection(scene: Callable[..., Scene]) -> None:
    here = scene(Pipelining.WITHIN)
    for _ in range(2):
        here.session.begin(request())
        here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
        here.says(b"250 taken\r\n")
    assert [(end.setup, end.conn_use) for end in here.observer.ends] == [(0.5, 1), (0.0, 2)]


async def test_the_cap_of_messages_ends_the_session_politely(scene: Callable[..., Scene]) -> None:
    here = scene(max_messages=1)
    here.session.begin(request())
    assert here.session.capacity == 0
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.says(b"250 taken\r\n")
    assert here.transport.taken().endswith(b"QUIT\r\n")
    here.says(b"221 bye\r\n")
    assert here.observer.over == [None]
    assert here.transport.closed


async def test_retiring_gives_back_what_was_not_begun(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.session.begin(request())
    here.session.begin(request("c@y.test"))
    here.session.retire()
    assert [end.request.message.envelope.recipients[0].address for end in here.observer.ends] == ["c@y.test"]
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.says(b"250 taken\r\n")
    assert here.transport.taken().endswith(b".\r\nQUIT\r\n")


async def test_a_lost_connection_after_the_dot_is_in_doubt(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.session.begin(request())
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.session.connection_lost(None)
    (end,) = here.observer.ends
    assert end.outcomes[0].in_doubt
    assert here.observer.over[0] is not None


async def test_a_421_ends_the_session_and_closes_it(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.session.begin(request())
    here.says(b"421 4.3.2 bye\r\n")
    assert here.observer.verdicts() == [["deferred"]]
    assert here.transport.closed
    assert here.lost_step == []
    assert here.session.capacity == 0


@pytest.mark.parametrize("said", [b"503 5.5.1 what\r\n" * 3, b"nonsense\r\n"])
async def test_a_server_that_loses_step_is_remembered(scene: Callable[..., Scene], said: bytes) -> None:
    here = scene()
    here.session.begin(request())
    here.says(said)
    assert here.lost_step == [True]


async def test_a_connection_lost_before_the_first_answer_is_told_as_such(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.session.begin(request())
    here.session.connection_lost(None)
    assert here.lost_step == [False]


async def test_a_connection_lost_later_is_no_lost_step(scene: Callable[..., Scene]) -> None:
    here = scene(Pipelining.WITHIN)
    here.session.begin(request())
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.says(b"250 taken\r\n")
    here.session.begin(request())
    here.session.connection_lost(None)
    assert here.lost_step == []


async def test_what_an_idle_server_says_ends_the_session(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.says(b"250 hello?\r\n")
    assert len(here.observer.over) == 1
    assert here.transport.closed


async def test_what_the_server_cannot_take_is_told_from_the_loop(scene: Callable[..., Scene]) -> None:
    here = scene(capabilities=Capabilities(size=True, max_size=5))
    here.session.begin(request())
    assert here.observer.ends == [], "never from inside begin"
    await asyncio.sleep(0)
    assert here.observer.ends[0].outcomes[0].dsn == "5.3.4"
    assert here.transport.written == []


async def test_large_content_goes_out_as_the_transport_takes_it(scene: Callable[..., Scene]) -> None:
    here = scene()
    parts = [b"one\r\n", b".two\r\n", b"three\r\n"]

    async def read(n: int) -> bytes:
        return parts[n]

    here.session.begin(request(content=None, parts=3, read_part=read))
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.transport.taken()
    here.session.pause_writing()
    for _ in range(9):
        await asyncio.sleep(0)
    assert here.transport.taken() == b"", "the transport is full"
    here.session.resume_writing()
    for _ in range(9):
        await asyncio.sleep(0)
    assert here.transport.taken() == b"one\r\n..two\r\nthree\r\n.\r\n"
    here.says(b"250 taken\r\n")
    assert here.observer.verdicts() == [["relayed"]]


async def test_content_that_cannot_be_read_breaks_the_transaction_off(scene: Callable[..., Scene]) -> None:
    here = scene()

    async def read(n: int) -> bytes:
        raise OSError(n)

    here.session.begin(request(content=None, read_part=cast("Callable[[int], Awaitable[bytes]]", read)))
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    for _ in range(9):
        await asyncio.sleep(0)
    assert b".\r\n" not in here.transport.taken().removesuffix(b"DATA\r\n"), "no final dot behind half a message"
    (end,) = here.observer.ends
    assert end.outcomes[0].verdict is Verdict.DEFERRED
    assert not end.outcomes[0].in_doubt
    assert here.transport.aborted


async def withhold() -> None:
    raise ContentWithheld("too late")


@pytest.mark.parametrize("mode", list(Pipelining))
async def test_content_that_is_withheld_is_nobodys_trouble(scene: Callable[..., Scene], mode: Pipelining) -> None:
    here = scene(pipelining=mode, capabilities=Capabilities(pipelining=True, size=True, chunking=True))
    void = request("b@y.test", before_content=withhold)
    if mode >= Pipelining.CHAINED:
        # One ahead of it, and under BDAT still unanswered when it is to begin.
        here.session.begin(request("a@y.test"))
    here.session.begin(void)
    while void not in [end.request for end in here.observer.ends]:
        await asyncio.sleep(0)
        for line in here.transport.taken().split(b"\r\n"):
            verb = line[:4].upper()
            if verb == b"BDAT":
                for _ in range(3):
                    await asyncio.sleep(0)
                assert here.transport.closed == bool(here.observer.ends), "what is ahead has its answer first"
            if here.transport.closed:
                break
            if verb in {b"MAIL", b"RCPT", b"BDAT", b"RSET", b"."}:
                here.says(b"250 ok\r\n")
            elif verb == b"DATA":
                here.says(b"354 go\r\n")
    *ahead, end = here.observer.ends
    assert [each.outcomes[0].verdict for each in ahead] == [Verdict.RELAYED] * len(ahead)
    assert len(ahead) == (mode >= Pipelining.CHAINED)
    assert (end.outcomes[0].scope, end.outcomes[0].in_doubt, end.content_sent) == (Scope.SESSION, False, False)
    assert "too late" in end.outcomes[0].detail
    assert (here.observer.over, here.transport.closed) == ([None], True)


async def test_silence_ends_the_session(scene: Callable[..., Scene]) -> None:
    here = scene(reply_timeout=0.01)
    here.session.begin(request())
    async with asyncio.timeout(5):
        await here.observer.end.wait()
    assert here.observer.verdicts() == [["deferred"]]
    assert "timed out" in here.observer.ends[0].outcomes[0].detail


async def test_an_idle_session_quits(scene: Callable[..., Scene]) -> None:
    here = scene(idle_timeout=0.01)
    async with asyncio.timeout(5):
        await here.transport.wrote.wait()
    assert here.transport.taken() == b"QUIT\r\n"


async def test_an_old_session_quits_when_idle(scene: Callable[..., Scene]) -> None:
    here = scene(max_age=0.01)
    async with asyncio.timeout(5):
        await here.transport.wrote.wait()
    assert here.transport.taken() == b"QUIT\r\n"


async def test_an_old_session_ends_also_where_there_is_always_more_to_do(scene: Callable[..., Scene]) -> None:
    here = scene(max_age=0.05)
    here.observer.more = [request() for _ in range(100)]
    here.session.begin(request())
    here.session.begin(request())
    assert here.session.capacity == 0, "two at a time"
    await asyncio.sleep(0.06)
    here.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    here.says(b"250 taken\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert len(here.observer.more) == 100, "no more is begun"
    assert here.session.capacity == 0
    here.says(b"250 taken\r\n")
    assert here.transport.taken().endswith(b".\r\nQUIT\r\n")
    assert here.observer.verdicts() == [["relayed"], ["relayed"]]


async def test_a_session_that_leaves_by_itself_says_that_it_takes_nothing_more(scene: Callable[..., Scene]) -> None:
    here = scene(idle_timeout=0.01)
    async with asyncio.timeout(5):
        await here.transport.wrote.wait()
    assert here.transport.taken() == b"QUIT\r\n"
    assert here.observer.capacities == [0]


async def test_a_request_behind_quit_has_its_outcome(scene: Callable[..., Scene]) -> None:
    here = scene()
    here.session.retire()
    here.session.begin(request("b@y.test", "c@y.test"))
    assert here.session.in_flight == 1
    here.says(b"221 bye\r\n")
    await asyncio.sleep(0)
    assert here.transport.taken() == b"QUIT\r\n"
    assert here.observer.verdicts() == [["deferred", "deferred"]]
    assert [outcome.scope for outcome in here.observer.ends[0].outcomes] == [Scope.SESSION] * 2, "at no cost"
    assert not here.observer.ends[0].content_sent


@pytest.mark.parametrize(("capabilities", "learned"), [(ALL, [False]), (Capabilities(), [False])])
async def test_silence_instead_of_a_first_answer_may_mean_that_commands_were_thrown_away(
    scene: Callable[..., Scene], capabilities: Capabilities, learned: list[bool]
) -> None:
    here = scene(capabilities=capabilities, reply_timeout=0.01)
    here.session.begin(request())
    async with asyncio.timeout(5):
        await here.observer.end.wait()
    assert here.lost_step == learned
