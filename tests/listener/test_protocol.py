"""The SMTP dialogue, over a loopback socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from relay.events import Disconnected, Notice, Rejected
from relay.listener.inbox import MAX_LINE
from relay.mail import Body, Recipient
from relay.spool import SpoolError
from tests.listener.stand_ins import Dialogue, Door, MemorySpool, a_door

EHLO = b"EHLO app.test\r\n"
MAIL = b"MAIL FROM:<a@x.test>\r\n"
RCPT = b"RCPT TO:<b@y.test>\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with a_door() as running:
        yield running


@pytest.fixture
async def client(door: Door) -> Dialogue:
    dialogue = await door.connect()
    await dialogue.ask(EHLO)
    return dialogue


def bodies(door: Door) -> list[bytes]:
    return [door.spool.content(n).partition(b"\r\n\r\n")[2] for n in range(len(door.spool.accepted))]


async def test_ehlo_advertises_what_is_there_and_no_more(door: Door) -> None:
    client = await door.connect()
    assert (await client.ask(EHLO)).split(b"\r\n") == [
        b"250-relay.test",
        b"250-PIPELINING",
        b"250-SIZE 25000000",
        b"250-8BITMIME",
        b"250-SMTPUTF8",
        b"250-ENHANCEDSTATUSCODES",
        b"250-DSN",
        b"250-CHUNKING",
        b"250 LIMITS RCPTMAX=1000",
    ]


async def test_a_session_kept_open_submits_one_message_after_another(door: Door, client: Dialogue) -> None:
    for n in range(3):
        reply = await client.submit(b"Subject: x\r\n\r\nnumber %d\r\n" % n)
        assert reply == b"250 2.0.0 Ok: queued as " + door.spool.accepted[n].message.queue_id.encode()
    assert await client.ask(b"QUIT\r\n") == b"221 2.0.0 Bye"
    assert await client.rest() == b""
    assert bodies(door) == [b"number 0\r\n", b"number 1\r\n", b"number 2\r\n"]


async def test_the_envelope_with_its_parameters(door: Door, client: Dialogue) -> None:
    mail = "MAIL FROM:<ü@x.test> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=Ab+2Bc\r\n".encode()
    assert await client.ask(mail) == b"250 2.1.0 Ok"
    rcpt = b"RCPT TO:<Bob@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2B@y\r\n"
    assert await client.ask(rcpt) == b"250 2.1.5 Ok"
    assert await client.ask(b"RCPT TO: postmaster\r\n") == b"250 2.1.5 Ok"
    await client.ask(b"DATA\r\n")
    await client.ask(MESSAGE)
    envelope = door.spool.accepted[0].message.envelope
    assert envelope.sender == "ü@x.test"
    assert envelope.recipients == (
        Recipient(0, "Bob@y.test", "SUCCESS,DELAY", "rfc822;B+2B@y"),
        Recipient(1, "postmaster@relay.test"),
    )
    assert (envelope.body, envelope.smtputf8, envelope.ret, envelope.envid) == (Body.EIGHT_BIT, True, "HDRS", "Ab+2Bc")
    assert b"with UTF8SMTP id" in door.spool.content()


async def test_the_null_sender_is_the_empty_string(door: Door, client: Dialogue) -> None:
    await client.submit(b"x\r\n", sender=b"")
    assert door.spool.accepted[0].message.envelope.sender == ""


async def test_the_received_line_says_who_and_how(door: Door) -> None:
    client = await door.connect()
    assert await client.ask(b"HELO old.test\r\n") == b"250 relay.test"
    await client.submit(b"x\r\n")
    assert b"from old.test (localhost [127.0.0.1])\r\n\tby relay.test (relay) with SMTP id" in door.spool.content()


DIALOGUE = (
    EHLO
    + MAIL
    + RCPT
    + b"RCPT TO:<bad..dot@y.test>\r\nDATA\r\n"
    + b"Subject: one\r\n\r\n..dot\r\n.\r\n"
    + MAIL
    + RCPT
    + b"DATA\r\nSubject: two\r\n\r\nMAIL FROM:<no@command>\r\n.\r\nNOOP\r\nRSET\r\nQUIT\r\n"
)


@pytest.mark.parametrize("pieces", [1, 2, 3, 17, 60, len(DIALOGUE)])
async def test_any_split_of_the_input_gets_the_same_replies(door: Door, pieces: int) -> None:
    client = await door.connect()
    cuts = sorted(random.sample(range(1, len(DIALOGUE)), pieces - 1))
    for start, end in zip([0, *cuts], [*cuts, len(DIALOGUE)], strict=True):
        client.writer.write(DIALOGUE[start:end])
        await client.writer.drain()
        await asyncio.sleep(0)
    replies = (await client.rest()).split(b"250 LIMITS RCPTMAX=1000\r\n")[1].split(b"\r\n")
    assert [reply.partition(b" ")[0] for reply in replies] == [
        *(b"250", b"250", b"553", b"354", b"250", b"250", b"250", b"354", b"250", b"250", b"250", b"221", b"")
    ]
    assert bodies(door) == [b".dot\r\n", b"MAIL FROM:<no@command>\r\n"]


async def test_replies_to_a_group_leave_in_one_write(door: Door, client: Dialogue) -> None:
    client.writer.write(MAIL + RCPT + b"DATA\r\n")
    # StreamReader.read gives what one segment brought.
    assert (await client.reader.read(1000)).count(b"\r\n") == 3
    client.writer.write(MESSAGE + MAIL + RCPT + b"DATA\r\n")
    assert (await client.reader.read(1000)).count(b"\r\n") == 4


async def test_a_client_that_closes_its_side_first_is_answered(door: Door) -> None:
    client = await door.dial()
    client.writer.write(EHLO + MAIL + RCPT + b"DATA\r\n" + MESSAGE)
    client.writer.write_eof()
    assert b"250 2.0.0 Ok: queued as" in await client.rest()
    assert len(door.spool.accepted) == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"EHLO\r\n", b"501 5.5.4"),
        (b"HELO \r\n", b"501 5.5.4"),
        (b"MAIL\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<a@b> FOO=1\r\n", b"555 5.5.4"),
        (b"MAIL FROM:<a@b> SIZE=25000001\r\n", b"552 5.3.4"),
        ("MAIL FROM:<ü@b>\r\n".encode(), b"553 5.6.7"),
        (b"MAIL FROM:<\xff@b> SMTPUTF8\r\n", b"553 5.1.3"),
        (b"RCPT TO:<a@b>\r\n", b"503 5.5.1"),
        (b"DATA\r\n", b"503 5.5.1"),
        (b"BOGUS\r\n", b"500 5.5.2"),
        (b"\r\n", b"500 5.5.2"),
        (b"NOOP\n", b"500 5.5.2"),
        (b"NOOP x\x00y\r\n", b"500 5.5.2"),
        (b"NOOP\t\r\n", b"500 5.5.2"),
        (b"NOOP " + b"x" * 5000 + b"\r\n", b"500 5.5.2"),
        (b"NOOP " + b"x" * 500_000 + b"\r\n", b"500 5.5.2"),
        (b"AUTH PLAIN AGEAYg==\r\n", b"502 5.5.1"),
        (b"STARTTLS\r\n", b"502 5.5.1"),
        (b"EXPN x\r\n", b"502 5.5.1"),
        (b"ETRN x\r\n", b"502 5.5.1"),
        (b"RSET x\r\n", b"501 5.5.4"),
        (b"VRFY\r\n", b"501 5.5.4"),
        (b"VRFY x@y\r\n", b"252 2."),
        (b"HELP\r\n", b"250 2."),
        (b"noop whatever\r\n", b"250 2.0.0"),
        (b"QUIT now\r\n", b"501 5.5.4"),
    ],
)
async def test_a_command_and_the_session_after_it(door: Door, client: Dialogue, command: bytes, code: bytes) -> None:
    assert (await client.ask(command)).startswith(code)
    assert (await client.submit(b"x\r\n")).startswith(b"250 2.0.0 Ok: queued as ")


async def test_commands_out_of_order(client: Dialogue) -> None:
    await client.ask(MAIL)
    assert (await client.ask(MAIL)).startswith(b"503 5.5.1")
    assert (await client.ask(b"DATA\r\n")).startswith(b"503 5.5.1")
    assert (await client.ask(b"RCPT TO:<>\r\n")).startswith(b"553 5.1.3")
    assert (await client.ask(b"DATA\r\n")).startswith(b"554 5.5.1")
    assert await client.ask(b"RSET\r\n") == b"250 2.0.0 Ok"
    assert (await client.ask(RCPT)).startswith(b"503 5.5.1")


async def test_helo_comes_first(door: Door) -> None:
    client = await door.connect()
    assert (await client.ask(MAIL)).startswith(b"503 5.5.1")


async def test_command_injection_stores_nothing(door: Door, client: Dialogue) -> None:
    await client.ask(MAIL)
    assert (await client.ask(b'RCPT TO:<"x\rRCPT TO:<evil@e>"@b>\r\n')).startswith(b"553 5.1.3")
    assert (await client.ask(b"RCPT TO:<a\x00@b>\r\n")).startswith(b"553 5.1.3")
    assert (await client.ask(b"DATA\r\n")).startswith(b"554 5.5.1")


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\nEHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n",
        b"Content-Type: text/plain\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01\x02\r\n",
        b"{\r\n",
    ],
)
async def test_another_protocol_is_shown_the_door_at_once(door: Door, greeting: bytes) -> None:
    client = await door.connect()
    client.writer.write(greeting)
    rest = await client.rest()
    assert rest.startswith(b"421 4.7.0 ")
    assert rest.count(b"\r\n") == 1
    assert not door.spool.accepted


async def test_twenty_errors_end_a_session(client: Dialogue) -> None:
    client.writer.write(b"BOGUS\r\n" * 50)
    replies = (await client.rest()).split(b"\r\n")
    assert replies[:-2] == [b"500 5.5.2 Error: command not recognized"] * 20
    assert replies[-2].startswith(b"421 4.7.0 ")


async def test_idle_chatter_ends_a_session_but_not_between_messages(client: Dialogue) -> None:
    for _ in range(3):
        for _ in range(90):
            assert (await client.ask(b"RSET\r\n")).startswith(b"250")
        await client.submit(b"x\r\n")
    client.writer.write(b"NOOP\r\n" * 200)
    replies = (await client.rest()).split(b"\r\n")
    assert replies[-2].startswith(b"421 4.7.0 ")
    assert 100 < len(replies) <= 122


async def test_recipients_over_the_limit_go_in_another_transaction() -> None:
    async with a_door(max_recipients=3) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await client.ask(MAIL)
        client.writer.write(RCPT * 40)
        replies = [await client.reply() for _ in range(40)]
        assert replies == [b"250 2.1.5 Ok"] * 3 + [b"452 4.5.3 Error: too many recipients"] * 37
        await client.ask(b"DATA\r\n")
        await client.ask(MESSAGE)
        assert len(door.spool.accepted[0].message.envelope.recipients) == 3
        await client.ask(MAIL)
        client.writer.write(RCPT * 1200)
        assert (await client.rest()).endswith(b"Error: too many errors\r\n")


async def test_a_lie_about_the_size_is_found_out() -> None:
    async with a_door(max_message_size=1000) as door:
        client = await door.connect()
        await client.ask(EHLO)
        assert (await client.submit(b"x" * 1001 + b"\r\n")).startswith(b"552 5.3.4 ")
        assert (await client.submit(b"x" * 900 + b"\r\n")).startswith(b"250 ")
        await client.ask(MAIL)
        await client.ask(RCPT)
        await client.ask(b"DATA\r\n")
        client.writer.write(b"y" * 5000)
        assert (await client.rest()).startswith(b"421 4.3.0 ")
        assert len(door.spool.accepted) == 1


async def test_bare_line_ends_are_normalised(door: Door, client: Dialogue) -> None:
    await client.submit(b"Subject: x\n\n..dot\na\rb\n\r\n")
    assert bodies(door) == [b".dot\r\na\r\nb\r\n\r\n"]


async def test_bare_line_ends_are_rejected_where_configured() -> None:
    async with a_door(line_ends="reject") as door:
        client = await door.connect()
        await client.ask(EHLO)
        assert (await client.submit(b"Subject: x\n\nbody\r\n")).startswith(b"550 5.6.11 ")
        assert (await client.submit(b"Subject: x\r\n\r\nbody\r\n")).startswith(b"250 ")
        assert len(door.spool.accepted) == 1


async def test_trouble_of_ours_is_temporary_and_tells_nothing() -> None:
    spoilt = [True]

    async def before(verb: str) -> None:
        if verb == "accept" and spoilt:
            spoilt.clear()
            raise OSError(28, "No space left on device: /secret/path")

    async with a_door(spool=MemorySpool(before)) as door:
        client = await door.connect()
        await client.ask(EHLO)
        reply = await client.submit(b"x\r\n")
        assert reply.startswith(b"451 4.3.0 Error: internal error ")
        assert b"space" not in reply
        notice = next(event for event in door.events if isinstance(event, Notice))
        assert reply.rpartition(b" ")[2].decode() in notice.text
        assert "OSError" in notice.text
        assert "secret" not in notice.text
        assert door.delivery.reserved == 0
        # Not "nested MAIL": the session goes on.
        assert (await client.submit(b"x\r\n")).startswith(b"250 ")


async def test_trouble_while_content_comes_in_takes_none_of_it_for_commands() -> None:
    async def before(verb: str) -> None:
        if verb == "stage":
            raise RuntimeError

    async with a_door(spool=MemorySpool(before)) as door:
        client = await door.connect()
        await client.ask(EHLO)
        reply = await client.submit(b"Subject: x\r\n\r\n" + b"QUIT\r\n" * 200_000)
        assert reply.startswith(b"451 4.3.0 ")
        assert await client.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"


async def test_a_silent_client_is_told_and_left() -> None:
    async with a_door(timeout=0.2) as door:
        client = await door.connect()
        assert (await client.rest()).startswith(b"421 4.4.2 ")


async def test_a_command_has_one_deadline_however_it_trickles() -> None:
    async with a_door(timeout=0.4) as door:
        client = await door.connect()
        reply = asyncio.create_task(client.reply())  # not all the rest: what comes too late for us is answered by RST
        while not reply.done():
            client.writer.write(b"N")
            await asyncio.wait([reply], timeout=0.035)
        assert reply.result().startswith(b"421 4.4.2 ")


async def test_content_that_goes_on_is_waited_for() -> None:
    async with a_door(timeout=0.3) as door:
        client = await door.connect()
        await client.ask(EHLO + MAIL + RCPT + b"DATA\r\n")
        for _ in range(3):
            await client.reply()
        for _ in range(8):
            client.writer.write(b"x" * 78 + b"\r\n")
            await asyncio.sleep(0.1)
        assert (await client.ask(b".\r\n")).startswith(b"250 ")


async def test_a_trickle_of_content_runs_into_the_deadline() -> None:
    async with a_door(timeout=0.5) as door:
        client = await door.connect()
        await client.ask(EHLO + MAIL + RCPT + b"DATA\r\n")
        for _ in range(3):
            await client.reply()
        answer = asyncio.create_task(client.reply())
        for _ in range(40):
            if answer.done():
                break
            client.writer.write(b"x")
            await asyncio.sleep(0.035)
        assert (await answer).startswith(b"421 4.4.2 ")
        assert not door.spool.accepted


async def test_a_slow_commit_is_not_the_clients_slowness() -> None:
    async def before(verb: str) -> None:
        if verb == "accept":
            await asyncio.sleep(0.5)

    async with a_door(spool=MemorySpool(before), timeout=0.2) as door:
        client = await door.connect()
        await client.ask(EHLO)
        assert (await client.submit(b"x\r\n")).startswith(b"250 ")


@pytest.mark.parametrize("half", [True, False])
async def test_leaving_during_the_commit_neither_loses_nor_breaks_anything(half: bool) -> None:
    committing, go_on = asyncio.Event(), asyncio.Event()

    async def before(verb: str) -> None:
        if verb == "accept":
            committing.set()
            await go_on.wait()

    async with a_door(spool=MemorySpool(before)) as door:
        client = await door.connect()
        client.writer.write(EHLO + MAIL + RCPT + b"DATA\r\n" + MESSAGE)
        await committing.wait()
        if half:
            client.writer.write_eof()
        else:
            client.writer.transport.abort()
        await asyncio.sleep(0.05)
        go_on.set()
        await door.until(lambda: bool(door.delivery.handed))
        assert len(door.spool.accepted) == 1
        if half:
            assert b"250 2.0.0 Ok: queued as " in await client.rest()
        await door.until(lambda: not door.listeners.sessions)
        assert not [event for event in door.events if isinstance(event, Notice)]


@pytest.mark.parametrize("ending", [b"", b"half a line", b"x\r\n.\r", b"x" * 600_000])
async def test_leaving_in_the_midst_of_content_stores_nothing(door: Door, client: Dialogue, ending: bytes) -> None:
    client.writer.write(MAIL + RCPT + b"DATA\r\n" + ending)
    client.writer.write_eof()
    await client.rest()
    assert not door.spool.accepted
    assert not door.spool.staged


async def test_a_client_that_reads_no_replies_is_cut_off() -> None:
    async with a_door(timeout=0.3) as door:
        client = await door.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(EHLO + MAIL)
        for _ in range(2000):
            client.writer.write(RCPT * 100)
            if not door.listeners.sessions:
                break
            await asyncio.sleep(0.005)
        assert not door.listeners.sessions


async def test_rejections_and_the_sessions_counts_are_told(door: Door, client: Dialogue) -> None:
    await client.ask(MAIL)
    await client.ask(b"RCPT TO:<a..b@c>\r\n")
    await client.ask(RCPT)
    await client.ask(b"QUIT\r\n")
    await client.rest()
    rejected = next(event for event in door.events if isinstance(event, Rejected))
    assert (rejected.client, rejected.command, rejected.sender, rejected.helo) == (
        "localhost[127.0.0.1]",
        "RCPT",
        "a@x.test",
        "app.test",
    )
    assert rejected.reply.startswith("553 5.1.3 ")
    await door.until(lambda: not door.listeners.sessions)
    ended = next(event for event in door.events if isinstance(event, Disconnected))
    assert ended.commands == (("EHLO", 1, 1), ("MAIL", 1, 1), ("RCPT", 1, 2), ("QUIT", 1, 1))


async def test_spool_trouble_at_mail() -> None:
    async with a_door() as door:
        door.spool.no_room = SpoolError("x")
        client = await door.connect()
        await client.ask(EHLO)
        assert (await client.ask(MAIL)).startswith(b"451 4.3.0 ")


async def test_the_end_of_a_line_that_was_too_long_is_no_command(door: Door, client: Dialogue) -> None:
    client.writer.write(b"NOOP " + b"x" * MAX_LINE)
    await client.writer.drain()
    await asyncio.sleep(0.05)
    assert await client.ask(MAIL) == b"500 5.5.2 Error: command line too long"
    assert (await client.ask(RCPT)).startswith(b"503 5.5.1 ")
    assert not door.spool.accepted


@pytest.mark.parametrize("gap", [0, 0.02])
async def test_a_client_that_leaves_behind_its_354(door: Door, client: Dialogue, gap: float) -> None:
    for command in (MAIL, RCPT):
        await client.ask(command)
    assert (await client.ask(b"DATA\r\n")).startswith(b"354 ")
    await asyncio.sleep(gap)
    client.writer.write_eof()
    assert await client.rest() == b""
    assert not door.spool.accepted


async def test_commands_one_by_one_cost_no_step_of_the_sessions_task(client: Dialogue, door: Door) -> None:
    (session,) = door.session_list()
    steps = 0
    receive = session._receive

    async def counted() -> bool:
        nonlocal steps
        steps += 1
        return await receive()

    session._receive = counted  # type: ignore[method-assign]
    for command in (MAIL, RCPT, b"RSET\r\n", MAIL, RCPT, b"DATA\r\n"):
        assert (await client.ask(command))[:1] in b"23"
    assert steps == 0
    assert (await client.ask(MESSAGE)).startswith(b"250 ")
    assert steps == 1
