from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.mail import Body, Envelope, Recipient
from relay.outcome import Reply
from relay.sendmail import addresses, arguments, door, exits, message, program, proxy, spooling, submission
from relay.sendmail.arguments import Invocation, Mode
from relay.sendmail.door import Door
from relay.sendmail.exits import Exit, Failure
from relay.settings import SpoolSettings
from relay.spool import Claimed
from relay.spool.lock import SpoolLock
from relay.spool.sqlite import open_spool
from tests.peers.scripted import CLOSE, EXTENSIONS, RESET, Act, ScriptedUpstream, say

DSN = (*EXTENSIONS, "DSN")


# -- the command line ------------------------------------------------------------------------------------------------


def parsed(line: str, name: str = "relay-sendmail") -> Invocation:
    return arguments.parse(name, ["" if word == "''" else word for word in line.split()])


@pytest.mark.parametrize(
    ("line", "recipients", "dot_ends", "from_header"),
    [
        ("-FCronDaemon -i -B8BITMIME -oem root", ["root"], False, False),  # cron
        ("-t -i", [], False, True),  # PHP
        ("-oi -oem -f a@x.test -- b@y.test", ["b@y.test"], False, False),  # mutt
        ("-it b@y.test c@y.test", ["b@y.test", "c@y.test"], False, True),
        ("-bm -odb -oi -t", [], False, True),
        ("-oQ /var/queue -om -o7 -h 3 -n -v -G -U -Am -L tag -O Delivery=q -X /dev/null -d0.1 b", ["b"], True, False),
        ("-- -b", ["-b"], True, False),
        ("b", ["b"], True, False),
    ],
)
def test_what_programs_say(line: str, recipients: list[str], *, dot_ends: bool, from_header: bool) -> None:
    invocation = parsed(line)
    assert invocation.mode is Mode.SUBMIT
    assert (invocation.recipients, invocation.dot_ends, invocation.from_header) == (recipients, dot_ends, from_header)


def test_sender_name_and_configuration() -> None:
    invocation = parsed("-C relay.toml -F Joe -f a@x.test b")
    assert (invocation.config, invocation.full_name, invocation.sender) == ("relay.toml", "Joe", "a@x.test")
    assert parsed("-r c@x.test b").sender == "c@x.test"
    assert parsed("-f '' b").sender == ""
    assert parsed("b").sender is None


def test_parameters_of_delivery_reports() -> None:
    invocation = parsed("-N failure,DELAY -R hdrs -V a+b=ü b")
    assert (invocation.notify, invocation.ret, invocation.envid) == ("FAILURE,DELAY", "HDRS", "a+2Bb+3D+C3+BC")
    assert parsed("-N never b").notify == "NEVER"


@pytest.mark.parametrize(
    ("line", "name", "mode"),
    [
        ("", "mailq", Mode.LIST),
        ("-bp", "sendmail", Mode.LIST),
        ("-bs", "sendmail", Mode.SESSION),
        ("-q", "sendmail", Mode.FLUSH),
        ("", "newaliases", Mode.ALIASES),
        ("-bi", "sendmail", Mode.ALIASES),
        ("-I", "sendmail", Mode.ALIASES),
        ("-bm b", "sendmail", Mode.SUBMIT),
    ],
)
def test_modes(line: str, name: str, mode: Mode) -> None:
    assert parsed(line, name).mode is mode


def test_part_of_the_queue() -> None:
    assert parsed("-qI8889D160292").ids == ("8889D160292",)
    assert parsed("-qRexample.com").domain == "example.com"
    assert parsed("-qR@example.com").domain == "example.com"


@pytest.mark.parametrize(
    "line",
    [
        *("-bd", "-bd -q30m", "-q30m", "-qSsite", "-bv b", "-bt", "-Z", "-f", "-N sometimes b", "-N never,failure b"),
        *("-N failure,failure b", "-R all b", "-B BINARYMIME b", "b -f a@x.test", "-", f"-V {'+' * 34} b"),
    ],
)
def test_wrong_usage(line: str) -> None:
    with pytest.raises(Failure) as failure:
        parsed(line)
    assert failure.value.exit == Exit.USAGE


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a@x.test", ["a@x.test"]),
        ("root", ["root"]),
        ("Joe Q. Public <joe@x.test>", ["joe@x.test"]),
        ('"Public, Joe" <joe@x.test>, b@y.test', ["joe@x.test", "b@y.test"]),
        ('"a \\" , <no@z.test>" <joe@x.test>', ["joe@x.test"]),
        ("a@x.test (home (old), c@z.test), b@y.test", ["a@x.test", "b@y.test"]),
        ("a (comment \\) still) @ x . test", ["a@x.test"]),
        ("Friends: a@x.test, Bea <b@y.test>;, c@z.test", ["a@x.test", "b@y.test", "c@z.test"]),
        ("undisclosed-recipients:;", []),
        ("undisclosed-recipients:; (none)", []),
        ("a@x.test,\r\n\tBea\r\n <b@y.test>", ["a@x.test", "b@y.test"]),
        ("a@x.test; b@y.test", ["a@x.test", "b@y.test"]),
        (", a@x.test,,", ["a@x.test"]),
        ('"joe blow"@x.test', ['"joe blow"@x.test']),
        ('"joe\r\n blow"@x.test', ['"joe blow"@x.test']),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("<a@[IPv6:2001:db8::1]>", ["a@[IPv6:2001:db8::1]"]),
        ("<@one.test,@two.test:a@x.test>, b@y.test", ["a@x.test", "b@y.test"]),
        ("Jörg <jörg@bücher.test>", ["jörg@bücher.test"]),
        ("=?utf-8?Q?J=C3=B6rg=2C?= <a@x.test>", ["a@x.test"]),
        ("", []),
        ("(nobody)", []),
    ],
)
def test_address_lists(text: str, found: list[str]) -> None:
    assert addresses.parse_list(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("Joe Blow", "a@x.test b@y.test", "a@", "@x.test", "a@x@y", "<>", "<a@x.test", "a@x.test>", "<a@x.test> b"),
        *("<a@x.test><b@y.test>", "a(unclosed", 'a"unclosed', "a@x.test)", "a..b@x.test", "\\a@x.test", ": a@x.test;"),
        *("a@x.test\x00", '"a\r\nDATA"@x.test', "a@\udcff.test", "<a@x.test, b@y.test>", "a@b: c@x.test;"),
    ],
)
def test_what_is_no_address_is_bad_data(text: str) -> None:
    with pytest.raises(Failure) as failure:
        addresses.parse_list(text)
    assert failure.value.exit == Exit.DATA
    assert str(failure.value).isprintable()


def test_a_sender_is_one_address_or_none() -> None:
    assert addresses.parse_one("") == addresses.parse_one("<>") == ""
    assert addresses.parse_one("App <a@x.test>") == "a@x.test"
    assert addresses.parse_one("www-data") == "www-data"
    with pytest.raises(Failure):
        addresses.parse_one("a@x.test, b@y.test")


@pytest.mark.timeout(10)
def test_parsing_is_linear() -> None:
    for text in ("(" * 50_000, '"' + "\\" * 50_001, "a," * 50_000, "<" * 50_000, "(a)" * 30_000, "a." * 50_000):
        try:
            addresses.parse_list(text)
        except Failure as failure:
            assert len(str(failure)) < 300  # noqa: PT017 - some are lists, some are not


# -- the message -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\r\nc\rd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"a\n.\nb\n", b"a\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n"),
        (b"a\n.", b"a\r\n"),
        (b"a\n..\n.b\n . \n", b"a\r\n..\r\n.b\r\n . \r\n"),
        (b".\n", b""),
        (b"", b""),
        (b"\x00\xff\n", b"\x00\xff\r\n"),
    ],
)
def test_reading_up_to_the_dot(given: bytes, read: bytes) -> None:
    assert message.read(BytesIO(given), dot_ends=True) == read


def test_a_lone_dot_is_text_with_i() -> None:
    assert message.read(BytesIO(b"a\n.\nb\n."), dot_ends=False) == b"a\r\n.\r\nb\r\n.\r\n"


def test_what_follows_the_dot_is_not_waited_for() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"Subject: x\n\nhello\n.\n")
    with open(read_end, "rb") as source:  # noqa: PTH123 - a descriptor
        assert message.read(source, dot_ends=True) == b"Subject: x\r\n\r\nhello\r\n"
    os.close(write_end)


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def test_recipients_of_the_header() -> None:
    content = crlf(
        "From: no@x.test\nTO: a@x.test,\n b@x.test\nCc : c\nX-To: no@x.test\nBcc: d@x.test\n\nTo: no@x.test\n"
    )
    assert message.recipients(content) == ["a@x.test", "b@x.test", "c", "d@x.test"]


def test_a_message_sent_again_has_its_own_recipients() -> None:
    content = crlf("Resent-From: me@x.test\nResent-To: a@x.test\nResent-Bcc: b@x.test\nTo: no@x.test\n\n")
    assert message.recipients(content) == ["a@x.test", "b@x.test"]


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ("Subject: x\n\nbody\n", "Subject: x\nFrom: Joe <a@x.test>\n\nbody\n"),
        ("Subject: x\n", "Subject: x\nFrom: Joe <a@x.test>\n"),
        ("Subject: x\n folded\n\n", "Subject: x\n folded\nFrom: Joe <a@x.test>\n\n"),
        ("no header at all\n", "From: Joe <a@x.test>\n\nno header at all\n"),
        ("\nFrom: in the body\n", "From: Joe <a@x.test>\n\nFrom: in the body\n"),
        ("", "From: Joe <a@x.test>\n\n"),
        ("From a@x.test Sat Nov 21\nSubject: x\n\n", "From a@x.test Sat Nov 21\nSubject: x\nFrom: Joe <a@x.test>\n\n"),
        ("from: b@y.test\n\nbody\n", "from: b@y.test\n\nbody\n"),
        ("Resent-From: b@y.test\n\n", "Resent-From: b@y.test\nFrom: Joe <a@x.test>\n\n"),
    ],
)
def test_a_missing_from_is_added(given: str, result: str) -> None:
    assert message.with_from(crlf(given), "a@x.test", "Joe") == crlf(result)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", "From: <a@x.test>"),
        ("Cron Daemon", "From: Cron Daemon <a@x.test>"),
        ('J. "Q" Public\\', 'From: "J. \\"Q\\" Public\\\\" <a@x.test>'),
        ("two\nlines\r", "From: two lines <a@x.test>"),
        ("Jörg", "From: =?utf-8?B?SsO2cmc=?= <a@x.test>"),
        ("bad\udcff", "From: bad <a@x.test>"),
    ],
)
def test_names_are_made_fit_for_a_header(name: str, field: str) -> None:
    assert message.with_from(b"\r\n", "a@x.test", name) == f"{field}\r\n\r\n".encode()


def test_a_long_name_is_several_encoded_words() -> None:
    from email.header import decode_header, make_header

    name = "Größe und Straße " * 6
    content = message.with_from(b"\r\n", "a@x.test", name)
    assert max(map(len, content.split(b"\r\n"))) <= 76
    field = content.decode().partition("From: ")[2].partition(" <")[0].replace("\r\n", "\n")
    assert str(make_header(decode_header(field))) == name.strip()


# -- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(550, "unknown", "5.1.1"), 67),
        (Reply(550, "null MX", "5.1.10"), 67),
        (Reply(550, "no such host", "5.1.2"), 68),
        (Reply(553, "bad address syntax", "5.1.3"), 65),
        (Reply(550, "bare LF", "5.6.11"), 65),
        (Reply(550, "no", "5.7.1"), 77),
        (Reply(530, "authenticate"), 77),
        (Reply(521, "not for you"), 77),
        (Reply(552, "too large", "5.3.4"), 69),
        (Reply(554, "no"), 69),
        (Reply(452, "full", "4.3.1"), 75),
        (Reply(450, "unknown for now", "4.1.1"), 75),
        (Reply(250, "what?"), 75),
    ],
)
def test_exit_codes(reply: Reply, code: int) -> None:
    assert exits.exit_of(reply) == code


# -- where to -------------------------------------------------------------------------------------------------------


def configured(folder: Path, text: str) -> str:
    file = folder / "relay.toml"
    file.write_text('hostname = "relay.test"\n[upstream.s]\nkind = "simulator"\n' + text)
    return str(file)


UNFIT = '[listener.a]\ntls = "implicit"\n[listener.b]\nauth = "required"\n[listener.c]\nproxy_networks = ["::1"]\n'


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", ("127.0.0.1", 2525)),
        ('[listener.a]\naddress = "0.0.0.0:25"\n[listener.b]\naddress = "127.0.0.1:26"\n', ("127.0.0.1", 25)),
        ('[listener.a]\naddress = "[::]:25"\n', ("::1", 25)),
        ('[listener.a]\naddress = "unix:run/smtp.sock"\n', "run/smtp.sock"),
        (UNFIT + '[listener.d]\naddress = "127.0.0.1:26"\ntls = "starttls"\nauth = "optional"\n', ("127.0.0.1", 26)),
    ],
)
def test_the_door_is_the_first_listener_that_fits(tmp_path: Path, text: str, target: tuple[str, int] | str) -> None:
    found = door.find(configured(tmp_path, text), {})
    assert found.target == (str(tmp_path / target) if isinstance(target, str) else target)
    assert (found.domain, found.max_recipients) == ("relay.test", 1000)


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    file = configured(tmp_path, '[listener.app]\naddress = "127.0.0.1:26"\n')
    overlay = {"RELAY__LISTENER__APP__ADDRESS": "127.0.0.1:27", "RELAY__HOSTNAME": "other.test"}
    found = door.find(None, {"RELAY_CONFIG": file, **overlay, "RELAY__LISTENER__APP__MAX_RECIPIENTS": "5"})
    assert (found.target, found.domain, found.max_recipients) == (("127.0.0.1", 27), "other.test", 5)


def test_addresses_get_the_domain_that_the_relay_gives_them(tmp_path: Path) -> None:
    assert door.find(configured(tmp_path, '[rewrite]\ndefault_domain = "example.com"\n'), {}).domain == "example.com"


def test_no_listener_fits(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no listener without") as failure:
        door.find(configured(tmp_path, UNFIT), {})
    assert failure.value.exit == Exit.CONFIG


def test_the_door_needs_no_secret(tmp_path: Path) -> None:
    file = configured(tmp_path, '[upstream.t]\nhost = "h.test"\nusername = "u"\npassword_file = "not-there"\n')
    assert door.find(file, {}).target == ("127.0.0.1", 2525)


def test_a_wrong_configuration_is_told_as_relay_check_tells_it(tmp_path: Path) -> None:
    for text in ('[listener.a]\naddress = "nowhere"\n', "[listener.a]\nmax_recipients = []\n", "[listener\n"):
        with pytest.raises(Failure, match=r"relay\.toml: .*found .*; allowed: ") as failure:
            door.find(configured(tmp_path, text), {})
        assert failure.value.exit == Exit.CONFIG
    with pytest.raises(Failure, match="no such file"):
        door.find(str(tmp_path / "missing.toml"), {})


# -- by SMTP ---------------------------------------------------------------------------------------------------------


def envelope(*to: str, sender: str = "a@x.test", body: Body = Body.SEVEN_BIT, notify: str | None = None) -> Envelope:
    wide = not all(address.isascii() for address in (sender, *to))
    report = ("HDRS", "id") if notify else (None, None)
    return Envelope(sender, tuple(Recipient(n, each, notify) for n, each in enumerate(to)), body, wide, *report)


def door_of(peer: ScriptedUpstream, max_recipients: int = 1000) -> Door:
    return Door(Path("relay.toml"), ("127.0.0.1", peer.port), "here.test", max_recipients)


async def submit(peer: ScriptedUpstream, given: Envelope, content: bytes = b"\r\nx\r\n", most: int = 1000) -> None:
    await asyncio.to_thread(submission.submit, door_of(peer, most), given, content)


async def test_a_message_arrives_octet_for_octet() -> None:
    content = b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n\xc3\xbc\x00\r\n"
    async with ScriptedUpstream(extensions=DSN) as peer:
        await submit(peer, envelope("b@y.test", "c@y.test", body=Body.EIGHT_BIT, notify="NEVER"), content)
        assert [each.content for each in peer.messages] == [content]
        mail, *recipients = peer.commands[1:4]
        assert mail == f"MAIL FROM:<a@x.test> SIZE={len(content)} BODY=8BITMIME RET=HDRS ENVID=id".encode()
        assert recipients == [b"RCPT TO:<b@y.test> NOTIFY=NEVER", b"RCPT TO:<c@y.test> NOTIFY=NEVER"]
        assert peer.commands[-1] == b"QUIT"
        assert not peer.violations


async def test_only_what_is_offered_is_used() -> None:
    async with ScriptedUpstream(extensions=()) as peer:
        await submit(peer, envelope("b@y.test", body=Body.EIGHT_BIT, notify="NEVER"))
        assert peer.commands[1:3] == [b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>"]
        assert not peer.violations
        with pytest.raises(Failure, match="ASCII") as failure:
            await submit(peer, envelope("jörg@y.test"))
        assert failure.value.exit == Exit.DATA


async def test_addresses_beyond_ascii() -> None:
    async with ScriptedUpstream() as peer:
        await submit(peer, envelope("jörg@y.test", sender=""))
        assert peer.messages[0].mail == b"MAIL FROM:<> SIZE=5 BODY=7BIT SMTPUTF8"
        assert peer.messages[0].recipients == ("jörg@y.test",)


@pytest.mark.parametrize("extensions", [EXTENSIONS, ()])
@pytest.mark.parametrize(
    ("step", "reply", "code"),
    [
        ("GREETING", "521 5.3.2 not for you", 77),
        ("GREETING", "450 4.3.2 not now", 75),
        ("EHLO", "550 5.7.1 no", 77),
        ("MAIL", "552 5.3.4 too large", 69),
        ("RCPT b@y.test", "550 5.1.1 unknown", 67),
        ("RCPT b@y.test", "452 4.5.3 too many", 75),
        ("DATA", "451 4.3.0 trouble", 75),
        ("CONTENT", "554 5.4.6 loop", 69),
        ("CONTENT", "452 4.3.1 full", 75),
        ("CONTENT", "nonsense", 75),
    ],
)
async def test_refusals(step: str, reply: str, code: int, extensions: tuple[str, ...]) -> None:
    async with ScriptedUpstream({step: say(reply)}, extensions) as peer:
        with pytest.raises(Failure) as failure:
            await submit(peer, envelope("a@y.test", "b@y.test", "c@y.test"))
        assert failure.value.exit == code
        assert peer.accepted() == []
        # All or nothing: one recipient refused, and no content goes out.
        assert len(peer.messages) == (step == "CONTENT")


@pytest.mark.parametrize("act", [CLOSE, RESET])
@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
async def test_a_lost_connection_may_be_tried_again_but_for_the_content(step: str, act: Act) -> None:
    async with ScriptedUpstream({step: act}) as peer:
        with pytest.raises(Failure if step == "CONTENT" else submission.Busy, match="connection lost") as trouble:
            await submit(peer, envelope("b@y.test"))
        assert getattr(trouble.value, "exit", Exit.TEMPORARY) == Exit.TEMPORARY
        assert peer.accepted() == []


async def test_the_goodbye_does_not_matter() -> None:
    async with ScriptedUpstream({"QUIT": RESET}) as peer:
        await submit(peer, envelope("b@y.test"))
        assert len(peer.accepted()) == 1


async def test_many_recipients_go_in_parts() -> None:
    everybody = [f"{n}@y.test" for n in range(7)]
    async with ScriptedUpstream() as peer:
        await submit(peer, envelope(*everybody), most=3)
        assert [each.recipients for each in peer.messages] == [
            tuple(everybody[:3]),
            tuple(everybody[3:6]),
            tuple(everybody[6:]),
        ]


async def test_a_later_part_refused_says_who_has_it() -> None:
    for reply, code in (("550 5.1.1 unknown", 67), ("421 4.3.2 stopping", 75)):
        async with ScriptedUpstream({"RCPT 3@y.test": say(reply)}) as peer:
            with pytest.raises(Failure, match="first 3 of 4 recipients") as failure:
                await submit(peer, envelope(*(f"{n}@y.test" for n in range(4))), most=3)
            assert failure.value.exit == code


@pytest.mark.parametrize("step", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
async def test_a_full_or_stopping_relay_is_busy(step: str) -> None:
    async with ScriptedUpstream({step: say("421 4.3.2 stopping", close=True)}) as peer:
        with pytest.raises(submission.Busy, match="421"):
            await submit(peer, envelope("b@y.test"))


def test_nobody_there(tmp_path: Path, closed_port: int) -> None:
    for target in (("127.0.0.1", closed_port), str(tmp_path / "missing.sock")):
        with pytest.raises(submission.NobodyThere):
            submission.submit(Door(tmp_path, target, "here.test", 1), envelope("b@y.test"), b"")


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with submission.connect(Door(tmp_path, path, "here.test", 1)) as connection:
            assert connection.getpeername() == path


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- into the spool --------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, closed_port: int) -> Path:
    text = f"""[listener.app]\naddress = "127.0.0.1:{closed_port}"\nmax_message_size = "1MB"
[spool]\nurl = "sqlite:///spool/spool.db"\nmin_free_disk = "0MB"\n[log]\ntarget = "./relay.log"\n"""
    file = Path(configured(tmp_path, text))
    asyncio.run(spooled(file))
    return file


async def spooled(config: Path) -> list[tuple[Claimed, bytes]]:
    """What is due in the spool, which is made where there is none."""
    settings = SpoolSettings(str(config.with_name("spool") / "spool.db"), min_free_disk=0)
    spool = await open_spool(settings, clock=SystemClock())
    try:
        claimed = await spool.claim(SystemClock().now(), 10, 0)
        contents = [
            b"".join([await spool.content(each.message.number, part) for part in range(each.parts)]) for each in claimed
        ]
        return list(zip(claimed, contents, strict=True))
    finally:
        await spool.close()


def test_kept_as_a_listener_keeps_it(config: Path) -> None:
    spooling.keep(config, {}, envelope("b@y.test", notify="NEVER"), b"Bcc: c@y.test\r\nSubject: x\r\n\r\n.\r\nbody\r\n")
    ((claimed, content),) = asyncio.run(spooled(config))
    assert claimed.message.envelope == envelope("b@y.test", notify="NEVER")
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b".\r\nbody\r\n"
    assert head.startswith(
        b"Received: from relay.test (localhost [127.0.0.1])\r\n\tby relay.test (relay) with local id "
    )
    assert b"Bcc" not in head
    assert b"\r\nMessage-ID: <" in head
    log = config.with_name("relay.log").read_text()
    assert f"{claimed.message.queue_id}: client=localhost[127.0.0.1]" in log
    assert "from=<a@x.test>" in log


def test_large_mail_is_kept_in_parts(config: Path) -> None:
    body = b"0123456789abcde\r\n" * 40_000
    spooling.keep(config, {}, envelope("b@y.test"), b"\r\n" + body)
    ((claimed, content),) = asyncio.run(spooled(config))
    assert claimed.parts > 1
    assert content.endswith(b"\r\n\r\n" + body)


def test_the_spool_refuses_what_a_listener_refuses(config: Path) -> None:
    with pytest.raises(Failure, match=r"552 5\.3\.4") as failure:
        spooling.keep(config, {}, envelope("b@y.test"), b"\r\n" + b"x" * 1_000_000)
    assert failure.value.exit == Exit.UNAVAILABLE
    with pytest.raises(Failure, match=r"554 5\.4\.6"):
        spooling.keep(config, {}, envelope("b@y.test"), b"Received: x\r\n" * 51 + b"\r\n")
    assert asyncio.run(spooled(config)) == []


def test_a_spool_in_use_is_left_alone(config: Path) -> None:
    with SpoolHeld(config), pytest.raises(spooling.Locked):
        spooling.keep(config, {}, envelope("b@y.test"), b"\r\n")


def test_no_spool_is_made(config: Path) -> None:
    shutil.rmtree(config.with_name("spool"))
    with pytest.raises(Failure, match="no spool") as failure:
        spooling.keep(config, {}, envelope("b@y.test"), b"\r\n")
    assert failure.value.exit == Exit.TEMPORARY
    assert not config.with_name("spool").exists()


class SpoolHeld:
    """The spool's lock, held by this process."""

    def __init__(self, config: Path) -> None:
        self.spool = config.with_name("spool") / "spool.db"

    def __enter__(self) -> None:
        self.lock = SpoolLock.take(self.spool)

    def __exit__(self, *_: object) -> None:
        self.lock.release()


# -- the program -----------------------------------------------------------------------------------------------------


MODULE = ("-m", "relay.sendmail")
# Imported before: the interpreter may lie where nobody can't look.
AS_NOBODY = (
    "-c",
    """if True:
        import os, pwd, sys
        import relay.sendmail.spooling
        from relay.sendmail import main
        os.setgroups([])
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        sys.exit(main())
    """,
)


def run(config: Path, *options: str, stdin: bytes = b"hello\n", start: tuple[str, ...] = MODULE) -> tuple[int, str]:
    """Exit code and standard error of the command, in a process of its own."""
    command = [sys.executable, *start, "-C", str(config), *options]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
    assert not done.stdout
    return done.returncode, done.stderr.decode()


def test_while_no_relay_runs_mail_goes_into_the_spool(config: Path) -> None:
    assert run(config, "-FJoe", "b@y.test") == (0, "")
    assert run(config, "-t", stdin=b"To: c\nFrom: x@x.test\n\nhello\n.\nno\n") == (0, "")
    (one, first), (two, second) = asyncio.run(spooled(config))
    me = f"{pwd.getpwuid(os.getuid()).pw_name}@relay.test"
    assert (one.message.envelope.sender, one.message.envelope.recipients[0].address) == (me, "b@y.test")
    assert first.endswith(f"From: Joe <{me}>\r\n\r\nhello\r\n".encode())
    assert two.message.envelope.recipients[0].address == "c@relay.test"
    assert second.endswith(b"To: c\r\nFrom: x@x.test\r\n\r\nhello\r\n")


def test_a_null_sender_still_has_a_from(config: Path) -> None:
    assert run(config, "-f", "<>", "b@y.test") == (0, "")
    ((claimed, content),) = asyncio.run(spooled(config))
    assert claimed.message.envelope.sender == ""
    assert b"<>" not in content


def test_8_bit_content_is_declared(config: Path) -> None:
    assert run(config, "-B7BIT", "b@y.test", stdin="Grüße\n".encode()) == (0, "")
    ((claimed, _),) = asyncio.run(spooled(config))
    assert claimed.message.envelope.body is Body.EIGHT_BIT


def test_no_recipients_is_wrong_usage(config: Path) -> None:
    assert run(config)[0] == run(config, "-t", stdin=b"Subject: x\n\n")[0] == Exit.USAGE
    assert run(config, "-bd") == (64, "__main__.py: -bd: the relay is started with: relay serve\n")


def test_an_id_that_is_none_is_wrong_usage(config: Path) -> None:
    asyncio.run(spooled(config))
    code, said = run(config, "-qIBAD")
    assert (code, "BAD" in said) == (Exit.USAGE, True)


def test_a_locked_spool_without_a_listener_is_waited_for(config: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with SpoolHeld(config):
            running = pool.submit(run, config, "b@y.test")
            with pytest.raises(TimeoutError):
                running.result(1.5)
        assert running.result(30) == (0, "")
    assert len(asyncio.run(spooled(config))) == 1


def test_it_is_waited_for_only_so_long(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "argv", ["relay-sendmail", "-C", str(config), "b@y.test"])
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"hello\n")))
    with SpoolHeld(config):
        assert program.main() == Exit.TEMPORARY


def test_a_bug_of_ours_is_temporary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> Invocation:
        raise ZeroDivisionError

    monkeypatch.setattr(arguments, "parse", broken)
    assert program.main() == Exit.TEMPORARY
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.fixture
def open_to_all(closed_port: int) -> Iterator[Path]:
    """A configuration that everybody can read, and its spool; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        text = f'[listener.app]\naddress = "127.0.0.1:{closed_port}"\n[spool]\nurl = "sqlite:///spool/spool.db"\n'
        config = Path(configured(folder, f'{text}min_free_disk = "0MB"\n'))
        asyncio.run(spooled(config))
        yield config


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can be somebody else")
def test_the_superuser_writes_as_the_spools_owner(open_to_all: Path) -> None:
    folder = open_to_all.with_name("spool")
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert run(open_to_all, "b@y.test") == (0, "")
    assert {path.stat().st_uid for path in folder.iterdir()} == {nobody.pw_uid}
    assert len(asyncio.run(spooled(open_to_all))) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can be somebody else")
def test_who_may_not_write_to_the_spool_is_told_to_try_later(open_to_all: Path) -> None:
    code, told = run(open_to_all, "b@y.test", start=AS_NOBODY)
    assert code == Exit.TEMPORARY
    assert "Permission denied" in told
    assert asyncio.run(spooled(open_to_all)) == []


# -- -bs -------------------------------------------------------------------------------------------------------------


def proxied(given: bytes, answer: Callable[[socket.socket], None]) -> tuple[bool, bytes]:
    """Run the proxy on ``given`` with ``answer`` as the listener: whether it ended well, and what came out."""
    ours, theirs = socket.socketpair()
    source, source_end = os.pipe()
    sink_end, sink = os.pipe()
    os.write(source_end, given)
    os.close(source_end)
    with ours, theirs, ThreadPoolExecutor() as pool:
        answering = pool.submit(answer, theirs)
        ended = proxy.run(ours, source, sink)
        answering.result()
    os.close(sink)
    with open(sink_end, "rb") as output:  # noqa: PTH123 - a descriptor
        said = output.read()
    os.close(source)
    return ended, said


def test_a_session_passes_both_ways() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(b"250 " + line)
        connection.sendall(b"221 bye\r\n")
        connection.close()

    ended, said = proxied(b"EHLO x\r\n\x00\xff\r\n", answer)
    assert ended
    assert said == b"220 hello\r\n250 EHLO x\r\n250 \x00\xff\r\n221 bye\r\n"


def test_what_a_relay_said_before_it_hung_up_is_passed_on() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"421 4.3.2 stopping\r\n")
        connection.close()

    assert proxied(b"EHLO x\r\n" * 100, answer) == (True, b"421 4.3.2 stopping\r\n")


def test_a_silent_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "PATIENCE", 0.1)
    assert proxied(b"", lambda connection: None) == (False, b"")
