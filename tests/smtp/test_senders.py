from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.senders import is_pattern, may_send


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "<>",
        "a@b.example",
        "*@b.example",
        "a+*@b.example",
        "*-list@b",
        "a@*.example",
        "*@*",
        '"a@b"@c',
        "*@[192.0.2.1]",
    ],
)
def test_patterns(pattern: str) -> None:
    assert is_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "b.example", "@b.example", "a@", "**@b", "a*b@c", "a@b*c", "a b@c", "a@b@c"])
def test_no_patterns(pattern: str) -> None:
    assert not is_pattern(pattern)


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("a@b.example", "a@b.example"),
        ("A@B.Example", "a@b.example"),
        ("anybody@b.example", "*@b.example"),
        ("a+1@b.example", "a+*@b.example"),
        ("my-list@b", "*-list@b"),
        ("a@sub.b.example", "*@*.b.example"),
        ('"odd @ name"@b.example', "*@b.example"),
        ("", "<>"),
        ("", "*"),
        ("a@b", "*"),
    ],
)
def test_what_a_pattern_lets_pass(address: str, pattern: str) -> None:
    assert may_send(address, [pattern])


@pytest.mark.parametrize(
    ("address", "pattern"),
    [
        ("b@b.example", "a@b.example"),
        ("a@evil.example", "*@b.example"),
        ("a@b.example.evil", "*@b.example"),
        ("a@xb.example", "*@b.example"),
        ("a@b.example", "*@*.b.example"),
        ('"x@b.example"@evil', "*@b.example"),
        ('"a"@b.example', "a@b.example"),
        ("", "*@b.example"),
        ("a@b", "<>"),
        ("root", "*@b.example"),
    ],
)
def test_what_a_pattern_keeps_out(address: str, pattern: str) -> None:
    assert not may_send(address, [pattern])


def test_one_of_several_is_enough() -> None:
    assert may_send("", ["*@b.example", "<>"])
    assert not may_send("", [])


@given(st.text(), st.text())
def test_nothing_raises(address: str, pattern: str) -> None:
    may_send(address, [pattern])
    is_pattern(pattern)
