from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.longlines import LongLines


def found(*pieces: bytes) -> bool:
    lines = LongLines()
    for piece in pieces:
        lines.feed(piece)
    return lines.found


@pytest.mark.parametrize(("length", "expected"), [(0, False), (998, False), (999, True), (1000, True), (65_536, True)])
@pytest.mark.parametrize("around", [b"", b"short\r\n" * 300])
def test_a_line_is_long_over_998_octets(length: int, expected: bool, around: bytes) -> None:
    content = around + b"x" * length + b"\r\n" + around
    assert found(content) is expected
    assert found(*(content[n : n + 7] for n in range(0, len(content), 7))) is expected


@given(st.lists(st.integers(0, 1500), max_size=20), st.lists(st.integers(0, 10_000), max_size=10))
def test_it_is_the_same_however_content_is_cut(lengths: list[int], cuts: list[int]) -> None:
    content = b"".join(b"y" * length + b"\r\n" for length in lengths)
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[start:end] for start, end in pairwise(edges)]
    assert found(*pieces) is any(length > 998 for length in lengths)


@pytest.mark.parametrize("unit", [b"\n", b"\r\n", b"x" * 998 + b"\r\n", b"x"])
def test_content_is_looked_at_in_linear_time(unit: bytes) -> None:
    content = unit * (25_000_000 // len(unit))
    began = time.process_time()
    found(content)
    assert time.process_time() - began < 1.0
