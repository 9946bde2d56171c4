"""BDAT over loopback sockets (RFC 3030)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from relay.events import Rejected
from relay.listener.conversation import ERROR_LIMIT, JUNK_LIMIT
from relay.spool import PART_SIZE, SpoolError
from tests.listener.stand_ins import Dialogue, Door, MemorySpool, a_door

EHLO = b"EHLO app.test\r\n"
MAIL = b"MAIL FROM:<a@x.test>\r\n"
RCPT = b"RCPT TO:<b@y.test>\r\n"
HEAD = b"Subject: x\r\n\r\n"


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with a_door() as running:
        yield running


@pytest.fixture
async def client(door: Door) -> Dialogue:
    dialogue = await door.connect()
    assert b"250-CHUNKING\r\n" in await dialogue.ask(EHLO)
    return dialogue


def bdat(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


async def begin(client: Dialogue) -> None:
    await client.ask(MAIL)
    await client.ask(RCPT)


def body(door: Door, n: int = -1) -> bytes:
    return door.spool.content(n).partition(b"\r\n\r\n")[2]


async def test_chunks_become_one_message(door: Door, client: Dialogue) -> None:
    await begin(client)
    assert await client.ask(bdat(HEAD + b"a\r")) == b"250 2.0.0 Ok: 16 octets"
    assert (await client.ask(bdat(b"\n.\r\n..b\nQUIT\r\n"))).startswith(b"250 2.0.0 Ok: ")
    reply = await client.ask(bdat(b"", last=True))
    assert reply == b"250 2.0.0 Ok: queued as " + door.spool.accepted[0].message.queue_id.encode()
    assert body(door) == b"a\r\n.\r\n..b\r\nQUIT\r\n"


async def test_octets_look_like_commands_and_are_none(door: Door, client: Dialogue) -> None:
    await begin(client)
    trap = HEAD + b"\r\n.\r\nMAIL FROM:<evil@x.test>\r\nBDAT 5 LAST\r\n"
    assert (await client.ask(bdat(trap, last=True))).startswith(b"250 ")
    assert await client.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"
    assert len(door.spool.accepted) == 1


async def test_a_window_of_whole_messages_in_one_group(door: Door) -> None:
    client = await door.connect()
    await client.ask(EHLO)
    group = b"".join(MAIL + RCPT + bdat(HEAD + b"%d\r\n" % n, last=True) for n in range(50))
    client.writer.write(group + b"QUIT\r\n")
    replies = (await client.rest()).split(b"\r\n")
    assert [reply[:9] for reply in replies] == [b"250 2.1.0", b"250 2.1.5", b"250 2.0.0"] * 50 + [b"221 2.0.0", b""]
    assert [body(door, n) for n in range(50)] == [b"%d\r\n" % n for n in range(50)]


@pytest.mark.parametrize("pieces", [1, 2, 5, 40])
async def test_any_split_of_the_input_is_the_same(door: Door, client: Dialogue, pieces: int) -> None:
    octets = MAIL + RCPT + bdat(HEAD + b"one\r") + bdat(b"\ntwo\r\n", last=True) + b"QUIT\r\n"
    cuts = sorted(random.sample(range(1, len(octets)), pieces - 1))
    for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        client.writer.write(octets[start:end])
        await client.writer.drain()
        await asyncio.sleep(0.001)
    assert [reply[:3] for reply in (await client.rest()).split(b"\r\n")[:-1]] == [b"250"] * 4 + [b"221"]
    assert body(door) == b"one\r\ntwo\r\n"


async def test_a_large_chunk_is_staged_while_it_comes(door: Door, client: Dialogue) -> None:
    await begin(client)
    content = HEAD + b"0123456789\r\n" * (PART_SIZE // 4)
    assert (await client.ask(bdat(content, last=True))).startswith(b"250 ")
    assert body(door) == content[len(HEAD) :]
    assert len(door.spool.staged) == 1


@pytest.mark.parametrize(
    ("before", "codes"),
    [
        ([], [b"503 5.5.1", b"503 5.5.1"]),
        ([MAIL], [b"503 5.5.1", b"503 5.5.1"]),
        ([MAIL, b"RCPT TO:<bad..@y>\r\n"], [b"554 5.5.1", b"503 5.5.1"]),
    ],
)
async def test_out_of_order_chunks_are_read_and_refused(
    door: Door, client: Dialogue, before: list[bytes], codes: list[bytes]
) -> None:
    for command in before:
        await client.ask(command)
    client.writer.write(bdat(b"RSET\r\n") + bdat(b"QUIT\r\n", last=True) + MAIL + RCPT + bdat(HEAD, last=True))
    replies = [await client.reply() for _ in range(5)]
    assert [reply[:9] for reply in replies] == [*codes, b"250 2.1.0", b"250 2.1.5", b"250 2.0.0"]
    assert len(door.spool.accepted) == 1


async def test_a_message_without_its_first_chunk_is_never_taken(door: Door, client: Dialogue) -> None:
    await client.ask(MAIL)
    assert (await client.ask(bdat(HEAD))).startswith(b"503 ")
    assert (await client.ask(RCPT)).startswith(b"503 5.5.1 ")
    assert (await client.ask(bdat(b"rest\r\n", last=True))).startswith(b"503 ")
    assert not door.spool.accepted


async def test_data_and_bdat_do_not_mix(door: Door, client: Dialogue) -> None:
    await begin(client)
    await client.ask(bdat(HEAD))
    assert (await client.ask(b"DATA\r\n")).startswith(b"503 5.5.1 ")
    assert (await client.ask(RCPT)).startswith(b"503 5.5.1 ")
    assert (await client.ask(MAIL)).startswith(b"503 5.5.1 ")
    assert (await client.ask(bdat(b"x\r\n", last=True))).startswith(b"250 ")
    assert body(door) == b"x\r\n"


@pytest.mark.parametrize("command", [b"RSET\r\n", EHLO, b"HELO x\r\n"])
async def test_what_was_begun_can_be_given_up(door: Door, client: Dialogue, command: bytes) -> None:
    await begin(client)
    await client.ask(bdat(HEAD + b"x" * (PART_SIZE + 1)))
    assert len(door.spool.staged) == 1
    assert (await client.ask(command)).startswith(b"250")
    assert not door.spool.staged
    assert (await client.ask(bdat(b"x\r\n", last=True))).startswith(b"503 ")
    assert not door.spool.accepted


async def test_a_client_that_leaves_leaves_nothing_staged(door: Door, client: Dialogue) -> None:
    await begin(client)
    await client.ask(bdat(HEAD + b"x" * (PART_SIZE + 1)))
    client.writer.write(b"BDAT 100\r\nbegun")
    client.writer.close()
    await door.until(lambda: door.listeners.sessions == 0)
    assert not door.spool.staged


async def test_too_large_is_552_and_the_rest_is_swallowed() -> None:
    async with a_door(max_message_size=1000) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        client.writer.write(bdat(HEAD) + bdat(b"x" * 1200) + bdat(b"QUIT\r\n", last=True) + MAIL + b"NOOP\r\n")
        replies = [await client.reply() for _ in range(5)]
        assert [reply[:9] for reply in replies] == [
            b"250 2.0.0",
            b"552 5.3.4",
            b"503 5.5.1",
            b"250 2.1.0",
            b"250 2.0.0",
        ]
        assert [event.command for event in door.events if isinstance(event, Rejected)] == ["BDAT"]
        # Far over it nobody waits for the end.
        client.writer.write(b"BDAT 9999999999\r\n")
        assert (await client.rest()).startswith(b"552 5.3.4 ")


@pytest.mark.parametrize("argument", [b"", b" x", b" 5 FIRST", b" -1"])
async def test_a_chunk_of_unknown_length_ends_the_session(client: Dialogue, argument: bytes) -> None:
    client.writer.write(b"BDAT" + argument + b"\r\nRSET\r\n")
    rest = await client.rest()
    assert rest.startswith(b"501 5.5.4 ")
    assert rest.count(b"\r\n") == 1


async def test_line_ends_are_refused_where_asked() -> None:
    async with a_door(line_ends="reject") as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        assert (await client.ask(bdat(HEAD + b"bare\n"))).startswith(b"550 5.6.11 ")
        assert (await client.ask(bdat(b"x\r\n", last=True))).startswith(b"503 ")
        assert not door.spool.accepted


async def test_data_after_a_refused_chunk_gets_no_354() -> None:
    async with a_door(line_ends="reject") as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        assert (await client.ask(bdat(HEAD + b"bare\n"))).startswith(b"550 5.6.11 ")
        assert await client.ask(b"DATA\r\n") == b"503 5.5.1 Error: DATA after BDAT"
        assert await client.ask(b"RSET\r\n") == b"250 2.0.0 Ok"
        assert not door.spool.accepted


async def test_binarymime_is_not_offered(client: Dialogue) -> None:
    assert (await client.ask(b"MAIL FROM:<a@x.test> BODY=BINARYMIME\r\n")).startswith(b"501 5.5.4 ")


@pytest.mark.parametrize("verb", ["stage", "accept"])
async def test_trouble_of_ours_is_451_and_the_session_goes_on(verb: str) -> None:
    failing = True

    async def before(name: str) -> None:
        if name == verb and failing:
            raise SpoolError("no")

    async with a_door(spool=MemorySpool(before)) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        content = HEAD + b"x" * (PART_SIZE + 1)
        replies = [await client.ask(bdat(content)), await client.ask(bdat(b"\r\n", last=True))]
        assert replies[-1].startswith(b"451 4.3.0 ")
        failing = False
        await begin(client)
        assert (await client.ask(bdat(content, last=True))).startswith(b"250 ")
        assert len(door.spool.accepted) == 1


async def test_a_bug_in_a_chunk_is_451_and_swallows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_door() as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)

        async def broken(_self: object, _octets: bytes) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr("relay.listener.intake.Reception.write", broken)
            client.writer.write(bdat(HEAD) + bdat(b"x\r\n", last=True) + b"NOOP\r\n")
            replies = [await client.reply() for _ in range(3)]
        assert [reply[:9] for reply in replies] == [b"451 4.3.0", b"503 5.5.1", b"250 2.0.0"]
        assert not door.spool.accepted
        await begin(client)
        assert (await client.ask(bdat(HEAD, last=True))).startswith(b"250 ")


async def test_a_trickled_chunk_runs_into_the_deadline() -> None:
    async with a_door(timeout=0.5) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        client.writer.write(b"BDAT 1000\r\n")
        answer = asyncio.create_task(client.reply())
        for _ in range(40):
            if answer.done():
                break
            client.writer.write(b"x")
            await asyncio.sleep(0.05)
        assert (await answer).startswith(b"421 4.4.2 ")


async def test_trickled_chunks_run_into_the_deadline_as_one_chunk_does() -> None:
    async with a_door(timeout=0.5) as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        replies = [b""]
        while len(replies) < 60 and not replies[-1].startswith(b"421 "):
            client.writer.write(b"BDAT 1\r\nx")
            replies.append(await client.reply())
            await asyncio.sleep(0.05)
        assert replies[-1].startswith(b"421 4.4.2 ")
        assert len(replies) > 5


async def test_a_new_message_begins_with_all_of_its_time() -> None:
    async with a_door(timeout=0.5) as door:
        client = await door.connect()
        await client.ask(EHLO)
        for _ in range(4):
            await begin(client)
            await client.ask(bdat(HEAD))
            await asyncio.sleep(0.3)
            assert (await client.ask(bdat(b"x\r\n", last=True))).startswith(b"250 ")


async def test_chunks_of_nothing_are_junk() -> None:
    async with a_door() as door:
        client = await door.connect()
        await client.ask(EHLO)
        await begin(client)
        client.writer.write(bdat(b"") * (JUNK_LIMIT + ERROR_LIMIT + 10))
        replies = [await client.reply() for _ in range(JUNK_LIMIT + ERROR_LIMIT)]  # EHLO was junk too
        assert {reply[:9] for reply in replies[:-1]} == {b"250 2.0.0"}
        assert replies[-1].startswith(b"421 4.7.0 ")


async def test_the_last_chunk_may_be_of_nothing() -> None:
    async with a_door() as door:
        client = await door.connect()
        await client.ask(EHLO)
        for _ in range(JUNK_LIMIT + ERROR_LIMIT + 10):
            await begin(client)
            client.writer.write(bdat(HEAD) + bdat(b"", last=True))
            assert [(await client.reply())[:4] for _ in range(2)] == [b"250 ", b"250 "]
