"""What goes before the content on the wire, and what is signed for it at the attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from relay.delivery.permits import Quotas
from relay.events import Attempted
from relay.mail import NO_SIGNATURE, UNSIGNED, Signatures
from relay.outcome import Reply
from relay.settings import Limit, UpstreamDkimSettings, UpstreamSettings
from relay.spool import PART_SIZE, SpoolError
from tests.delivery.scene import RELAYED, FakeUpstream, Scene, settle_down, with_lifetime
from tests.delivery.test_limits import MovedBootClock

MAIN = UpstreamSettings("main")
SES = UpstreamSettings("ses", dkim=UpstreamDkimSettings(1, ("date",)))
KEPT = Signatures(b"DKIM-Signature: kept\r\n", "", "simple:hash")


@dataclass
class StandInSigner:
    """Signs by naming the upstream; ``answer`` instead, where it is set."""

    answer: Reply | Signatures | None = None
    ours: bool = True
    fed: list[bytes] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)

    def open(self, octets: bytes, sender: str) -> StandInSigner | None:
        self.fed.append(octets)
        return self if self.ours else None

    def feed(self, octets: bytes) -> None:
        self.fed.append(octets)

    def recall(self, body_hash: str) -> bool:
        self.recalled.append(body_hash)
        return bool(body_hash)

    async def sign(self, draft: object, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
        assert draft is self
        profile = "date" if upstream == "ses" else ""
        return self.answer or Signatures(f"DKIM-Signature: for {upstream}\r\n".encode(), profile, "simple:hash")


def scene(name: str = "main", signer: StandInSigner | None = None) -> tuple[Scene, FakeUpstream]:
    upstream = FakeUpstream(name)
    made = Scene(upstream)
    made.engine.signing.configure(signer, [MAIN, SES])
    return made, upstream


def prefixes(upstream: FakeUpstream) -> list[bytes]:
    return [request.prefix for session in upstream.sessions for request in session.begun]


async def test_what_was_signed_at_the_door_goes_out_as_it_is() -> None:
    signer = StandInSigner()
    s, upstream = scene("main", signer)
    await s.arrives("b@y.test", signatures=KEPT)
    assert prefixes(upstream) == [KEPT.fields]
    assert not signer.fed


async def test_without_keys_the_signatures_that_were_kept_still_go_out() -> None:
    s, upstream = scene()
    await s.arrives("b@y.test", signatures=KEPT)
    await s.arrives("b@y.test")
    assert prefixes(upstream) == [KEPT.fields, b""]


async def test_what_nobody_looked_at_is_signed_at_the_attempt() -> None:
    signer = StandInSigner()
    s, upstream = scene("main", signer)
    await s.engine.start()
    number = await s.arrives("b@y.test")
    await settle_down()
    assert prefixes(upstream) == [b"DKIM-Signature: for main\r\n"]
    assert signer.fed == [b"Subject: x\r\n\r\n"]
    upstream.working[0].answer(RELAYED)
    await settle_down()
    assert await s.states(number) == [("relayed", 1)]
    await s.engine.stop(1)


async def test_an_upstream_that_wants_it_otherwise_is_signed_for_by_the_kept_hash() -> None:
    signer = StandInSigner()
    s, upstream = scene("ses", signer)
    await s.arrives("b@y.test", signatures=KEPT)
    await settle_down()
    assert prefixes(upstream) == [b"DKIM-Signature: for ses\r\n"]
    assert signer.recalled == ["simple:hash"]


@pytest.mark.parametrize("ours", [True, False])
async def test_what_is_not_ours_is_looked_at_once(ours: bool) -> None:
    signer = StandInSigner(UNSIGNED, ours)
    s, upstream = scene("main", signer)
    await s.arrives("b@y.test")
    await s.arrives("c@y.test", signatures=Signatures(b"", NO_SIGNATURE))
    await settle_down()
    assert prefixes(upstream) == [b"", b""]
    assert len(signer.fed) == 1


async def test_a_large_message_is_read_part_by_part() -> None:
    signer = StandInSigner()
    s, upstream = scene("main", signer)
    content = b"From: a@x.test\r\n\r\n" + b"z" * 2 * PART_SIZE
    number = s.spool.allocate(0)
    for part in range(3):
        await s.spool.stage(number, part, content[part * PART_SIZE : (part + 1) * PART_SIZE])
    s.spool.allocate = lambda now: number  # type: ignore[method-assign]
    await s.arrives("b@y.test", content=content)
    kept = s.spool.kept[number]
    assert len(kept.parts) == 1
    kept.parts = {part: content[part * PART_SIZE : (part + 1) * PART_SIZE] for part in range(3)}
    await settle_down()
    assert prefixes(upstream) == [b"DKIM-Signature: for main\r\n"]
    assert b"".join(signer.fed) == content


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Reply(451, "Error: message can't be signed", "4.7.5"), "deferred"),
        (Reply(550, "Error: message can't be signed", "5.7.5"), "failed"),
    ],
)
async def test_what_must_not_go_unsigned_is_an_attempt_that_failed(answer: Reply, state: str) -> None:
    s, upstream = scene("main", StandInSigner(answer))
    await s.engine.start()
    number = await s.arrives("b@y.test", "c@y.test")
    await settle_down()
    assert prefixes(upstream) == []
    assert await s.states(number) == [(state, 1)] * 2
    told = [each for each in s.events if isinstance(each, Attempted) and each.recipient.endswith("@y.test")]
    assert [(each.dsn, each.detail) for each in told] == [(answer.enhanced, "message can't be signed")] * 2
    await s.engine.stop(1)


@pytest.mark.parametrize("error", [SpoolError("away"), RuntimeError("a bug")])
async def test_trouble_with_signing_is_an_attempt_too(error: Exception) -> None:
    class Broken(StandInSigner):
        async def sign(self, draft: object, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
            raise error

    s, upstream = scene("main", Broken())
    await s.engine.start()
    number = await s.arrives("b@y.test")
    await settle_down()
    assert prefixes(upstream) == []
    assert await s.states(number) == [("deferred", 1)]
    await s.engine.stop(1)


# -- what is being signed keeps its place ---------------------------------------------------------------------------
class SlowSigner(StandInSigner):
    """Signs what is let go, by the number of the message's turn at it."""

    def __init__(self, answer: Reply | None = None) -> None:
        super().__init__(answer)
        self.waiting: list[asyncio.Event] = []

    async def sign(self, draft: object, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
        self.waiting.append(asyncio.Event())
        await self.waiting[-1].wait()
        return await super().sign(draft, queue_id, upstream)

    async def let_go(self, *which: int) -> None:
        for each in which:
            self.waiting[each].set()
            await settle_down()


async def backlog(signer: SlowSigner, count: int, connections: int = 1) -> tuple[Scene, FakeUpstream, list[int]]:
    upstream = FakeUpstream("main")
    s = Scene(upstream, connections=connections)
    s.engine.signing.configure(signer, [MAIN])
    await s.engine.start()
    numbers = [await s.arrives(f"{n}@y.test") for n in range(count)]
    await settle_down()
    return s, upstream, numbers


def begun(upstream: FakeUpstream) -> list[str]:
    requests = (request for session in upstream.sessions for request in session.begun)
    return [request.message.envelope.recipients[0].address for request in requests]


async def test_no_more_is_signed_ahead_than_can_soon_be_begun() -> None:
    signer = SlowSigner()
    s, _, numbers = await backlog(signer, 30, connections=2)
    assert len(signer.waiting) == 2 * 2
    assert s.engine.claimed == frozenset(numbers), "an operator finds them all"
    await s.engine.stop(0)


async def test_what_has_no_permit_is_not_signed() -> None:
    signer = SlowSigner()
    upstream = FakeUpstream("main")
    s = Scene(upstream, connections=10)
    quotas = Quotas(s.spool, s.clock, MovedBootClock(), s.engine.permits_came)
    s.engine.lanes[0].permits = quotas.of(replace(MAIN, limits=(Limit(3, 3600.0, "3/hour"),)))
    s.engine.signing.configure(signer, [MAIN])
    await s.engine.start()
    for n in range(30):
        await s.arrives(f"{n}@y.test")
    await settle_down()
    assert len(signer.waiting) == 3
    await s.engine.stop(0)


async def test_what_was_signed_goes_in_its_order_and_others_may_overtake_what_takes_long() -> None:
    signer = SlowSigner()
    s, upstream, _ = await backlog(signer, 4)
    await signer.let_go(1)
    assert begun(upstream) == ["1@y.test"]
    await signer.let_go(0)
    went = []
    for _ in range(4):
        await signer.let_go(*range(len(signer.waiting)))
        went += begun(upstream)
        upstream.working[0].answer(RELAYED)
        await settle_down()
    assert went == ["1@y.test", "0@y.test", "2@y.test", "3@y.test"]
    await s.engine.stop(0)


@pytest.mark.parametrize("answer", [None, Reply(550, "Error: message can't be signed", "5.7.5")])
async def test_an_operator_can_take_back_what_is_being_signed(answer: Reply | None) -> None:
    signer = SlowSigner(answer)
    s, upstream, numbers = await backlog(signer, 2)
    s.engine.pause()
    await s.engine.withdraw(frozenset(numbers))
    assert s.engine.claimed == frozenset()
    await signer.let_go(*range(len(signer.waiting)))
    assert begun(upstream) == []
    assert [await s.states(number) for number in numbers] == [[("waiting", 0)]] * 2
    await s.engine.stop(0)


async def test_what_is_being_signed_at_the_end_is_given_back() -> None:
    signer = SlowSigner()
    s, _, numbers = await backlog(signer, 2)
    await s.engine.stop(0)
    assert [await s.states(number) for number in numbers] == [[("waiting", 0)]] * 2


async def test_what_is_being_signed_expires_in_time() -> None:
    upstream = FakeUpstream("main")
    s = Scene(upstream, settings=with_lifetime(100.0))
    s.engine.signing.configure(SlowSigner(), [MAIN])
    await s.engine.start()
    number = await s.arrives("b@y.test")
    s.clock.wall += 101.0
    s.engine.permits_came()
    await settle_down()
    assert await s.states(number) == [("failed", 1)]
    await s.engine.stop(0)
