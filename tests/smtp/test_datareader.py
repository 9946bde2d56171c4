from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.smtp.datareader import DataReader
from relay.smtp.lineends import BARE_LINE_END, TOO_LARGE

UNLIMITED = 1 << 40

# The end-of-data look-alikes of the 2023 disclosure and of the scanners since; the last two do end the content.
LOOK_ALIKES = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "LF.CR": b"\n.\r",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "CRLF NUL.CRLF": b"\r\n\x00.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\x00\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "LFCR.CRLF": b"\n\r.\r\n",
}


def expected(octets: bytes) -> tuple[bytes, bytes] | None:
    """Content and rest by the slow and plain way: octet by octet."""
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    if end < 0:
        return None
    raw = octets[:end]
    lines = re.split(rb"(\r\n|\r|\n)", raw)
    out = bytearray()
    after_line_feed = True
    for position, piece in enumerate(lines):
        if position % 2:
            out += b"\r\n"
            after_line_feed = piece.endswith(b"\n")
        else:
            out += piece.removeprefix(b".") if after_line_feed else piece
    return bytes(out), octets[end + 3 :]


def read(chunks: list[bytes], *, limit: int = UNLIMITED, reject: bool = False) -> tuple[bytes, DataReader]:
    reader = DataReader(limit, reject=reject)
    out = b""
    rest: list[bytes] = []
    for chunk in chunks:
        if reader.done:
            rest.append(chunk)
        else:
            out += reader.feed(chunk)
    reader.rest += b"".join(rest)
    return out, reader


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"x\r\n.\r\n", b"x\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (b"a\n..b\n.\r\n.\r\n", b"a\r\n.b\r\n\r\n"),
        (b"a\n.\n..\n.\n\r\n.\r\n", b"a\r\n\r\n.\r\n\r\n\r\n"),
        (b"a\r.b\r\n.\r\n", b"a\r\n.b\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\n\r\n"),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
        (b"a\n.b.c\r\n.\r\n", b"a\r\nb.c\r\n"),
        (b"a\n..\r\n.\r\n", b"a\r\n.\r\n"),
    ],
)
def test_content_as_it_is_kept(sent: bytes, content: bytes, chunk: int) -> None:
    out, reader = read([sent[n : n + chunk] for n in range(0, len(sent), chunk)])
    assert (out, reader.done, reader.refusal, reader.rest) == (content, True, None, b"")
    assert reader.size == len(content)


@pytest.mark.parametrize("sequence", LOOK_ALIKES.values(), ids=LOOK_ALIKES.keys())
def test_a_look_alike_is_no_end_of_data_at_any_split(sequence: bytes) -> None:
    smuggled = b"MAIL FROM:<evil@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx"
    sent = b"Subject: x\r\n\r\nx" + sequence + smuggled + b"\r\n.\r\nNOOP\r\n"
    whole = expected(sent)
    assert whole is not None
    content, rest = whole
    assert rest == b"NOOP\r\n"
    assert smuggled in content
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    for split in range(len(sent) + 1):
        out, reader = read([sent[:split], sent[split:]])
        assert (out, reader.rest) == (content, rest)
        # Rejecting, it ends at the same place.
        _, strict = read([sent[:split], sent[split:]], reject=True)
        bare = re.search(rb"\r(?!\n)|(?<!\r)\n", sent) is not None
        assert (strict.done, strict.rest, strict.refusal) == (True, rest, BARE_LINE_END if bare else None)


@pytest.mark.parametrize("sequence", [b"\r\n.\r\n", b"\r\r\n.\r\n"])
def test_the_real_end_is_found_also_behind_a_stray_cr(sequence: bytes) -> None:
    _, reader = read([b"x" + sequence + b"QUIT\r\n"])
    assert reader.done
    assert reader.rest == b"QUIT\r\n"


ALPHABET = st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\n.", b"a", b"\x00", b"\r\n.\r\n", b"QUIT\r\n"])


@given(st.lists(ALPHABET, max_size=24).map(b"".join), st.lists(st.integers(0, 60), max_size=12))
@example(b"a\n..b\r\n.\r\n", [2, 3])
@example(b"\r\r\n.\r\n", [1])
def test_any_split_gives_the_same_content(body: bytes, cuts: list[int]) -> None:
    sent = body + b"\r\n.\r\nrest"
    whole = expected(sent)
    assert whole is not None
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    chunks = [sent[start:end] for start, end in pairwise(edges)]
    out, reader = read(chunks)
    assert (out, reader.rest) == whole
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", out)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_content_over_the_limit_is_read_to_its_end_and_refused(chunk: int) -> None:
    sent = b"0123456789\r\n" * 10 + b".\r\nQUIT\r\n"
    chunks = [sent[n : n + chunk] for n in range(0, len(sent), chunk)]
    out, reader = read(chunks, limit=119)
    assert (reader.done, reader.refusal, reader.rest) == (True, TOO_LARGE, b"QUIT\r\n")
    assert len(out) <= 119
    out, reader = read(chunks, limit=120)
    assert (reader.done, reader.refusal, len(out)) == (True, None, 120)


def test_the_limit_counts_neither_stuffing_nor_end() -> None:
    _, reader = read([b"..........\r\n.\r\n"], limit=11)
    assert reader.refusal is None


def test_far_over_the_limit_there_is_no_hope() -> None:
    reader = DataReader(100)
    reader.feed(b"x" * 200)
    assert not reader.hopeless
    reader.feed(b"x" * 10)
    assert reader.hopeless


@pytest.mark.parametrize("unit", [b"\r\n", b"\n", b"\r", b"..\r\n", b".\n", b"\r\n.", b"x"])
def test_two_megabytes_of_anything_take_linear_time(unit: bytes) -> None:
    sent = unit * (2 * 1024 * 1024 // len(unit))
    reader = DataReader(UNLIMITED)
    began = time.process_time()
    for start in range(0, len(sent), 256 * 1024):
        reader.feed(sent[start : start + 256 * 1024])
    assert time.process_time() - began < 0.5
