"""What goes before the content on the wire, and what is signed for it at the attempt."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from relay.events import Attempted
from relay.mail import NO_SIGNATURE, UNSIGNED, Signatures
from relay.outcome import Reply
from relay.settings import UpstreamDkimSettings, UpstreamSettings
from relay.spool import PART_SIZE, SpoolError
from tests.delivery.scene import RELAYED, FakeUpstream, Scene, settle_down

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
