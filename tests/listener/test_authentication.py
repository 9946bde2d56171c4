"""AUTH over loopback sockets: the dialogue of RFC 4954."""

from __future__ import annotations

from base64 import b64encode

import pytest

from relay.events import Accepted, Notice, Rejected
from relay.settings import ListenerSettings, Secret, UserSettings
from tests.listener.certificates import certificate
from tests.listener.stand_ins import Dialogue, Door, a_door
from tests.listener.test_users import BILLING, phc

EHLO = b"EHLO app.test\r\n"
PLAIN = b64encode(b"\0billing\0geheim")
WRONG = b64encode(b"\0billing\0falsch")
OPTIONAL = ListenerSettings(address="127.0.0.1:0", auth="optional")
REQUIRED = ListenerSettings(address="127.0.0.1:0", auth="required")
LONG = UserSettings("long", Secret(phc("x" * 8000)))
FULL = UserSettings("full", Secret(phc("x" * 9210)))


async def greeted(door: Door) -> Dialogue:
    client = await door.connect()
    assert b"250-AUTH PLAIN LOGIN\r\n" in await client.ask(EHLO)
    return client


@pytest.mark.parametrize(
    "lines",
    [
        [b"AUTH PLAIN " + PLAIN],
        [b"auth plain " + PLAIN],
        [b"AUTH PLAIN", PLAIN],
        [b"AUTH LOGIN", b64encode(b"billing"), b64encode(b"geheim")],
        [b"AUTH LOGIN " + b64encode(b"billing"), b64encode(b"geheim")],
    ],
)
async def test_who_is_proved_is_told_of(lines: list[bytes]) -> None:
    async with a_door(REQUIRED, users=[BILLING]) as door:
        client = await greeted(door)
        for line in lines[:-1]:
            assert (await client.ask(line + b"\r\n")).startswith(b"334 ")
        assert await client.ask(lines[-1] + b"\r\n") == b"235 2.7.0 Authentication successful"
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"503 5.5.1 ")
        assert (await client.submit(b"Subject: x\r\n\r\nx\r\n", sender=b"a@example.com")).startswith(b"250 ")
        method = lines[0][5:10].decode().upper()
        (accepted,) = (event for event in door.events if isinstance(event, Accepted))
        assert accepted.client == f"localhost[127.0.0.1], sasl_method={method}, sasl_username=billing"
        assert b"with ESMTPA id" in door.spool.content()
        # EHLO begins anew but the user stays (RFC 4954 §4).
        await client.ask(EHLO)
        assert (await client.submit(b"Subject: x\r\n\r\nx\r\n", sender=b"a@example.com")).startswith(b"250 ")
        assert b"with ESMTPA id" in door.spool.content()


async def test_all_in_one_group() -> None:
    async with a_door(REQUIRED, users=[BILLING]) as door:
        client = await greeted(door)
        client.writer.write(
            b"AUTH LOGIN\r\n" + b64encode(b"billing") + b"\r\n" + b64encode(b"geheim") + b"\r\nNOOP\r\n"
        )
        replies = [await client.reply() for _ in range(4)]
        assert [reply[:3] for reply in replies] == [b"334", b"334", b"235", b"250"]
        assert replies[:2] == [b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"]


async def test_before_it_is_proved_nothing_is_taken_where_it_is_required() -> None:
    async with a_door(REQUIRED, users=[BILLING]) as door:
        client = await greeted(door)
        for command in (b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@y.test>\r\n", b"DATA\r\n", b"BDAT 2 LAST\r\nab"):
            assert (await client.ask(command)).startswith(b"530 5.7.0 ")
        assert await client.ask(b"NOOP\r\n") == b"250 2.0.0 Ok"
        assert [event.command for event in door.events if isinstance(event, Rejected)][:1] == ["MAIL"]


async def test_where_it_is_optional_both_are_served() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        assert (await client.submit(b"x\r\n", sender=b"anybody@anywhere.test")).startswith(b"250 ")


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"AUTH"], b"501 5.5.4 "),
        ([b"AUTH PLAIN x y"], b"501 5.5.4 "),
        ([b"AUTH XOAUTH2 x"], b"504 5.5.4 "),
        ([b"AUTH PLAIN !!!"], b"501 5.5.2 "),
        ([b"AUTH PLAIN ="], b"501 5.5.2 "),
        ([b"AUTH PLAIN", b"*"], b"501 5.7.0 "),
        ([b"AUTH PLAIN", b"!!!"], b"501 5.5.2 "),
        ([b"AUTH PLAIN", b"\0"], b"501 5.5.2 "),
        ([b"AUTH LOGIN", b"*"], b"501 5.7.0 "),
        ([b"AUTH LOGIN", b"eA==", b"*"], b"501 5.7.0 "),
        ([b"AUTH PLAIN", b64encode(b"x" * 20000)], b"500 5.5.6 "),
        ([b"AUTH PLAIN " + b64encode(b"x" * 20000)], b"500 5.5.6 "),
        ([b"MAIL FROM:<a@example.com>", b"AUTH PLAIN " + PLAIN], b"503 5.5.1 "),
    ],
)
async def test_what_is_no_attempt_costs_no_try(lines: list[bytes], code: bytes) -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        for line in lines[:-1]:
            await client.ask(line + b"\r\n")
        assert (await client.ask(lines[-1] + b"\r\n")).startswith(code)
        await client.ask(b"RSET\r\n")
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"235 ")


async def test_before_ehlo_or_after_helo_there_is_no_auth() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await door.connect()
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"503 5.5.1 ")
        await client.ask(b"HELO old.test\r\n")
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"503 5.5.1 ")


async def test_a_bare_line_feed_ends_no_answer() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        await client.ask(b"AUTH PLAIN\r\n")
        assert (await client.ask(PLAIN + b"\n")).startswith(b"501 5.5.2 ")


async def test_a_long_initial_response_is_read() -> None:
    async with a_door(OPTIONAL, users=[LONG, FULL]) as door:
        client = await greeted(door)
        response = b64encode(b"\0long\0" + b"x" * 8000)
        assert (await client.ask(b"AUTH PLAIN " + response + b"\r\n")).startswith(b"235 ")
        whole = b64encode(b"\0full\0" + b"x" * 9210)
        assert len(whole) == 12_288, "what RFC 4954 §4 has a server take, beside the command's own words"
        assert (await client.ask(b"AUTH PLAIN " + whole[:-1] + b"\r\n")).startswith(b"503 5.5.1 ")
        other = await greeted(door)
        assert (await other.ask(b"AUTH PLAIN " + whole + b"\r\n")).startswith(b"235 ")
        # Other commands are no longer for it.
        assert (await client.ask(b"NOOP " + b"x" * 8000 + b"\r\n")).startswith(b"500 5.5.2 ")


async def test_three_wrong_tries_end_the_session_and_say_the_same() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        nobody = b64encode(b"\0nobody\0falsch")
        first = await client.ask(b"AUTH PLAIN " + WRONG + b"\r\n")
        assert first == b"535 5.7.8 Error: authentication failed"
        assert await client.ask(b"AUTH PLAIN " + nobody + b"\r\n") == first
        client.writer.write(b"AUTH PLAIN " + WRONG + b"\r\n")
        rest = (await client.rest()).split(b"\r\n")
        assert rest[0] == first
        assert rest[1].startswith(b"421 4.7.0 ")
        told = [event for event in door.events if isinstance(event, Notice)]
        said = "localhost[127.0.0.1]: SASL PLAIN authentication failed: authentication failure"
        # A name that nobody bears may be a password in the wrong field.
        assert [event.text for event in told] == [
            f"{said}, sasl_username=billing",
            said,
            f"{said}, sasl_username=billing",
        ]
        assert all(event.warning for event in told)


async def test_nothing_of_a_password_is_told() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        await client.ask(b"AUTH PLAIN " + b64encode(b"\0billing\0streng geheim") + b"\r\n")
        await client.ask(b"AUTH LOGIN\r\n")
        await client.ask(b64encode(b"streng geheim") + b"\r\n")
        await client.ask(b64encode(b"billing") + b"\r\n")
        await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")
        told = repr(door.events)
        for secret in (b"geheim", PLAIN, b64encode(b"\0billing\0streng geheim"), b64encode(b"streng geheim")):
            assert secret.decode() not in told


async def test_only_over_tls_where_there_is_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    pem = certificate(tmp_path_factory.mktemp("tls"))
    async with a_door(REQUIRED, users=[BILLING], tls="starttls", tls_cert=pem.path) as door:
        client = await door.connect()
        assert b"AUTH" not in await client.ask(EHLO)
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"538 5.7.11 ")
        await client.ask(b"STARTTLS\r\n")
        await client.start_tls(pem.trusted)
        assert b"AUTH PLAIN LOGIN" in await client.ask(EHLO)
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"235 ")
        assert (await client.submit(b"x\r\n", sender=b"a@example.com")).startswith(b"250 ")
        assert b"with ESMTPSA id" in door.spool.content()


async def test_a_user_sends_from_its_own_addresses() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")
        assert (await client.ask(b"MAIL FROM:<a@example.org>\r\n")).startswith(b"553 5.7.1 ")
        assert (await client.ask(b"MAIL FROM:<> AUTH=<>\r\n")).startswith(b"250 ")
        await client.ask(b"RSET\r\n")
        assert (await client.ask(b"MAIL FROM:<a@example.com> AUTH=a+40example.com\r\n")).startswith(b"250 ")
        (rejected,) = (event for event in door.events if isinstance(event, Rejected))
        assert (rejected.command, rejected.sender) == ("MAIL", "a@example.org")


async def test_without_auth_there_is_none() -> None:
    async with a_door() as door:
        client = await door.connect()
        assert b"AUTH" not in await client.ask(EHLO)
        assert (await client.ask(b"AUTH PLAIN " + PLAIN + b"\r\n")).startswith(b"502 5.5.1 ")


async def test_a_client_that_leaves_instead_of_answering() -> None:
    async with a_door(OPTIONAL, users=[BILLING]) as door:
        client = await greeted(door)
        await client.ask(b"AUTH PLAIN\r\n")
        client.writer.close()
        await door.until(lambda: door.listeners.sessions == 0)
