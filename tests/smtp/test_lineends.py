"""Line ends of content, told and made."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.lineends import are_whole, normalised

CONTENT = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\x00", b"\xe9\xff", b"\x85\x0b\x0c"])).map(b"".join)


@given(CONTENT)
def test_only_a_bare_cr_or_lf_makes_content_less_than_whole(content: bytes) -> None:
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    assert are_whole(content) == (bare is None)


@pytest.mark.parametrize("content", [b"\r", b"a\r\nb\r", b"\na\r\n", b"a\r\n\n", b"\r\r\n", b"\n\r"])
def test_a_bare_one_is_found_wherever_it_stands(content: bytes) -> None:
    assert not are_whole(content)


@given(CONTENT)
def test_what_was_normalised_is_whole_and_stays_as_it_is(content: bytes) -> None:
    whole = normalised(content)
    assert are_whole(whole)
    assert normalised(whole) == whole
