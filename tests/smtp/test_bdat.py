from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.bdat import Chunk, ChunkReader, parse_bdat
from relay.smtp.lineends import BARE_LINE_END, TOO_LARGE, are_whole, normalised


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        ("0", Chunk(0, last=False)),
        ("86", Chunk(86, last=False)),
        ("7 LAST", Chunk(7, last=True)),
        ("7  last", Chunk(7, last=True)),
        ("0 LAST", Chunk(0, last=True)),
    ],
)
def test_arguments(argument: str, chunk: Chunk) -> None:
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize("argument", ["", "LAST", "-1", "1 LAST x", "1LAST", "0x10", "٣", "1" * 21, "7 FIRST", " 7"])
def test_no_arguments(argument: str) -> None:
    assert parse_bdat(argument) is None


def read(chunks: list[bytes], limit: int = 1000, *, reject: bool = False) -> tuple[bytes, ChunkReader]:
    reader = ChunkReader(limit, reject=reject)
    octets = b"".join(reader.feed(chunk) for chunk in chunks)
    return octets + reader.end(), reader


@pytest.mark.parametrize(
    ("given_octets", "kept"),
    [
        (b"", b""),
        (b"a\r\n.\r\n..\r\n.b\r\n", b"a\r\n.\r\n..\r\n.b\r\n"),
        (b"a\nb\rc\r\r\nd", b"a\r\nb\r\nc\r\n\r\nd"),
        (b"ends in cr\r", b"ends in cr\r\n"),
        (b"\0\xff", b"\0\xff"),
    ],
)
def test_line_ends_are_put_right_and_dots_left(given_octets: bytes, kept: bytes) -> None:
    assert read([given_octets])[0] == kept


@given(st.lists(st.binary(max_size=5) | st.sampled_from([b"\r", b"\n", b"\r\n", b"."]), max_size=20))
def test_any_split_gives_the_same(pieces: list[bytes]) -> None:
    octets, reader = read(pieces)
    assert octets == normalised(b"".join(pieces))
    assert reader.size == len(octets)
    assert are_whole(octets)


def test_bare_line_ends_are_refused_where_asked() -> None:
    assert read([b"a\r", b"\nb\r\n"], reject=True)[1].refusal is None
    assert read([b"a\r", b"b\r\n"], reject=True)[1].refusal is BARE_LINE_END
    assert read([b"a\r"], reject=True)[1].refusal is BARE_LINE_END


def test_too_large_is_said_before_it_is_read() -> None:
    reader = ChunkReader(10)
    reader.announce(6)
    assert reader.feed(b"123456") == b"123456"
    reader.announce(5)
    assert reader.refusal is TOO_LARGE
    assert reader.feed(b"12345") == b""


def test_what_grows_by_its_line_ends_is_too_large() -> None:
    assert read([b"\n" * 6], limit=11)[1].refusal is TOO_LARGE
