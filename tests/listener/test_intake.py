"""What the intake does with a message: by its own API, without a socket."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from relay.clock import SystemClock
from relay.events import Accepted, Event, Repeated
from relay.listener.intake import Intake
from relay.listener.staging import PARTS_AT_A_TIME
from relay.mail import UNSIGNED, Body, Client, Envelope, Priority, Recipient, Signatures, queue_id
from relay.outcome import Reply
from relay.settings import RewriteSettings
from relay.spool import PART_SIZE, Spool, SpoolError, SpoolFull
from tests.listener.stand_ins import MemorySpool, NotingDelivery

ENVELOPE = Envelope("a@x.test", (Recipient(0, "b@y.test"),))
CLIENT = Client("localhost", "127.0.0.1", "app.test", "ESMTP")
HEADER = b"Subject: x\r\nMessage-ID: <m@x>\r\nDate: z\r\n\r\n"


class Desk:
    """An intake with stand-ins around it."""

    def __init__(self, spool: MemorySpool | None = None, room: int = 10) -> None:
        self.spool = spool or MemorySpool()
        self.delivery = NotingDelivery(room)
        self.events: list[Event] = []
        self.intake = Intake(cast("Spool", self.spool), SystemClock(), "relay.test", self.events.append, self.delivery)

    async def take(self, content: bytes, piece: int = 100_000, envelope: Envelope = ENVELOPE) -> Reply:
        sink = self.intake.open_content(envelope, CLIENT)
        for start in range(0, len(content), piece):
            await sink.write(content[start : start + piece])
        return await sink.finish()


def failing(verb: str, error: Exception, at: int = 1) -> MemorySpool:
    calls = 0

    async def before(called: str) -> None:
        nonlocal calls
        calls += called == verb
        if called == verb and calls == at:
            raise error

    return MemorySpool(before)


def spool_that_waits_for(written: asyncio.Event) -> MemorySpool:
    """Whose parts are not on disk before ``written`` is set."""

    async def before(verb: str) -> None:
        if verb == "stage":
            await written.wait()

    return MemorySpool(before)


async def test_the_next_part_is_read_while_one_is_written() -> None:
    written = asyncio.Event()
    desk = Desk(spool_that_waits_for(written))
    sink = desk.intake.open_content(ENVELOPE, CLIENT)
    await sink.write(HEADER + b"x" * PART_SIZE)
    second = asyncio.create_task(sink.write(b"y" * PART_SIZE))
    await asyncio.wait({second}, timeout=0.05)
    assert not second.done(), "more than one part of a message would wait in memory"
    written.set()
    await second
    assert (await sink.finish()).code == 250
    assert desk.spool.content().endswith(b"x" * PART_SIZE + b"y" * PART_SIZE)


async def test_who_leaves_while_a_part_is_written_leaves_nothing_behind() -> None:
    written = asyncio.Event()
    desk = Desk(spool_that_waits_for(written))
    sink = desk.intake.open_content(ENVELOPE, CLIENT)
    await sink.write(HEADER + b"x" * PART_SIZE)
    leaving = asyncio.create_task(sink.discard())
    await asyncio.sleep(0)
    written.set()
    await leaving
    assert not desk.spool.staged
    assert not desk.spool.accepted


async def test_a_small_message_goes_into_the_commit_and_is_handed_over_behind_it() -> None:
    async def before(verb: str) -> None:
        assert verb == "accept"
        assert not desk.delivery.handed
        assert not desk.events

    desk = Desk(MemorySpool(before))
    reply = await desk.take(HEADER + b"body\r\n")
    (arrival,) = desk.spool.accepted
    assert desk.delivery.handed == [arrival]
    assert arrival.leased
    assert arrival.content is not None
    assert arrival.content.endswith(HEADER + b"body\r\n")
    assert arrival.message.size == len(arrival.content)
    assert arrival.message.message_id == "<m@x>"
    assert str(reply) == f"250 2.0.0 Ok: queued as {queue_id(arrival.message.number)}"
    (event,) = desk.events
    assert isinstance(event, Accepted)
    assert (event.queue_id, event.client, event.sender, event.size, event.nrcpt) == (
        arrival.message.queue_id,
        "localhost[127.0.0.1]",
        "a@x.test",
        len(arrival.content),
        1,
    )


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (HEADER + b"body\r\n", Body.SEVEN_BIT),
        (HEADER + b"b\xf6dy\r\n", Body.EIGHT_BIT),
        (HEADER + b"line\r\n" * PART_SIZE, Body.SEVEN_BIT),
        (HEADER + b"line\r\n" * PART_SIZE + b"\xf6\r\n", Body.EIGHT_BIT),
        (b"X: \xf6\r\n" + HEADER + b"line\r\n" * PART_SIZE, Body.EIGHT_BIT),
    ],
    ids=["small", "small-8bit", "large", "large-8bit-at-its-end", "large-8bit-header"],
)
async def test_ascii_declared_8bitmime_is_kept_as_7bit_so_that_any_server_takes_it(content: bytes, body: Body) -> None:
    desk = Desk()
    await desk.take(content, envelope=replace(ENVELOPE, body=Body.EIGHT_BIT))
    assert desk.spool.accepted[0].message.envelope.body is body


async def test_a_small_message_has_few_parts_of_large_ones_before_it() -> None:
    at_a_time = most = 0
    go_on = asyncio.Event()

    async def before(verb: str) -> None:
        nonlocal at_a_time, most
        if verb == "stage":
            at_a_time += 1
            most = max(most, at_a_time)
            await go_on.wait()
            at_a_time -= 1

    desk = Desk(MemorySpool(before))
    large = [asyncio.create_task(desk.take(HEADER + b"line\r\n" * PART_SIZE)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert at_a_time == PARTS_AT_A_TIME
    assert (await desk.take(HEADER + b"body\r\n")).code == 250
    go_on.set()
    assert [(await each).code for each in large] == [250] * 20
    assert most == PARTS_AT_A_TIME


async def test_without_room_in_memory_it_waits_in_the_spool() -> None:
    desk = Desk(room=0)
    await desk.take(HEADER)
    assert not desk.spool.accepted[0].leased
    assert (desk.delivery.waits, desk.delivery.handed) == (1, [])


@pytest.mark.parametrize("piece", [1000, 65_536, 1_000_000])
@pytest.mark.parametrize("size", [PART_SIZE - 400, PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE, 1_000_000])
async def test_a_large_message_is_staged_in_full_parts(size: int, piece: int) -> None:
    desk = Desk()
    content = (HEADER + b"x" * 70 + b"\r\n" + b"0123456789abcdef" * (size // 16))[: size - 2] + b"\r\n"
    assert (await desk.take(content, piece)).code == 250
    (arrival,) = desk.spool.accepted
    kept = desk.spool.content()
    assert kept.endswith(content)
    assert kept.startswith(b"Received: from app.test (localhost [127.0.0.1])\r\n")
    assert len(kept) == arrival.message.size
    if arrival.content is None:
        parts = desk.spool.staged[arrival.message.number]
        assert all(len(parts[part]) == PART_SIZE for part in range(len(parts) - 1))
        assert 0 < len(parts[len(parts) - 1]) <= PART_SIZE
    else:
        assert len(arrival.content) <= PART_SIZE
        assert not desk.spool.staged


@pytest.mark.parametrize(("error", "code"), [(SpoolFull("x"), (452, "4.3.1")), (SpoolError("x"), (451, "4.3.0"))])
@pytest.mark.parametrize(("verb", "at"), [("accept", 1), ("stage", 1), ("stage", 3)])
async def test_a_spool_that_fails_leaves_nothing_behind(
    verb: str, at: int, error: Exception, code: tuple[int, str]
) -> None:
    desk = Desk(failing(verb, error, at))
    reply = await desk.take(HEADER + b"x" * 1_000_000 + b"\r\n")
    assert (reply.code, reply.enhanced) == code
    assert not desk.spool.staged
    assert not desk.spool.accepted
    assert not desk.events
    assert (desk.delivery.reserved, desk.delivery.handed, desk.delivery.waits) == (0, [], 0)


async def test_discard_forgets_what_was_staged() -> None:
    desk = Desk()
    sink = desk.intake.open_content(ENVELOPE, CLIENT)
    await sink.write(HEADER + b"x" * 600_000)
    assert desk.spool.staged
    await sink.discard()
    await sink.discard()
    assert not desk.spool.staged


async def test_a_discard_that_fails_is_left_to_the_sweep() -> None:
    desk = Desk(failing("discard", SpoolError("x")))
    sink = desk.intake.open_content(ENVELOPE, CLIENT)
    await sink.write(HEADER + b"x" * 600_000)
    await sink.discard()


async def test_cancelled_in_the_commit_the_room_is_given_back_and_the_parts_stay() -> None:
    accepting = asyncio.Event()

    async def before(verb: str) -> None:
        if verb == "accept":
            accepting.set()
            await asyncio.sleep(60)

    desk = Desk(MemorySpool(before))
    task = asyncio.create_task(desk.take(HEADER + b"x" * 600_000))
    await accepting.wait()
    assert desk.delivery.reserved == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The commit may still happen: its parts must be there then.
    assert desk.spool.staged
    assert desk.delivery.reserved == 0


async def test_what_was_mended_is_told() -> None:
    desk = Desk()
    desk.intake.configure(RewriteSettings((("root", "ops@example.com"),), "example.com"), ())
    sink = desk.intake.open_content(Envelope("cron", (Recipient(0, "root"), Recipient(1, "www"))), CLIENT)
    await sink.write(b"Bcc: x@y\r\n\r\n" + b"x" * 999)
    await sink.write(b"\r\n")
    assert (await sink.finish()).code == 250
    (arrival,) = desk.spool.accepted
    assert arrival.message.envelope == Envelope(
        "cron@example.com", (Recipient(0, "ops@example.com"), Recipient(1, "www@example.com"))
    )
    assert b"\r\nFrom: cron@example.com\r\n" in desk.spool.content()
    (event,) = desk.events
    assert isinstance(event, Accepted)
    assert (event.sender, event.nrcpt) == ("cron@example.com", 2)
    assert event.repairs == (
        "sender cron -> cron@example.com",
        "recipient root -> ops@example.com",
        "recipient www -> www@example.com",
        "bcc",
        "message-id",
        "date",
        "from",
        "long-line",
    )


async def test_the_default_domain_is_the_host_name() -> None:
    desk = Desk()
    sink = desk.intake.open_content(Envelope("", (Recipient(0, "root"),)), CLIENT)
    await sink.write(HEADER)
    await sink.finish()
    assert desk.spool.accepted[0].message.envelope.recipients[0].address == "root@relay.test"
    assert b"\tfor <root@relay.test>;\r\n" in desk.spool.content()


async def test_what_an_application_asks_for_is_kept_beside_the_message() -> None:
    desk = Desk()
    desk.intake.configure(RewriteSettings(), ["ses"])
    asked = (
        b"X-Relay-Priority: bulk\r\nX-Relay-Upstream: ses\r\nX-Relay-Tag: t\r\nIdempotency-Key: k\r\n"
        b"X-Relay-Not-After: Thu, 1 Jan 1970 00:01:00 +0000\r\n"
    )
    await desk.take(asked + HEADER)
    message = desk.spool.accepted[0].message
    assert (message.priority, message.upstream, message.tag, message.idempotency_key, message.not_after) == (
        Priority.BULK,
        "ses",
        "t",
        "k",
        60.0,
    )
    assert desk.spool.content().endswith(b"+0000\r\nFrom: a@x.test\r\n" + HEADER)


@pytest.mark.parametrize(
    "asked", [b"X-Relay-Upstream: other", b"X-Relay-Priority: high", b"X-Relay-Not-After: soon", b"Idempotency-Key:"]
)
@pytest.mark.parametrize("size", [0, 600_000])
async def test_what_cannot_be_had_is_refused(asked: bytes, size: int) -> None:
    desk = Desk()
    desk.intake.configure(RewriteSettings(), ["ses"])
    reply = await desk.take(asked + b"\r\n" + HEADER + b"x" * size)
    assert (reply.code, reply.enhanced) == (550, "5.6.0")
    assert not desk.spool.accepted
    assert not desk.spool.staged
    assert (desk.events, desk.delivery.reserved) == ([], 0)


@pytest.mark.parametrize("size", [0, 600_000])
async def test_what_comes_again_under_a_key_is_answered_with_the_first_ones_id(size: int) -> None:
    desk = Desk()
    asked = b"Idempotency-Key: order 42\r\n" + HEADER
    first = await desk.take(asked + b"x" * size)
    reserved = desk.delivery.reserved
    assert await desk.take(asked + b"something else" + b"x" * size) == first
    assert (first.code, len(desk.spool.accepted)) == (250, 1)
    assert (desk.delivery.reserved, len(desk.delivery.handed)) == (reserved, reserved)
    number = desk.spool.accepted[0].message.queue_id
    repeated = desk.events[-1]
    assert isinstance(repeated, Repeated)
    assert (repeated.duplicate_of, repeated.known_by) == (number, "Idempotency-Key")
    assert repeated.queue_id != number


async def test_message_ids_that_come_again_mean_something_where_asked_to() -> None:
    desk = Desk()
    mail = b"Message-ID: <1@app.test>\r\n" + HEADER
    desk.intake.configure(RewriteSettings(), [], 600.0)
    bare = b"Subject: x\r\n\r\nbody\r\n"
    replies = [await desk.take(each) for each in (mail, mail, bare, bare)]
    assert len({reply.text for reply in replies}) == 3, "what had no Message-ID of its own is never known again"
    desk.intake.configure(RewriteSettings(), [])
    assert (await desk.take(mail)).text not in {reply.text for reply in replies}
    assert not desk.spool.accepted[-1].imprints


async def test_a_message_that_comes_back_twice_is_in_a_loop() -> None:
    desk = Desk()
    content = HEADER
    for _ in range(2):
        assert (await desk.take(content)).code == 250
        content = desk.spool.content()
    reply = await desk.take(content)
    assert (reply.code, reply.enhanced) == (554, "5.4.6")
    desk.intake.hostname = "other.test"
    assert (await desk.take(content)).code == 250


@pytest.mark.parametrize(
    ("protocol", "told"), [("ESMTP", b"UTF8SMTP"), ("ESMTPSA", b"UTF8SMTPSA"), ("ESMTPS", b"UTF8SMTPS")]
)
async def test_the_received_line_tells_of_smtputf8(protocol: str, told: bytes) -> None:
    desk = Desk()
    client = replace(CLIENT, protocol=protocol)
    for envelope, expected in ((replace(ENVELOPE, smtputf8=True), told), (ENVELOPE, protocol.encode())):
        sink = desk.intake.open_content(envelope, client)
        await sink.write(HEADER)
        await sink.finish()
        assert b" with " + expected + b" id " in desk.spool.content()


async def test_mail_in_a_loop_is_refused() -> None:
    desk = Desk()
    reply = await desk.take(b"Received: x\r\n" * 51 + HEADER)
    assert (reply.code, reply.enhanced) == (554, "5.4.6")
    assert (await desk.take(b"Received: x\r\n" * 50 + HEADER)).code == 250


@pytest.mark.parametrize(
    "header", [b"X: y\r\n" * 60_000, b"X: " + b"y" * 400_000 + b"\r\n", b"Subject: x\r\n" * 22_000]
)
async def test_a_header_over_its_limit_is_refused(header: bytes) -> None:
    desk = Desk()
    reply = await desk.take(header + b"\r\nbody\r\n")
    assert (reply.code, reply.enhanced) == (552, "5.3.4")
    assert not desk.spool.staged
    assert not desk.spool.accepted


async def test_a_large_body_without_header_is_no_large_header() -> None:
    desk = Desk()
    assert (await desk.take(b"x" * 400_000 + b"\r\n")).code == 250


@pytest.mark.parametrize(("error", "code"), [(SpoolFull("x"), 452), (SpoolError("x"), 451), (None, None)])
def test_room_is_asked_for_at_mail(error: Exception | None, code: int | None) -> None:
    desk = Desk()
    desk.spool.no_room = error
    reply = desk.intake.check_room(5, Client("localhost", "127.0.0.1"))
    assert (reply and reply.code) == code


class StandInSigning:
    """Notes what it is fed; ``answer`` is what becomes of it, None of a domain that isn't ours."""

    def __init__(self, answer: Signatures | Reply | asyncio.Future[Signatures] | None) -> None:
        self.answer = answer
        self.is_behind = False
        self.fed = b""
        self.upstream: str | None = None

    def open(self, octets: bytes, sender: str) -> StandInSigning | None:
        self.fed = octets
        return None if self.answer is None else self

    def feed(self, octets: bytes) -> None:
        self.fed += octets

    def begin(
        self, draft: object, queue_id: str, upstream: str | None = None
    ) -> Signatures | Reply | asyncio.Future[Signatures]:
        assert draft is self
        assert self.answer is not None
        self.upstream = upstream
        return self.answer


SIGNED = Signatures(b"DKIM-Signature: x\r\n", "", "simple:hash")


@pytest.mark.parametrize("size", [10, PART_SIZE + 10, 3 * PART_SIZE])
async def test_what_is_signed_is_what_is_kept_and_stands_beside_it(size: int) -> None:
    desk = Desk()
    signing = desk.intake.signing = StandInSigning(SIGNED)
    reply = await desk.take(HEADER + b"z" * size + b"\r\n", piece=99_999)
    assert reply.code == 250
    assert signing.fed == desk.spool.content()
    assert desk.spool.accepted[0].message.signatures == SIGNED
    assert b"DKIM-Signature" not in desk.spool.content()


async def test_signing_is_for_the_upstream_that_was_asked_for() -> None:
    desk = Desk()
    desk.intake.configure(RewriteSettings(), ["ses"])
    signing = desk.intake.signing = StandInSigning(SIGNED)
    await desk.take(b"X-Relay-Upstream: ses\r\n" + HEADER)
    assert signing.upstream == "ses"


async def test_what_is_not_ours_to_sign_is_kept_as_looked_at() -> None:
    desk = Desk()
    await desk.take(HEADER)
    desk.intake.signing = StandInSigning(None)
    await desk.take(HEADER)
    assert [arrival.message.signatures for arrival in desk.spool.accepted] == [None, UNSIGNED]


@pytest.mark.parametrize("size", [10, 3 * PART_SIZE])
async def test_what_must_be_signed_and_can_not_is_refused_and_leaves_nothing(size: int) -> None:
    desk = Desk()
    desk.intake.signing = StandInSigning(Reply(451, "Error: message can't be signed", "4.7.5"))
    assert str(await desk.take(HEADER + b"z" * size)) == "451 4.7.5 Error: message can't be signed"
    assert not desk.spool.accepted
    assert not desk.spool.staged


async def test_nobody_who_submits_waits_for_a_signature_that_is_on_its_way() -> None:
    desk = Desk()
    future = asyncio.get_running_loop().create_future()
    desk.intake.signing = StandInSigning(future)
    assert (await desk.take(HEADER)).code == 250
    (arrival,) = desk.spool.accepted
    assert arrival.leased
    assert arrival.message.signatures is None
    assert not desk.delivery.handed
    assert desk.intake.accepted == 1
    future.set_result(SIGNED)
    await asyncio.sleep(0)
    (handed,) = desk.delivery.handed
    assert handed.message == replace(arrival.message, signatures=SIGNED)
    assert (handed.content, handed.leased, handed.turn) == (arrival.content, True, arrival.turn)


@pytest.mark.parametrize(("size", "room", "is_behind"), [(3 * PART_SIZE, 10, False), (10, 0, False), (10, 10, True)])
async def test_what_has_no_room_in_memory_is_signed_first_and_so_is_all_where_too_much_waits(
    size: int, room: int, is_behind: bool
) -> None:
    desk = Desk(room=room)
    future = asyncio.get_running_loop().create_future()
    signing = desk.intake.signing = StandInSigning(future)
    signing.is_behind = is_behind
    taking = asyncio.create_task(desk.take(HEADER + b"z" * size + b"\r\n"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not desk.spool.accepted
    assert not taking.done()
    future.set_result(SIGNED)
    assert (await taking).code == 250
    (arrival,) = desk.spool.accepted
    assert arrival.message.signatures == (None if is_behind else SIGNED)
    assert [each.message.signatures for each in desk.delivery.handed] == [SIGNED] * (room > 0)


async def test_a_client_that_goes_while_its_message_is_signed_leaves_nothing() -> None:
    desk = Desk()
    desk.intake.signing = StandInSigning(asyncio.get_running_loop().create_future())
    taking = asyncio.create_task(desk.take(HEADER + b"z" * 3 * PART_SIZE))
    for _ in range(100):
        await asyncio.sleep(0)
    assert desk.delivery.reserved == 1
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert desk.delivery.reserved == 0
    assert not desk.spool.accepted
