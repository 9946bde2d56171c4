"""DATA and BDAT: any split gives the same content, which is what a reader of one octet after the other makes of it."""

from __future__ import annotations

from relay.smtp.bdat import ChunkReader
from relay.smtp.datareader import DataReader
from relay.smtp.lineends import are_whole, normalised
from relay.smtp.longlines import LongLines
from relay.smtp.stuffing import Stuffer, stuff
from tests.fuzz.supply import Supply, pieces

SEEDS = (
    b"Subject: x\r\n\r\n..dot\r\nbody\r\n.\r\nQUIT\r\n",
    b"a\n.\nb\r\n.\r\n",
    b"a\r.\r\n\r\n.\r\r\n.\n.\r\n.\r\n\x00\x01\x10\x20\x30\x40\x04",
    b".\r\n",
    b"\r\n.\n.\r.\x00\r\n.\r\nMAIL",
)
_PLENTY = 1 << 20


def check(octets: bytes) -> None:
    supply = Supply(octets)
    cuts = supply.cuts()
    limit = supply.number(64) if supply.choice() else _PLENTY
    reject = supply.choice()
    stream = supply.rest()
    _data(stream, cuts, limit, reject=reject)
    _bdat(stream, cuts, limit, reject=reject)
    _out_and_in_again(normalised(stream), cuts)
    _long_lines(stream, cuts)


def _data(stream: bytes, cuts: list[int], limit: int, *, reject: bool) -> None:
    reader = DataReader(limit, reject=reject)
    content = b""
    unread = pieces(stream, cuts)
    while unread and not reader.done:
        content += reader.feed(unread.pop(0))
    whole = DataReader(limit, reject=reject)
    whole_content = whole.feed(stream)
    assert (reader.done, reader.rest + b"".join(unread)) == (whole.done, whole.rest)
    if not whole.done:
        return
    assert (reader.refusal is None) == (whole.refusal is None)
    expected, rest, bare = _by_octet(stream)
    assert whole.rest == rest
    if whole.refusal is None:
        assert content == whole_content == expected
        assert are_whole(content)
        assert len(content) == reader.size <= limit
        assert not (reject and bare)
    else:
        assert len(expected) > limit or (reject and bare)


def _by_octet(stream: bytes) -> tuple[bytes, bytes, bool]:
    """Content, what is behind it, and whether a line end was bare: RFC 5321 as one reads it, slowly."""
    end = (b"\r\n" + stream).index(b"\r\n.\r\n")
    lines, rest = stream[:end], stream[end + 3 :]
    kept = bytearray()
    begins = True
    bare = False
    position = 0
    while position < len(lines):
        octet = lines[position : position + 1]
        position += 1
        if octet == b"." and begins:
            begins = False
        elif octet == b"\r" and lines[position : position + 1] == b"\n":
            kept += b"\r\n"
            position += 1
            begins = True
        elif octet in {b"\r", b"\n"}:
            kept += b"\r\n"
            bare = True
            begins = octet == b"\n"
        else:
            kept += octet
            begins = False
    return bytes(kept), rest, bare


def _bdat(stream: bytes, cuts: list[int], limit: int, *, reject: bool) -> None:
    reader = ChunkReader(limit, reject=reject)
    content = b"".join(reader.feed(piece) for piece in pieces(stream, cuts)) + reader.end()
    expected = normalised(stream)
    refused = len(expected) > limit or (reject and not are_whole(stream))
    assert (reader.refusal is not None) == refused
    assert refused or content == expected


def _out_and_in_again(content: bytes, cuts: list[int]) -> None:
    wire = stuff(content)
    stuffer = Stuffer()
    assert b"".join(map(stuffer.piece, pieces(content, cuts))) + stuffer.end() == wire
    reader = DataReader(_PLENTY, reject=True)
    back = reader.feed(wire)
    assert (reader.done, reader.rest, reader.refusal) == (True, b"", None)
    assert back == content + (b"" if content.endswith(b"\r\n") or not content else b"\r\n")


def _long_lines(stream: bytes, cuts: list[int]) -> None:
    # Some length is needed to find any.
    content = normalised(stream * 40)
    whole, split = LongLines(), LongLines()
    whole.feed(content)
    for piece in pieces(content, cuts):
        split.feed(piece)
    assert whole.found == split.found
