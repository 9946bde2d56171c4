"""Replies out of bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.outcome import Reply
from relay.smtp.replies import MAX_REPLY, ReplyReader


def read(data: bytes) -> list[Reply]:
    return ReplyReader().feed(data)


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"250 2.0.0 Ok\r\n", [Reply(250, "Ok", "2.0.0")]),
        (b"250\r\n", [Reply(250, "")]),
        (b"250 ok\n", [Reply(250, "ok")]),
        (b"250-2.1.5 a\r\n250 2.1.5 b\r\n", [Reply(250, "a b", "2.1.5")]),
        (b"550 2.0.0 odd\r\n", [Reply(550, "2.0.0 odd")]),
        (b"250 a\r\n354 b\r\n", [Reply(250, "a"), Reply(354, "b")]),
        (b"250 \xff\x1b[31m\r\n", [Reply(250, "\ufffd?[31m")]),
        (b"250 ok", []),
    ],
)
def test_reads(data: bytes, replies: list[Reply]) -> None:
    assert read(data) == replies


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"25 x\r\n",
        b"2500 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"250-a\r\n251 b\r\n",
        b"\r\n",
        b"250 " + b"x" * 5000,
        "²50 x\r\n".encode(),
    ],
)
def test_refuses(data: bytes) -> None:
    reader = ReplyReader()
    assert reader.feed(b"250 good\r\n" + data) == [Reply(250, "good")]
    assert reader.broken is not None
    assert reader.feed(b"250 late\r\n") == []


def test_an_endless_reply_ends() -> None:
    reader = ReplyReader()
    for _ in range(MAX_REPLY // 8 + 1):
        assert reader.feed(b"250-more\r\n") == []
    assert reader.broken is not None


def test_a_long_text_is_cut() -> None:
    (reply,) = read(b"550 " + b"x" * 3000 + b"\r\n")
    assert len(reply.text) == 500


@given(st.lists(st.sampled_from([b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"354\r\n"])), st.lists(st.integers(0, 60)))
def test_any_split_reads_the_same(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = ReplyReader()
    got = [reply for start, end in itertools.pairwise(edges) for reply in reader.feed(data[start:end])]
    assert got == read(data)
    assert not reader.partial


@given(st.binary(max_size=200))
def test_any_bytes_are_replies_or_a_break(data: bytes) -> None:
    assert all(200 <= reply.code <= 599 and reply.text.isprintable() for reply in read(data))
