"""Dots doubled on the way out, whole or piece by piece."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.stuffing import Stuffer, stuff

CONTENT = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b"..", b"bc\r\n"]), max_size=12).map(b"".join)


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n"),
    ],
)
def test_on_the_wire(content: bytes, wire: bytes) -> None:
    assert stuff(content) == wire


def unstuffed(wire: bytes) -> bytes:
    lines = wire.removesuffix(b".\r\n").split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


@given(CONTENT)
def test_a_receiver_gets_back_what_was_there(content: bytes) -> None:
    ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert unstuffed(stuff(content)) == ended
    assert b"\r\n.\r\n" not in stuff(content)[:-3], "the end is marked once"


@given(CONTENT, st.lists(st.integers(0, 40), max_size=6))
def test_pieces_make_the_same_as_the_whole(content: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    stuffer = Stuffer()
    wire = b"".join(stuffer.piece(content[start:end]) for start, end in itertools.pairwise(edges))
    assert wire + stuffer.end() == stuff(content)
