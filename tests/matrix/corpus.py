"""Sixty messages that mail programs are known to stumble over, made by code; each with the body that must arrive.

Each goes to a recipient of its own name, by which it is known again wherever it comes out.
"""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass
from typing import Final

import dkim

from tests.matrix.signing import KEY, SELECTOR

SENDER: Final = "a@x.test"
PARAGRAPH: Final = b"Sehr geehrte Damen und Herren,\r\n\r\nhello.\r\n"


@dataclass(frozen=True)
class Case:
    """``content`` is what the application has; ``body`` follows the first empty line of what arrives."""

    name: str
    content: bytes
    body: bytes
    recipients: tuple[str, ...]
    smtputf8: bool = False
    plain_text: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def eight_bit(self) -> bool:
        return not self.content.isascii()

    @property
    def parameters(self) -> str:
        """What MAIL FROM needs."""
        return (" BODY=8BITMIME" if self.eight_bit else "") + (" SMTPUTF8" if self.smtputf8 else "")

    @property
    def text(self) -> str:
        """The body as a program's user types it, for ``plain_text`` cases."""
        return self.body.decode().replace("\r\n", "\n")


def head(name: str, *fields: str) -> bytes:
    lines = [f"From: Ann <{SENDER}>", f"To: {name}@y.test", f"Subject: {name}", "Message-ID: <kept@x.test>"]
    lines += ["Date: Sun, 22 Nov 2026 02:00:00 +0000", "MIME-Version: 1.0", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode()


TEXT: Final = "Content-Type: text/plain; charset=utf-8"
EIGHT_BIT: Final = "Content-Transfer-Encoding: 8bit"


class _Corpus(dict[str, Case]):
    """Cases by their names."""

    def case(self, name: str, body: bytes, *fields: str, text: bool = False) -> None:
        """An ordinary header, a peculiar body."""
        fields = fields or (TEXT, EIGHT_BIT)
        self.whole(name, head(name, *fields) + b"\r\n" + body, body, text=text)

    def whole(
        self,
        name: str,
        content: bytes,
        body: bytes,
        *,
        recipients: tuple[str, ...] = (),
        smtputf8: bool = False,
        text: bool = False,
    ) -> None:
        assert name not in self
        self[name] = Case(name, content, body, recipients or (f"{name}@y.test",), smtputf8, text)


def normalised(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def part(boundary: str, *contents: bytes) -> bytes:
    """The body of a multipart."""
    between = f"--{boundary}\r\n".encode()
    return b"preamble\r\n" + b"".join(between + each + b"\r\n" for each in contents) + f"--{boundary}--\r\n".encode()


def lines_of_base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def texts(corpus: _Corpus) -> None:
    corpus.case("plain", PARAGRAPH, text=True)
    corpus.case("utf-8", "Grüße, 日本語, \U0001f9ff\r\n".encode(), text=True)
    corpus.case("right-to-left", "שלום עולם, e\u0301 \u200f\r\n".encode(), text=True)
    corpus.case("latin-1", "Grüße\r\n".encode("latin-1"), "Content-Type: text/plain; charset=iso-8859-1", EIGHT_BIT)
    corpus.case("iso-2022-jp", "日本語\r\n".encode("iso2022_jp"), "Content-Type: text/plain; charset=iso-2022-jp")
    corpus.case("shift-jis", "表示 日本語\r\n".encode("shift_jis"), "Content-Type: text/plain; charset=shift_jis")
    corpus.case("utf-16", "nul octets".encode("utf-16-be") + b"\r\n", "Content-Type: text/plain; charset=utf-16")
    corpus.case("byte-order-mark", b"\xef\xbb\xbfbody\r\n")
    corpus.case(
        "quoted-printable", b"soft=\r\n.dot =3D=20\r\nx=\r\n", TEXT, "Content-Transfer-Encoding: quoted-printable"
    )
    flowed = b"On Sunday, \r\n>> quoted \r\n> quoted\r\n From the start\r\n-- \r\nAnn\r\n"
    corpus.case("format-flowed", flowed, "Content-Type: text/plain; format=flowed; delsp=yes", text=True)
    corpus.case("trailing-blanks", b"a  \t\r\nb\t\r\n \r\n\t\r\nlast \r\n", text=True)
    corpus.case("commands", b"QUIT\r\nRSET\r\nMAIL FROM:<x@x.test>\r\nDATA\r\n250 2.0.0 Ok\r\n", text=True)
    corpus.case("from-lines", b"From here\r\n>From there\r\n\r\nFrom x Sun Nov 22 02:00:00 2026\r\n", text=True)
    corpus.case("open-pgp", b"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\n- -- \r\n- .\r\n.\r\n", text=True)
    corpus.case("swaks-tokens", b"%BODY% %NEW_HEADERS% \\n %% $x `id` $(id) {{x}}\r\n", text=True)


def dots(corpus: _Corpus) -> None:
    corpus.case("lone-dot", b"before\r\n.\r\nafter\r\n", text=True)
    corpus.case("dots", b".a\r\n..\r\n...\r\n....\r\na.\r\n. \r\n.\t\r\n", text=True)
    corpus.case("dot-first", b".\r\n", text=True)
    corpus.case("dot-last", b"text\r\n\r\n.\r\n", text=True)
    corpus.case("dots-and-empty-lines", b"\r\n.\r\n\r\n.\r\n\r\n..\r\n\r\n", text=False)
    corpus.case("thousand-dots", b".\r\n" * 1000, text=True)
    smuggled = b".\r\nMAIL FROM:<x@x.test>\r\nRCPT TO:<smuggled@y.test>\r\nDATA\r\nSubject: in\r\n\r\n.\r\n"
    corpus.case("smuggled", smuggled, text=True)
    corpus.case("dot-at-256-kib", b"z" * 62 + b"\r\n" + (b"z" * 62 + b"\r\n") * 4094 + b".edge\r\n.\r\n")


def octets(corpus: _Corpus) -> None:
    corpus.case("nul", b"a\0b\r\n\0\r\n\0\0\0\r\n")
    corpus.case("controls", bytes(set(range(1, 32)) - {10, 13}) + b"\x7f\r\n\x04\r\n\x1a\r\n")
    corpus.case("all-octets", bytes(set(range(256)) - {10, 13}) + b"\r\n")
    seed = random.Random(60)
    noise = bytes(octet for octet in seed.randbytes(20_000) if octet not in b"\r\n\0")
    corpus.case("noise", b"\r\n".join(noise[n : n + 900] for n in range(0, len(noise), 900)) + b"\r\n")


def lines(corpus: _Corpus) -> None:
    corpus.case("line-of-998", (b"y" * 998 + b"\r\n") * 3)
    corpus.case("line-of-999", b"y" * 999 + b"\r\n")
    corpus.case("line-of-5000", b"y" * 5000 + b"\r\nshort\r\n")
    corpus.case("line-of-70000", b"y" * 70_000 + b"\r\nshort\r\n")
    corpus.case("dots-in-a-long-line", (b"y" * 997 + b"." + b"." * 1500) + b"\r\n.\r\n")
    corpus.case("empty", b"")
    corpus.case("one-empty-line", b"\r\n")
    corpus.case("empty-lines-around", b"\r\n\r\n\r\ntext\r\n\r\n\r\n\r\n")
    corpus.case("empty-lines", b"\r\n" * 40_000)
    for name, given in {
        "no-final-line-end": b"first\r\nlast",
        "bare-lf": b"first\n\nthird\n",
        "bare-cr": b"first\rsecond\r\rthird\r\n",
        "mixed-line-ends": b"crlf\r\nlf\ncr\rcrcrlf\r\r\nlfcr\n\rend\r\n",
        "final-cr": b"first\r\nlast\r",
        "bare-lf-and-dots": b"first\n.\n..\n.hidden\nlast\n",
    }.items():
        body = normalised(given)
        body += b"" if body.endswith(b"\r\n") else b"\r\n"
        corpus.whole(name, head(name, TEXT) + b"\r\n" + given, body)
    everywhere = head("all-bare-lf", TEXT) + b"\r\nfirst\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    corpus.whole("all-bare-lf", everywhere.replace(b"\r\n", b"\n"), everywhere.partition(b"\r\n\r\n")[2])


def headers(corpus: _Corpus) -> None:
    corpus.whole("no-header", b"just text\r\n\r\nmore\r\n", b"just text\r\n\r\nmore\r\n")
    corpus.whole("empty-line-first", b"\r\njust a body\r\n", b"just a body\r\n")
    corpus.whole("only-header", head("only-header"), b"")
    name = "mailbox-line"
    corpus.whole(name, b"From a@x.test Sun Nov 22 02:00:00 2026\r\n" + head(name) + b"\r\n" + PARAGRAPH, PARAGRAPH)
    corpus.case("raw-utf-8-header", PARAGRAPH, "X-Raw: Grüße", TEXT)
    name = "smtputf8"
    header = head(name, "Cc: Jürgen <jürgen@müller.test>", TEXT, EIGHT_BIT)
    corpus.whole(name, header + b"\r\n" + PARAGRAPH, PARAGRAPH, recipients=("smtputf8@müller.test",), smtputf8=True)
    corpus.case("encoded-words", PARAGRAPH, "X-Word: =?utf-8?q?Gr=C3=BC?=\r\n =?utf-8?b?w59l?=", TEXT)
    corpus.case("folded-header", PARAGRAPH, "References: " + "\r\n ".join(f"<{n}.ref@x.test>" for n in range(300)))
    corpus.case("header-of-900", PARAGRAPH, "X-Long: " + "y" * 900)
    corpus.case("odd-fields", PARAGRAPH, "x-odd:no space", "X-Empty:", "X-ODD: again", "X-Tab:\tvalue", "X-8: \t")
    corpus.case("blind-copy", PARAGRAPH, "Bcc: secret@y.test")


def structures(corpus: _Corpus) -> None:
    seed = random.Random(61)
    inner = b"Content-Type: text/plain\r\n\r\n.dot\r\n"
    corpus.case("alternative", part("b", inner, inner), 'Content-Type: multipart/alternative; boundary="b"')
    corpus.case("dotted-boundary", part(".b.", inner, inner), 'Content-Type: multipart/mixed; boundary=".b."')
    nested = inner
    for depth in range(20):
        nested = f"Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n".encode() + part(f"b{depth}", nested)
    corpus.case("nested", part("b", nested), "Content-Type: multipart/mixed; boundary=b")
    encoded = b"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    big = part("b", inner, *(encoded + lines_of_base64(seed.randbytes(75_000)) for _ in range(3)))
    corpus.case("big-multipart", big, "Content-Type: multipart/mixed; boundary=b")
    megabyte = lines_of_base64(seed.randbytes(1_000_000 * 57 // 78))
    corpus.case("megabyte", megabyte, "Content-Type: application/zip", "Content-Transfer-Encoding: base64")
    report = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nAction: failed\r\n"
    corpus.case("report", part("b", report), "Content-Type: multipart/report; boundary=b")
    calendar = b"BEGIN:VCALENDAR\r\nDESCRIPTION:a\r\n  folded\r\n\tline\r\nEND:VCALENDAR\r\n"
    corpus.case("calendar", calendar, "Content-Type: text/calendar; method=REQUEST")
    name = "many-recipients"
    recipients = (f"{name}@y.test", *(f"to-{n}@y.test" for n in range(1, 100)))
    corpus.whole(name, head(name, TEXT) + b"\r\n" + PARAGRAPH, PARAGRAPH, recipients=recipients)
    name = "signed"
    body = b"signed  text \r\n.\r\n\r\n"
    unsigned = head(name, TEXT) + b"\r\n" + body
    signature = dkim.sign(unsigned, SELECTOR, b"x.test", KEY, include_headers=[b"from", b"to", b"subject", b"date"])
    corpus.whole(name, signature + unsigned, body)


def corpus() -> dict[str, Case]:
    made = _Corpus()
    for family in (texts, dots, octets, lines, headers, structures):
        family(made)
    return dict(made)


CORPUS: Final = corpus()
