"""Pathological input costs what other input of its size does: twice as much of it takes about twice the time.

Quadratic work would show as four times. Where input is bounded, what its bound costs is measured instead: the event
loop stands still for it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from email.utils import parseaddr

import pytest

from relay.bounce.fields import folded
from relay.dkim.bodies import BodyHash
from relay.dkim.fields import author_domain, relaxed, split
from relay.dkim.signatures import Unsignable, prepare
from relay.headers.dates import parse_date_time
from relay.headers.scanning import header_end, values_of
from relay.headers.stamping import stamp
from relay.headers.trace import Trace
from relay.maillog.pseudonyms import _ADDRESS
from relay.outcome import Command, classify, parse_reply
from relay.outcome import expired as expire
from relay.sendmail.addresses import parse_list
from relay.sendmail.exits import Failure
from relay.sendmail.message import fields, recipients
from relay.smtp.arguments import parse_mail, parse_rcpt
from relay.smtp.bdat import ChunkReader
from relay.smtp.capabilities import capabilities_of
from relay.smtp.datareader import DataReader
from relay.smtp.longlines import LongLines
from relay.smtp.replies import ReplyReader
from relay.smtp.sasl import decode
from relay.smtp.stuffing import Stuffer, stuff

UNLIMITED = 1 << 40
WORST_RATIO = 2.5
TRIES = 6
STALL = 0.05
"""Seconds that the event loop may stand still (R9 of the reliability goals)."""
LONGEST_COMMAND = 12_288
TRACE = Trace("client.test", "localhost", "127.0.0.1", "relay.test", "ESMTP", "1A2B3C", "b@y.test", 0.0)


def by_data(unit: bytes, piece: int = 65_536) -> Callable[[int], object]:
    def run(n: int) -> None:
        reader, octets = DataReader(UNLIMITED), unit * n
        for start in range(0, len(octets), piece):
            reader.feed(octets[start : start + piece])

    return run


def by_bdat(unit: bytes) -> Callable[[int], object]:
    def run(n: int) -> None:
        reader, octets = ChunkReader(UNLIMITED), unit * n
        reader.announce(len(octets))
        for start in range(0, len(octets), 65_536):
            reader.feed(octets[start : start + 65_536])

    return run


def by_replies(unit: bytes, piece: int) -> Callable[[int], object]:
    def run(n: int) -> None:
        reader, octets = ReplyReader(), unit * n
        for start in range(0, len(octets), piece):
            reader.feed(octets[start : start + piece])

    return run


def hashing(unit: bytes, piece: int = 65_536) -> Callable[[int], object]:
    def run(n: int) -> None:
        hasher, octets = BodyHash(relaxed=True), unit * n
        for start in range(0, len(octets), piece):
            hasher.feed(octets[start : start + piece])
        hasher.finish()

    return run


def header(unit: bytes, before: bytes = b"From: a@x.test\r\n") -> Callable[[int], bytes]:
    return lambda n: before + unit * n + b"\r\n"


def signing(unit: bytes) -> Callable[[int], object]:
    def run(n: int) -> None:
        octets = header(unit)(n)
        with contextlib.suppress(Unsignable):
            prepare(octets[:-2], "x.test", "relaxed/relaxed")

    return run


def stamping(unit: bytes) -> Callable[[int], object]:
    def run(n: int) -> object:
        octets = header(unit)(n)
        return stamp(octets, header_end(octets), TRACE)

    return run


def sendmail(unit: bytes) -> Callable[[int], object]:
    def run(n: int) -> None:
        with contextlib.suppress(Failure):
            recipients(header(unit)(n))

    return run


# Each with the size to begin at: large enough to be measured, some milliseconds.
GROWING: dict[str, tuple[Callable[[int], object], int]] = {
    "DATA: line ends": (by_data(b"\r\n"), 400_000),
    "DATA: dots": (by_data(b"\r\n."), 300_000),
    "DATA: bare line feeds": (by_data(b"\n"), 400_000),
    "DATA: bare carriage returns": (by_data(b"\r"), 400_000),
    "DATA: octet by octet": (by_data(b"\r\n.", 1), 3000),
    "DATA: one line": (by_data(b"x"), 4_000_000),
    "BDAT: carriage returns": (by_bdat(b"\r"), 400_000),
    "stuffing": (lambda n: stuff(b".\r\n" * n), 200_000),
    "stuffing in pieces": (lambda n: [s.piece(b"\r\n") for s in (Stuffer(),) for _ in range(n)], 5000),
    "long lines": (lambda n: LongLines().feed(b"x" * n), 2_000_000),
    "reply: octet by octet": (by_replies(b"250 2.0.0 Ok\r\n", 1), 500),
    "reply: blanks": (lambda n: parse_reply(250, ["2.0.0" + " " * n]), 50_000),
    "reply: lines": (lambda n: parse_reply(250, ["2.0.0 x"] * n), 3000),
    "EHLO: parameters": (lambda n: capabilities_of({"limits": "X=1 " * n}), 10_000),
    "header: no colon": (lambda n: header_end(b"x" * n), 500_000),
    "header: folds": (stamping(b"Subject: x\r\n" + b" \r\n" * 50), 300),
    "header: one fold after another": (stamping(b" x\r\n"), 30_000),
    "header: fields": (stamping(b"X: y\r\n"), 10_000),
    "header: Received": (stamping(b"Received: by relay.test with ESMTP id 1\r\n"), 3000),
    "header: Bcc": (stamping(b"Bcc: a@x.test\r\n"), 5000),
    "header: values": (lambda n: values_of(b"Subject: x\r\n" * n, 12 * n, ("subject",)), 3000),
    "signing: From": (signing(b"From: a@x.test\r\n"), 5000),
    "signing: blanks": (signing(b"Subject: x" + b" \t" * 500 + b"\r\n"), 50),
    "signing: signatures there": (signing(b"DKIM-Signature: d=\r\n"), 3000),
    "signing: blanks before a tag": (signing(b"DKIM-Signature:" + b" " * 900 + b"\r\n"), 100),
    "body hash: blanks": (hashing(b" "), 500_000),
    "body hash: blanks in small reads": (hashing(b" ", 100), 200_000),
    "body hash: empty lines": (hashing(b"\r\n"), 300_000),
    "body hash: blanks at line ends": (hashing(b"x  \t \r\n"), 100_000),
    "canonical field: blanks": (lambda n: relaxed(b"Subject:" + b" \t" * n), 50_000),
    "canonical field: folds": (lambda n: relaxed(b"Subject:" + b"\r\n " * n), 50_000),
    "fields": (lambda n: split(b"a:b\r\n" * n), 5000),
    "address list: names": (sendmail(b"To: a@x.test, b@y.test\r\n"), 300),
    "address list: open quotes": (sendmail(b'To: "' + b"\\" * 200 + b"\r\n"), 100),
    "address list: comments": (lambda n: _tried(parse_list, "(" * n + ")" * n), 3000),
    "address list: angles": (lambda n: _tried(parse_list, "<" * n), 10_000),
    "sendmail: empty fields": (lambda n: list(fields(b"a:\r\n" * n)), 10_000),
    "notification: folded lines": (lambda n: folded("X: " + "y " * n), 5000),
}

# By the largest input there can be: what the bound is, is said beside it.
BOUNDED: dict[str, Callable[[], object]] = {
    "MAIL: quoted pairs": lambda: parse_mail('FROM:<"' + "\\a" * (LONGEST_COMMAND // 2)),
    "MAIL: atoms": lambda: parse_mail("FROM:<" + "a." * (LONGEST_COMMAND // 2)),
    "MAIL: route": lambda: parse_mail("FROM:<" + "@a," * (LONGEST_COMMAND // 3)),
    "MAIL: domain": lambda: parse_mail("FROM:<a@" + "a-" * (LONGEST_COMMAND // 2)),
    "MAIL: labels": lambda: parse_mail("FROM:<a@" + "a." * (LONGEST_COMMAND // 2) + "->"),
    "MAIL: blanks": lambda: parse_mail("FROM:" + " " * LONGEST_COMMAND),
    "MAIL: literal": lambda: parse_mail("FROM:<a@[" + "1:" * (LONGEST_COMMAND // 2)),
    "MAIL: parameters": lambda: parse_mail("FROM:<a@x.test> " + "A=1 " * (LONGEST_COMMAND // 4)),
    "MAIL: digits": lambda: parse_mail("FROM:<a@x.test> SIZE=" + "9" * LONGEST_COMMAND),
    "MAIL: superscript digits": lambda: parse_mail("FROM:<a@x.test> SIZE=²"),
    "RCPT: xtext": lambda: parse_rcpt("TO:<a@x.test> ORCPT=rfc822;" + "+4" * (LONGEST_COMMAND // 2)),
    "RCPT: NOTIFY": lambda: parse_rcpt("TO:<a@x.test> NOTIFY=" + "FAILURE," * (LONGEST_COMMAND // 8)),
    "AUTH: base64": lambda: decode("A" * LONGEST_COMMAND),
    "From: comments, 64 KB": lambda: author_domain(b"(" * 65_536),
    "From: quoted pairs, 64 KB": lambda: author_domain(b'"' + b"\\a" * 32_768),
    "From: angles, 64 KB": lambda: author_domain(b"<" * 65_536),
    "Date: comments, 998 octets": lambda: parse_date_time("(" * 998),
    "Date: blanks, 998 octets": lambda: parse_date_time("Sun," + " " * 900 + "22 Nov"),
    "a reply in a detail, 500 characters": lambda: expire(" said: 550" * 50),
    "refusal: 64 KB": lambda: classify(parse_reply(550, ["5.1.1 " + "a" * 65_536]), Command.RCPT),
    "log line without addresses, 2,000 characters": lambda: _ADDRESS.sub("x", "a" * 2000),
    "log line of quotes, 2,000 characters": lambda: _ADDRESS.sub("x", '"a' * 1000),
}


def _tried(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(Failure):
        parse(text)


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def ratio(run: Callable[[int], object], n: int) -> float:
    """How much longer twice as much takes: the best of several, since what disturbs only adds."""
    once, twice = [], []
    for number in range(TRIES):
        once.append(seconds(lambda: run(n)))
        twice.append(seconds(lambda: run(2 * n)))
        if number >= 2 and min(twice) <= WORST_RATIO * min(once):
            break
    return min(twice) / max(min(once), 1e-5)


@pytest.mark.parametrize("name", GROWING)
def test_twice_as_much_takes_about_twice_the_time(name: str) -> None:
    run, n = GROWING[name]
    assert ratio(run, n) <= WORST_RATIO


@pytest.mark.parametrize("name", BOUNDED)
def test_the_largest_there_can_be_does_not_stop_the_loop(name: str) -> None:
    assert min(seconds(BOUNDED[name]) for _ in range(TRIES)) <= STALL


def test_quadratic_work_is_found() -> None:
    """The negative controls: a pattern that backtracks, and the library's parser of addresses."""
    blanks = re.compile(r"\s+$")
    assert ratio(lambda n: blanks.search(" " * n + "x"), 6000) > WORST_RATIO
    assert seconds(lambda: blanks.search(" " * 20_000 + "x")) > STALL
    with pytest.raises(RecursionError):
        parseaddr("(" * 5000)
