from __future__ import annotations

import json
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.events import Accepted, Attempted, Connected, Event, Notice, Rejected, Removed, Status
from relay.maillog import MailLog, targets
from relay.maillog.grammar import Grammar
from relay.maillog.key import make_key, read_key
from relay.maillog.objects import Objects, facts, name_of
from relay.maillog.pseudonyms import Pseudonyms
from relay.maillog.targets import Journal, is_journal
from relay.settings import LogSettings
from tests.test_maillog import AT, CLIENT, EVENTS, ID, PFLOGSUMM, SES, foreign

GOLDEN = Path(__file__).with_name("maillog.json.golden")
OPERATIONS = Path(__file__).parents[1] / "docs" / "operations.md"
UTC_AT = 1795302811.25
PSEUDONYMS = Pseudonyms(b"k" * 32)


def objects() -> Objects:
    return Objects("relay.example.com", 4822)


def attempted(recipient: str, detail: str) -> Attempted:
    return Attempted(AT, ID, recipient, "ses", SES, Status.BOUNCED, "5.1.1", detail)


# -- JSON -----------------------------------------------------------------------------------------------------------


def test_keys_and_values_are_stable() -> None:
    """Programs read these: a key that changes breaks them. The time is the zone's, so it is compared elsewhere."""
    lines = [{**json.loads(objects().lines(event)), "time": ""} for event in EVENTS]
    assert lines == [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def test_times_are_utc_with_milliseconds_and_keys_in_order() -> None:
    line = objects().lines(Removed(UTC_AT, ID))
    assert line == (
        '{"time":"2026-11-21T23:13:31.250+00:00","event":"removed","level":"info","host":"relay","pid":4822,'
        f'"queue_id":"{ID}"}}\n'
    )


def test_a_warning_is_a_level() -> None:
    told = json.loads(objects().lines(Notice(AT, "master", "look", warning=True)))
    assert told["level"] == "warning"
    assert "warning" not in told


@settings(deadline=None)
@given(foreign | st.text(), foreign)
def test_every_event_is_one_line_of_ascii_whatever_the_outside_says(a: str, b: str) -> None:
    for event in (Notice(AT, "smtp", a), Rejected(AT, a, "RCPT", b, a, b, a), attempted(a, b), Connected(AT, b)):
        line = objects().lines(event)
        assert line.isascii()
        assert line.splitlines() == [line.rstrip("\n")]
        json.loads(line)["event"].encode()


def test_lone_surrogates_stay_out_since_strict_readers_refuse_them() -> None:
    assert json.loads(objects().lines(Notice(AT, "smtp", "\udc80ü")))["text"] == "?ü"


def test_every_key_is_documented() -> None:
    table = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \| (.*?) \|", OPERATIONS.read_text(), re.MULTILINE)}
    for event in EVENTS:
        documented = set(re.findall(r"`(\w+)`", table[name_of(event)]))
        assert facts(event).keys() == documented, name_of(event)
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_the_log_is_json_where_it_is_asked_to(tmp_path: Path) -> None:
    target = tmp_path / "relay.log"
    log = MailLog(LogSettings(format="json", target=str(target)), "relay", pid=7)
    log.emit(Removed(AT, ID))
    log.emit(Removed(AT, "A2"))
    assert log.close()
    assert [json.loads(line)["queue_id"] for line in target.read_text().splitlines()] == [ID, "A2"]


# -- recipients = "hash" --------------------------------------------------------------------------------------------

NAME = PSEUDONYMS.of("Bob.Smith@y.example").partition("@")[0]


@pytest.mark.parametrize(
    ("detail", "wanted"),
    [
        ("550 5.1.1 <bob.smith@y.example>: no", f"550 5.1.1 <{NAME}@y.example>: no"),
        ("550 BOB.SMITH@Y.EXAMPLE: no", f"550 {NAME}@Y.EXAMPLE: no"),
        ("550 user bob.smith unknown", f"550 user {NAME} unknown"),
        ("550 sorry, bob.smith.", f"550 sorry, {NAME}."),
        ("550 to=bob.smith@y.example.", f"550 to={NAME}@y.example."),
        ("550 bob.smith%40y.example", f"550 {NAME}%40y.example"),
        ("550 mailto:bob.smith@y.example?x", f"550 mailto:{NAME}@y.example?x"),
        ("550 bobby.smithson stays", "550 bobby.smithson stays"),
        ("250 2.0.0 Ok: queued as 1", "250 2.0.0 Ok: queued as 1"),
    ],
)
def test_a_reply_tells_no_more_than_the_field(detail: str, wanted: str) -> None:
    hidden = PSEUDONYMS.conceal(attempted("Bob.Smith@y.example", detail))
    assert hidden == attempted(f"{NAME}@y.example", wanted)


@pytest.mark.parametrize(
    ("recipient", "detail", "wanted"),
    [
        ("a@y.example", "550 a mailbox <a> is no mailbox", "550 a mailbox <{}> is no mailbox"),
        ("250@y.example", "250 ok", "250 ok"),
        ("4915112345678@y.example", "no 4915112345678 here", "no {} here"),
        ('"j d"@y.example', 'no "j d"@y.example', "no {}@y.example"),
    ],
)
def test_short_names_are_no_words(recipient: str, detail: str, wanted: str) -> None:
    name = PSEUDONYMS.of(recipient).partition("@")[0]
    hidden = PSEUDONYMS.conceal(attempted(recipient, detail))
    assert isinstance(hidden, Attempted)
    assert hidden.detail == wanted.format(name)


def test_other_peoples_addresses_go_too() -> None:
    hidden = PSEUDONYMS.conceal(Notice(AT, "smtpd", "x: bounce+carol=q.example@esp.example, 'dave@z.example'", True))
    assert isinstance(hidden, Notice)
    assert not re.search("carol|dave", hidden.text)
    assert hidden.text.count("@esp.example") == 1


def test_ids_clients_and_the_null_sender_stay() -> None:
    bounce = Accepted(AT, ID, CLIENT, "<one@app.example>", "", 9, 1, bounce_of="A1")
    assert PSEUDONYMS.conceal(bounce) == bounce
    told = Accepted(AT, ID, CLIENT, "<one@app.example>", "root", 9, 1, repairs=("sender root -> root@x.example",))
    hidden = PSEUDONYMS.conceal(told)
    assert isinstance(hidden, Accepted)
    name = PSEUDONYMS.of("root")
    assert (hidden.message_id, hidden.sender) == ("<one@app.example>", name)
    assert hidden.repairs == (f"sender {name} -> {PSEUDONYMS.of('root@x.example')}",)


def test_the_hash_is_the_whole_addresss_and_the_keys() -> None:
    assert PSEUDONYMS.of("A@X.example").casefold() == PSEUDONYMS.of("a@x.example")
    assert PSEUDONYMS.of("a@x.example").partition("@")[0] != PSEUDONYMS.of("a@y.example").partition("@")[0]
    assert PSEUDONYMS.of("a@x.example") != Pseudonyms(b"l" * 32).of("a@x.example")
    assert re.fullmatch(r"[0-9a-f]{16}@x\.example", PSEUDONYMS.of("a@x.example"))


@settings(deadline=None)
@given(
    st.from_regex(r"\A[a-z][a-z0-9._+=-]{4,20}\Z"),
    st.sampled_from(["{}@y.example", "<{}@y.example>", '"{}"@y.example', "{}", "'{}'", "({})", "{}=y.example@z.test"]),
    st.text(alphabet=" .,:;()<>'\"", max_size=3),
    st.text(alphabet=" .,:;()<>'\"", max_size=3),
)
def test_a_name_never_gets_through_in_its_own_lines(name: str, shape: str, before: str, after: str) -> None:
    detail = f"550 no{before} {shape.format(name)} {after}such"
    for spell in (Grammar("relay", "postfix", 1).lines, objects().lines):
        assert name not in spell(PSEUDONYMS.conceal(attempted(f"{name}@y.example", detail)))


@pytest.mark.parametrize("format_", ["text", "json"])
def test_the_log_holds_no_address_where_that_is_asked(tmp_path: Path, format_: Any) -> None:
    target = tmp_path / "relay.log"
    how = LogSettings(format=format_, target=str(target), recipients="hash", key_file=str(tmp_path / "log.key"))
    log = MailLog(how, "relay", pid=7)
    for event in EVENTS:
        log.emit(event)
    assert log.close()
    text = target.read_text()
    assert not re.search(r"\b[a-e]@[xy]\.example", text)
    assert "one@app.example" in text  # a Message-ID names a message
    hidden = Pseudonyms(read_key(how.key_file)).of("b@y.example")
    assert text.count(hidden) == 4


@pytest.mark.interop
@pytest.mark.skipif(PFLOGSUMM is None, reason="needs pflogsumm")
def test_pflogsumm_counts_the_same_without_addresses(tmp_path: Path) -> None:
    counts = []
    for conceal in (lambda event: event, PSEUDONYMS.conceal):
        spell = Grammar("relay.example.com", "postfix", 4822)
        log = tmp_path / "relay.log"
        log.write_text("".join(spell.lines(conceal(event)) for event in EVENTS))
        assert PFLOGSUMM is not None
        done = subprocess.run([PFLOGSUMM, str(log)], capture_output=True, text=True, check=True, timeout=30)
        counts.append(re.findall(r"^ +(\d+) +(\w+)\b", done.stdout, re.MULTILINE)[:10])
    assert counts[0] == counts[1]


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "log.key"
    key = make_key(str(path))
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert make_key(str(path)) == key == read_key(str(path))
    assert [each.name for each in path.parent.iterdir()] == ["log.key"]


@pytest.mark.parametrize("wrong", ["readable", "short", "link"])
def test_a_key_that_is_none_is_an_error_and_not_replaced(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "log.key"
    make_key(str(path))
    if wrong == "readable":
        path.chmod(0o644)
    elif wrong == "short":
        path.write_text("ab" * 31)
    else:
        path.rename(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"key|symbolic"):
        MailLog(LogSettings(recipients="hash", key_file=str(path)), "relay")


# -- journald -------------------------------------------------------------------------------------------------------


@pytest.fixture
def journald(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "socket"))
        receiving.settimeout(10)
        yield receiving


def entry(datagram: bytes) -> dict[str, str]:
    """What journald would read (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        key, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        fields[key.decode()] = value.decode()
    return fields


def test_journald_gets_the_line_and_its_facts(journald: socket.socket) -> None:
    journal = Journal("postfix", 4822, None, journald.getsockname())
    arrived = journal.spell(EVENTS[1])
    assert journal.write([arrived, journal.spell(attempted("c@y.example", "550 5.1.1 no\nsuch"))])
    first = entry(journald.recv(65536))
    assert first == {
        "MESSAGE": f"{ID}: client={CLIENT}",
        "PRIORITY": "6",
        "SYSLOG_FACILITY": "2",
        "SYSLOG_IDENTIFIER": "postfix/smtpd",
        "SYSLOG_PID": "4822",
        "RELAY_EVENT": "accepted",
        "RELAY_QUEUE_ID": ID,
        "RELAY_CLIENT_NAME": "localhost",
        "RELAY_CLIENT_ADDRESS": "127.0.0.1",
        "RELAY_MESSAGE_ID": "<one@app.example>",
        "RELAY_SENDER": "a@x.example",
        "RELAY_SIZE": "313",
        "RELAY_NRCPT": "4",
    }
    assert [entry(journald.recv(65536))["SYSLOG_IDENTIFIER"] for _ in range(2)] == ["postfix/cleanup", "postfix/qmgr"]
    last = entry(journald.recv(65536))
    assert last["RELAY_DETAIL"] == "550 5.1.1 no\nsuch"
    assert last["MESSAGE"].endswith("status=bounced (550 5.1.1 no?such)")
    journal.close()


def test_journald_gets_objects_where_the_format_is_json(journald: socket.socket) -> None:
    journal = Journal("postfix", 4822, objects(), journald.getsockname())
    assert journal.write([journal.spell(Notice(AT, "smtp", "down", warning=True))])
    told = entry(journald.recv(65536))
    assert json.loads(told["MESSAGE"])["text"] == "down"
    assert (told["PRIORITY"], told["SYSLOG_IDENTIFIER"]) == ("4", "postfix")
    journal.close()


def test_without_journald_the_log_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Journal("postfix", 1, None, str(tmp_path / "none"))
    assert targets.JOURNAL == "/run/systemd/journal/socket"


def test_a_journald_that_went_away_costs_entries_and_is_found_again(journald: socket.socket) -> None:
    path = journald.getsockname()
    journal = Journal("postfix", 1, None, path)
    journald.close()
    assert not journal.write([journal.spell(Removed(AT, ID))])
    Path(path).unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(path)
        assert journal.write([journal.spell(Removed(AT, ID))])
        assert entry(again.recv(65536))["MESSAGE"] == f"{ID}: removed"
    journal.close()


def test_on_journalds_stream_warnings_bear_their_priority() -> None:
    program = (
        "import os\n"
        "status = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "from relay.events import Notice\n"
        "from relay.maillog import MailLog\n"
        "from relay.settings import LogSettings\n"
        "log = MailLog(LogSettings(), 'relay', pid=7)\n"
        "log.emit(Notice(0, 'smtp', 'up'))\n"
        "log.emit(Notice(0, 'smtp', 'down', warning=True))\n"
        "log.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    fine, warning = done.stderr.splitlines()
    assert fine.endswith("postfix/smtp[7]: up")
    assert re.fullmatch(r"<4>\w{3} .*postfix/smtp\[7\]: warning: down", warning)


@pytest.mark.parametrize("stream", ["", "1:2", "nonsense"])
def test_another_stream_is_not_journalds(stream: str) -> None:
    assert not is_journal(2, {"JOURNAL_STREAM": stream})
