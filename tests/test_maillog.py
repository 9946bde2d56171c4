from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.events import (
    Accepted,
    Attempted,
    Bounced,
    Connected,
    Disconnected,
    Event,
    Expired,
    Notice,
    Rejected,
    Removed,
    Repeated,
    Reported,
    Requeued,
    Status,
    Suppressed,
    seconds,
)
from relay.maillog import MailLog, targets, writer
from relay.maillog.grammar import Grammar
from relay.settings import LogSettings

AT = time.mktime((2026, 11, 21, 23, 13, 31, 0, 0, -1))
ID = "8889D160292"
CLIENT = "localhost[127.0.0.1]"
SES = "ses[203.0.113.7]:587"
GOLDEN = Path(__file__).with_name("maillog.golden")
PFLOGSUMM = shutil.which("pflogsumm")

EVENTS: tuple[Event, ...] = (
    Connected(AT, CLIENT),
    Accepted(AT, ID, CLIENT, "<one@app.example>", "a@x.example", 313, 4),
    Disconnected(
        AT, CLIENT, (("EHLO", 1, 1), ("MAIL", 1, 1), ("RCPT", 1, 2), ("DATA", 1, 1), ("RSET", 0, 0), ("QUIT", 1, 1))
    ),
    Rejected(
        AT,
        CLIENT,
        "RCPT",
        "553 5.1.3 <b ad>: Recipient address rejected: bad address",
        "a@x.example",
        "b ad",
        "app",
    ),
    Rejected(AT, "unknown[192.0.2.1]", "CONNECT", "521 5.3.2 not here"),
    Attempted(
        AT,
        ID,
        "b@y.example",
        "ses",
        SES,
        Status.SENT,
        "2.0.0",
        "250 2.0.0 Ok: queued as 1",
        (0.0101, 0.0149, 0.0, 0.0061),
    ),
    Attempted(
        AT,
        ID,
        "c@y.example",
        "ses",
        SES,
        Status.BOUNCED,
        "5.1.1",
        "host ses said: 550 5.1.1 unknown (in reply to RCPT TO command)",
        (0, 10.2, 0, 1.55),
        conn_use=7,
    ),
    Attempted(
        AT,
        ID,
        "d@y.example",
        "ses",
        SES,
        Status.DEFERRED,
        "4.4.2",
        "in doubt: timed out with ses",
        (0, 0, 0, 600.2),
        in_doubt=True,
    ),
    Bounced(AT, ID, "8889D160293"),
    Accepted(AT, "8889D160293", None, "<8889D160293@relay.example>", "", 2000, 1, bounce_of=ID),
    Requeued(AT, ID, "a@x.example", 313, 4),
    Attempted(
        AT,
        ID,
        "e@y.example",
        "",
        "none",
        Status.EXPIRED,
        "5.4.7",
        "delivery time expired",
        (432000.0, 0, 0, 0),
    ),
    Expired(AT, ID, "a@x.example"),
    Removed(AT, ID),
    Reported(AT, ID, "b@y.example", "complaint", "ses", "complaint abuse"),
    Suppressed(AT, "", "b@y.example", "bounce", "2026-12-21T22:13:31+00:00", "550 5.1.1 no <b@y.example>"),
    Accepted(AT, "8889D160294", None, "made@relay", "", 9, 1, repairs=("message-id", "date")),
    Repeated(AT, "8889D160295", CLIENT, ID, "Message-ID"),
    Notice(AT, "master", "listening on 127.0.0.1:2525"),
    Notice(AT, "smtp", "upstream ses is down: connection refused", warning=True),
)

foreign = st.text(max_size=60) | st.sampled_from(
    [
        "x>, relay=y, delay=1, dsn=2.0.0, status=sent (",
        "from=<x@y>, size=5",
        "[1]: A1: client=evil[1.2.3.4]",
        "a reject: header Subject: no",
        "\r\nNov 21 23:13:31 relay postfix/smtp[1]: A1: to=<x>, relay=y, delay=1, status=sent",
        "\u2028\x85\x1b[2J",
        "\udc80",
    ]
)


def grammar() -> Grammar:
    return Grammar("relay.example.com", "postfix", 4822)


def test_every_event_is_spelled_as_postfix_does() -> None:
    spell = grammar()
    assert "".join(map(spell.lines, EVENTS)) == GOLDEN.read_text()


def test_the_tag_is_configurable_and_a_bare_hostname_stays() -> None:
    assert Grammar("mx1", "relay", 7).lines(Removed(AT, ID)) == f"Nov 21 23:13:31 mx1 relay/qmgr[7]: {ID}: removed\n"


def test_days_below_ten_are_padded_with_a_space() -> None:
    at = time.mktime((2026, 3, 5, 4, 5, 6, 0, 0, -1))
    assert grammar().lines(Removed(at, ID)).startswith("Mar  5 04:05:06 relay ")


def test_the_timestamp_follows_the_second() -> None:
    spell = grammar()
    assert [spell.lines(Removed(at, ID))[13:15] for at in (AT + 0.999, AT + 1, AT)] == ["31", "32", "31"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1.0, "0"),
        (0.0, "0"),
        (0.004, "0"),
        (0.005, "0.01"),
        (0.3, "0.3"),
        (0.994, "0.99"),
        (0.996, "1"),
        (1.04, "1"),
        (1.26, "1.3"),
        (9.96, "10"),
        (10.4, "10"),
        (10.6, "11"),
        (432000.0, "432000"),
    ],
)
def test_delays_are_rounded_as_postfix_rounds_them(value: float, text: str) -> None:
    assert seconds(value) == text


@settings(deadline=None)
@given(foreign, foreign, foreign, foreign)
def test_whatever_the_outside_says_one_line_stays_one_line(a: str, b: str, c: str, d: str) -> None:
    events: tuple[Event, ...] = (
        Connected(AT, a),
        Disconnected(AT, a, ((b, 1, 1),)),
        Rejected(AT, a, "RCPT", b, c, d, a),
        Attempted(AT, ID, a, "ses", SES, Status.SENT, "2.0.0", b),
        Requeued(AT, ID, a, 1, 1),
        Notice(AT, "smtp", a),
    )
    spell = grammar()
    for event in events:
        line = spell.lines(event)
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        line.encode()
    assert spell.lines(Accepted(AT, ID, a, b, c, 1, 1)).count("\n") == 3


SMTP = re.compile(
    r": to=<([^>]*)>, relay=([^,]+), (?:conn_use=[^,]+, )?delay=([^,]+), "
    r"(?:delays=[^,]+, )?(?:dsn=[^,]+, )?status=(\S+)"
)


@settings(deadline=None)
@given(foreign, foreign)
def test_foreign_text_feigns_no_field_that_readers_count(recipient: str, detail: str) -> None:
    line = grammar().lines(Attempted(AT, ID, recipient, "ses", SES, Status.DEFERRED, "4.0.0", detail))
    found = SMTP.search(line)
    assert found is not None
    assert (found[2], found[4]) == (SES, "deferred")
    assert not re.search(r"from=<[^>]*>, size=\d+", line)
    rejected = grammar().lines(Rejected(AT, CLIENT, "RCPT", detail, recipient, recipient, detail))
    assert not re.search(r"\[\d+\]: \w+: client=", rejected)
    cleanup = grammar().lines(Accepted(AT, ID, None, detail, "", 1, 1)).splitlines()[0]
    assert not re.search(r"\breject: (header|body)", cleanup)


def test_expiry_is_counted_by_exporters() -> None:
    lines = [line for line in GOLDEN.read_text().splitlines() if "status=expired" in line]
    assert [bool(re.search(r":.*, status=(expired|force-expired), returned to sender", line)) for line in lines] == [
        False,
        True,
    ]
    assert re.search(r", status=(\w+) ", lines[0])


# -- writer ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "mail.log"


@pytest.fixture
def log(target: Path) -> Iterator[MailLog]:
    made = MailLog(LogSettings(target=str(target)), "relay", pid=4822)
    yield made
    made.close()


def ids_in(text: str) -> list[str]:
    return re.findall(r"\]: (\w+): removed$", text, re.MULTILINE)


def test_events_are_written_in_order_and_all_of_them_by_close(log: MailLog, target: Path) -> None:
    wanted = [f"{n:X}" for n in range(5000)]
    for queue_id in wanted:
        log.emit(Removed(AT, queue_id))
    assert log.close()
    assert ids_in(target.read_text()) == wanted


def test_the_file_is_private_and_appended_to(target: Path) -> None:
    before = os.umask(0o022)
    try:
        first = MailLog(LogSettings(target=str(target)), "relay")
    finally:
        os.umask(before)
    first.emit(Removed(AT, "A1"))
    first.close()
    assert target.stat().st_mode & 0o777 == 0o640
    second = MailLog(LogSettings(target=str(target)), "relay")
    second.emit(Removed(AT, "A2"))
    second.close()
    assert ids_in(target.read_text()) == ["A1", "A2"]


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MailLog(LogSettings(target=str(tmp_path / "none" / "mail.log")), "relay")


@pytest.mark.timeout(20)
def test_a_fifo_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        MailLog(LogSettings(target=str(tmp_path / "fifo")), "relay.test")


def test_reopen_splits_the_log_where_it_was_asked_to(log: MailLog, target: Path) -> None:
    log.emit(Removed(AT, "A1"))
    while not target.read_text():
        time.sleep(0.001)
    rotated = target.rename(target.with_suffix(".1"))
    log.emit(Removed(AT, "A2"))
    log.reopen()
    log.emit(Removed(AT, "A3"))
    assert log.close()
    assert ids_in(rotated.read_text()) == ["A1", "A2"]
    assert ids_in(target.read_text()) == ["A3"]


def test_reopen_goes_on_in_the_old_file_where_the_new_one_cannot_be_made(log: MailLog, target: Path) -> None:
    kept = target.rename(target.with_suffix(".1"))
    target.mkdir()
    log.reopen()
    log.emit(Removed(AT, "A1"))
    assert log.close()
    assert "warning: mail log: going on in the old file" in kept.read_text()
    assert ids_in(kept.read_text()) == ["A1"]


def pipe_log() -> tuple[MailLog, int]:
    """A log to a pipe, which fills up at 64 KB."""
    reading, writing = os.pipe()
    with mock.patch.object(targets, "open_log", return_value=writing):
        return MailLog(LogSettings(target="pipe"), "relay", pid=4822), reading


def test_a_blocked_sink_costs_lines_not_mail_and_says_so_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING_LIMIT", 2000)
    log, reading = pipe_log()
    for n in range(20_000):
        log.emit(Removed(AT, f"{n:X}"))
    assert not log.close(deadline=0.01)
    with os.fdopen(reading, "rb") as end:
        text = end.read().decode()
    told = re.findall(r"warning: mail log: (\d+) events were dropped$", text, re.MULTILINE)
    assert told
    written = ids_in(text)
    assert len(written) + sum(map(int, told)) == 20_000
    assert written == [f"{n:X}" for n in sorted(int(i, 16) for i in written)]


def test_a_broken_pipe_hurts_nobody() -> None:
    log, reading = pipe_log()
    os.close(reading)
    for n in range(500):
        log.emit(Removed(AT, f"{n:X}"))
    assert not log.close(deadline=10)
    assert not [thread for thread in threading.enumerate() if thread.name == "maillog" and not thread.daemon]


def test_a_full_disk_drops_lines_and_goes_on_when_there_is_room(log: MailLog, target: Path) -> None:
    write = os.write
    state = Counter[str]()

    def full(descriptor: int, octets: bytes) -> int:
        if b": FULL: " not in bytes(octets):
            return write(descriptor, octets)
        state["writes"] += 1
        if state["writes"] == 1:
            return write(descriptor, octets[:10])
        raise OSError(28, "No space left on device")

    with mock.patch.object(os, "write", full):
        log.emit(Removed(AT, "A1"))
        while not target.read_text():
            time.sleep(0.001)
        log.emit(Removed(AT, "FULL"))
        deadline = time.monotonic() + 10
        while "dropped" not in target.read_text() and time.monotonic() < deadline:
            time.sleep(0.001)
        log.emit(Removed(AT, "A2"))
        log.close()
    lines = target.read_text().splitlines()
    assert lines[0].endswith("A1: removed")
    assert lines[1] == "Nov 21 23:"
    assert lines[2].endswith("warning: mail log: 1 events were dropped")
    assert lines[3].endswith("A2: removed")


def test_an_event_that_cannot_be_spelled_does_not_end_the_log(log: MailLog, target: Path) -> None:
    log.emit(Attempted(AT, ID, None, "ses", SES, Status.SENT, "2.0.0", ""))  # type: ignore[arg-type]
    log.emit(Removed(AT, "A2"))
    assert log.close()
    assert "warning: could not spell an event: Attempted: TypeError" in target.read_text()
    assert ids_in(target.read_text()) == ["A2"]


def test_nothing_turns_while_nothing_happens(log: MailLog, target: Path) -> None:
    log.emit(Removed(AT, "A1"))
    while not target.read_text():
        time.sleep(0.001)
    tasks = Path(f"/proc/self/task/{log._thread.native_id}/status")
    if not tasks.exists():
        pytest.skip("needs /proc")

    def switches() -> list[str]:
        return [line for line in tasks.read_text().splitlines() if "ctxt_switches" in line]

    time.sleep(0.02)
    before = switches()
    time.sleep(0.2)
    assert switches() == before


# -- pflogsumm ------------------------------------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.skipif(PFLOGSUMM is None, reason="needs pflogsumm")
def test_pflogsumm_counts_what_happened(target: Path) -> None:
    trap = "x>, relay=y, delay=1, dsn=2.0.0, status=sent (from=<x@y>, size=5"
    spell = Grammar("relay.example.com", "postfix", 4822)
    extra = (
        Accepted(AT, "B1", CLIENT, f"<{trap}>", "a@x.example", 100, 1),
        Attempted(AT, "B1", '"a>b"@y.example', "ses", SES, Status.DEFERRED, "4.0.0", f"451 {trap})"),
        Attempted(AT, "B1", "f@y.example", "ses", SES, Status.DEFERRED, "4.0.0", "451 later"),
        Attempted(AT, "B1", "f@y.example", "ses", SES, Status.SENT, "2.0.0", f"250 {trap}"),
        Rejected(AT, CLIENT, "RCPT", "553 5.1.3 no", "[1]: A1: client=evil[1.2.3.4]", trap, "[1]: A1: client=e"),
    )
    target.write_text("".join(map(spell.lines, EVENTS + extra)))
    assert PFLOGSUMM is not None
    done = subprocess.run([PFLOGSUMM, str(target)], capture_output=True, text=True, check=True, timeout=30)
    told = re.findall(r"^ +(\d+) +(received|delivered|deferred|bounced|rejected)\b", done.stdout, re.MULTILINE)
    counts = {word: int(count) for count, word in told}
    assert counts == {"received": 2, "delivered": 2, "deferred": 2, "bounced": 1, "rejected": 3}
    assert re.search(r"deferred  \(3 +deferrals\)", done.stdout)
    assert re.search(r"^ +413 +bytes received$", done.stdout, re.MULTILINE)
