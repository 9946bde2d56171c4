"""Senders as an upstream wants them, while the spool keeps what was given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.senders import Leaving, Senders
from relay.events import Bounced, Notice
from relay.mail import Envelope, Message, Recipient, Signatures, queue_id
from relay.outcome import Reply
from relay.settings import UpstreamSettings
from relay.spool import PART_SIZE, Arrival
from relay.upstream import DeliveryRequest
from tests.delivery.scene import REFUSED, RELAYED, FakeUpstream, Scene, refusing, settle_down

SENDERS = Senders([("root@host.local", "ops@example.com"), ("*@host.local", "app@example.com")])
REWRITING = UpstreamSettings("up", host="up", sender_rewrite=(("*@host.local", "app@example.com"),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("cron@host.local", "app@example.com"),
        ("Root@Host.local", "ops@example.com"),
        ("cron@host.local.example", "cron@host.local.example"),
        ("", ""),
    ],
)
def test_addresses(before: str, after: str) -> None:
    assert SENDERS.address(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: cron@host.local\r\n", b"From: app@example.com\r\n"),
        (b'From: "Cron @host.local" <cron@host.local>\r\n', b'From: "Cron @host.local" <app@example.com>\r\n'),
        (b"FROM : root@host.local (root@host.local)\r\n", b"FROM : ops@example.com (root@host.local)\r\n"),
        (
            b"from: A <a@host.local>,\r\n B <b@else.example>\r\n",
            b"from: A <app@example.com>,\r\n B <b@else.example>\r\n",
        ),
        (b"Sender: <cron@host.local>\r\n", b"Sender: <app@example.com>\r\n"),
        (b"From: \xff <cron@host.local>\r\n", b"From: \xff <app@example.com>\r\n"),
        (b"Reply-To: cron@host.local\r\n", b"Reply-To: cron@host.local\r\n"),
        (b"Subject: from: cron@host.local\r\n", b"Subject: from: cron@host.local\r\n"),
        (b"X-A: 1\r\n From: cron@host.local\r\n", b"X-A: 1\r\n From: cron@host.local\r\n"),
        (b"From: cron@host.local", b"From: app@example.com"),
        (b"", b""),
    ],
)
def test_fields(before: bytes, after: bytes) -> None:
    assert SENDERS.header(before) == after
    around = b"To: x@y.test\r\n" + before + (b"Date: today\r\n" if before.endswith(b"\r\n") else b"")
    assert SENDERS.header(around) == around.replace(before, after)


@given(st.binary(max_size=300))
def test_no_header_breaks_it_and_without_a_pattern_that_fits_nothing_changes(header: bytes) -> None:
    SENDERS.header(header)
    assert Senders([("nobody@nowhere.example", "x@y.example")]).header(header) == header


async def test_a_large_message_is_changed_in_its_first_part_alone() -> None:
    async def read(part: int) -> bytes:
        return [b"From: a@b\r\n\r\nfirst", b"second"][part]

    message = Message(1, Envelope("a@b", (Recipient(0, "c@d"),)), 30, 0.0)
    request = DeliveryRequest(message, None, 2, read)
    leaving = Leaving("up", b"", "long@example.com", b"From: long@example.com\r\n", 11, "header")
    assert leaving.apply(request, "other") is request
    assert replace(leaving, told="").apply(request, "up") is request
    sent = leaving.apply(request, "up")
    assert (sent.message.size, sent.message.envelope.sender) == (30 + 13, "long@example.com")
    assert sent.read_part is not None
    assert [await sent.read_part(part) for part in range(2)] == [b"From: long@example.com\r\n\r\nfirst", b"second"]


CONTENT = b"From: Cron <cron@host.local>\r\nSubject: x\r\n\r\ncron@host.local\r\n"
CHANGED = b"From: Cron <app@example.com>\r\nSubject: x\r\n\r\ncron@host.local\r\n"


async def scene(*upstreams: FakeUpstream) -> Scene:
    here = Scene(*upstreams)
    here.engine.signing.configure(None, [REWRITING])
    await here.engine.start()
    return here


async def test_mail_leaves_with_the_other_sender_and_its_bounce_goes_to_the_first() -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = await here.arrives("b@y.test", sender="cron@host.local", content=CONTENT)
    (request,) = up.working[0].begun
    assert (request.message.envelope.sender, request.content, request.message.size) == (
        "app@example.com",
        CHANGED,
        len(CHANGED),
    )
    told = f"{queue_id(number)}: info: rewritten for up: sender cron@host.local -> app@example.com, header"
    assert told in [event.text for event in here.events if isinstance(event, Notice)]
    up.working[0].answer(REFUSED)
    await settle_down()
    assert len(here.seen(Bounced)) == 1
    bounce = max(here.spool.kept.values(), key=lambda kept: kept.message.number).message
    assert [each.address for each in bounce.envelope.recipients] == ["cron@host.local"]


async def test_what_needs_no_change_gets_none() -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    content = CHANGED
    await here.arrives("b@y.test", sender="app@example.com", content=content)
    (request,) = up.working[0].begun
    assert request.content is content
    assert not [event for event in here.events if isinstance(event, Notice) and "rewritten" in event.text]


async def test_another_upstream_has_it_as_it_came() -> None:
    other = FakeUpstream("other")
    here = await scene(refusing("up"), other)
    await here.arrives("b@y.test", sender="cron@host.local", content=CONTENT)
    await settle_down()
    (request,) = other.working[0].begun
    assert (request.message.envelope.sender, request.content) == ("cron@host.local", CONTENT)


async def test_a_large_one_is_read_for_it() -> None:
    up = FakeUpstream("up")
    here = await scene(up)
    number = here.spool.allocate(here.clock.wall)
    content = CONTENT + b"x" * PART_SIZE
    envelope = Envelope("cron@host.local", (Recipient(0, "b@y.test"),))
    await here.spool.stage(number, 0, content[:PART_SIZE])
    await here.spool.stage(number, 1, content[PART_SIZE:])
    await here.spool.accept(Arrival(Message(number, envelope, len(content), here.clock.wall), None))
    here.engine.waiting()
    await settle_down()
    (request,) = up.working[0].begun
    assert request.read_part is not None
    sent = b"".join([await request.read_part(part) for part in range(2)])
    assert sent == CHANGED + b"x" * PART_SIZE
    assert len(sent) == request.message.size


class NotingSigner:
    """Signs with what it was shown of the header."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def open(self, octets: bytes, sender: str) -> object:
        self.shown.append(octets)
        return self

    def recall(self, body_hash: str) -> bool:
        return False

    def feed(self, octets: bytes) -> None:
        raise AssertionError("all of it was shown")

    async def sign(self, draft: object, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
        return Signatures(b"DKIM-Signature: d=example.com\r\n", "")


async def test_what_is_signed_is_what_leaves() -> None:
    up = FakeUpstream("up")
    here, signer = await scene(up), NotingSigner()
    here.engine.signing.configure(signer, [REWRITING])
    at_the_door = Signatures(b"DKIM-Signature: d=host.local\r\n", "")
    await here.arrives("b@y.test", sender="cron@host.local", content=CONTENT, signatures=at_the_door)
    (request,) = up.working[0].begun
    assert signer.shown == [CHANGED]
    assert request.prefix == b"DKIM-Signature: d=example.com\r\n"
    up.working[0].answer(RELAYED)
    await settle_down()
    # The door's signature stands where nothing is changed.
    await here.arrives("b@y.test", sender="app@example.com", content=CHANGED, signatures=at_the_door)
    (request,) = up.working[0].begun
    assert request.prefix == at_the_door.fields
    assert len(signer.shown) == 1
