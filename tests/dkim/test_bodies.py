"""The body hash against dkimpy's canonicalisation, for any body in any split, in linear time."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from relay.dkim.bodies import BodyHash

PIECES = st.sampled_from([b"\r\n", b"\r\n\r\n", b" ", b"\t", b"  \t ", b"a", b"word", b".", b"\0", b"\xff", b" \r\n"])
BODIES = st.lists(PIECES, max_size=30).map(lambda pieces: b"".join(pieces) + b"\r\n") | st.just(b"")


def hashed(body: bytes, *, relaxed: bool, cuts: tuple[int, ...] = ()) -> str:
    hasher = BodyHash(relaxed=relaxed)
    start = 0
    for cut in (*sorted(cut % (len(body) + 1) for cut in cuts), len(body)):
        hasher.feed(body[start:cut])
        start = cut
    return hasher.finish()


def by_dkimpy(body: bytes, *, relaxed: bool) -> str:
    canonical = (Relaxed if relaxed else Simple).canonicalize_body(body)
    return base64.b64encode(hashlib.sha256(canonical).digest()).decode()


@given(BODIES, st.booleans(), st.lists(st.integers(0, 10_000), max_size=8).map(tuple))
def test_any_body_in_any_split_is_hashed_as_dkimpy_does(body: bytes, relaxed: bool, cuts: tuple[int, ...]) -> None:
    assert hashed(body, relaxed=relaxed, cuts=cuts) == by_dkimpy(body, relaxed=relaxed)


@pytest.mark.parametrize("size", [2046, 2047, 2048, 4094, 4095, 16_381, 16_382, 16_383, 40_000])
def test_large_pieces_are_hashed_as_small_ones(size: int) -> None:
    body = bytes(n % 251 for n in range(size)).replace(b"\r", b"x").replace(b"\n", b"y") + b"\r\n"
    assert hashed(body, relaxed=False) == by_dkimpy(body, relaxed=False)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.booleans())
def test_octet_by_octet_it_is_the_same(body: bytes, relaxed: bool) -> None:
    assert hashed(body, relaxed=relaxed, cuts=tuple(range(len(body)))) == hashed(body, relaxed=relaxed)


# RFC 6376 §3.4.3 and §3.4.4 give these two.
def test_an_empty_body() -> None:
    assert hashed(b"", relaxed=False) == "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert hashed(b"", relaxed=True) == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_last_line_without_its_end_gets_one(relaxed: bool) -> None:
    assert hashed(b"a\r\nb", relaxed=relaxed) == hashed(b"a\r\nb\r\n", relaxed=relaxed)
    assert hashed(b"a\r\nb ", relaxed=relaxed) == hashed(b"a\r\nb \r\n", relaxed=relaxed)


def test_more_empty_lines_than_are_hashed_at_once() -> None:
    body = b"a" + b"\r\n" * 20_000 + b"b\r\n"
    assert hashed(body, relaxed=False, cuts=(3, 7001)) == by_dkimpy(body, relaxed=False)


@pytest.mark.parametrize("unit", [b" ", b"\t ", b"\r\n", b" \r\n", b"a ", b"a" * 998 + b"\r\n"])
@pytest.mark.parametrize("relaxed", [False, True])
def test_twice_the_body_takes_no_more_than_about_twice_the_time(unit: bytes, relaxed: bool) -> None:
    def seconds(octets: int) -> float:
        body = unit * (octets // len(unit))
        best = 60.0
        for _ in range(5):
            began = time.thread_time()
            hashed(body, relaxed=relaxed, cuts=tuple(range(0, octets, 65_536)))
            best = min(best, time.thread_time() - began)
        return best

    # dkimpy takes minutes for a megabyte of blanks; four times the body, with room for a busy machine.
    assert seconds(800_000) < 10 * seconds(200_000) + 0.005
