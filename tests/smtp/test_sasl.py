from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.outcome import Reply
from relay.smtp.sasl import Credentials, decode, decode_initial, login, plain


def test_a_line_is_base64() -> None:
    assert decode("aGk=") == b"hi"
    assert decode("") == b""


@pytest.mark.parametrize("line", ["aGk", "a Gk=", "aGk=\n", "=", "aGk==", "ü", "{}"])
def test_a_line_that_is_none_is_501(line: str) -> None:
    refusal = decode(line)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (501, "5.5.2")


def test_a_star_gives_up() -> None:
    refusal = decode("*")
    assert isinstance(refusal, Reply)
    assert refusal.code == 501


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    assert decode_initial("=") == b""
    assert decode_initial("aGk=") == b"hi"


@pytest.mark.parametrize(
    ("message", "credentials"),
    [
        (b"\0me\0geheim", Credentials("me", "geheim")),
        (b"me\0me\0geheim", Credentials("me", "geheim")),
        # Who acts for somebody else proves nothing.
        (b"you\0me\0geheim", Credentials("me", "")),
        ("\0mu\u0308\0e\u0301".encode(), Credentials("m\u00fc", "\u00e9")),
    ],
)
def test_plain(message: bytes, credentials: Credentials) -> None:
    assert plain(message) == credentials


@pytest.mark.parametrize("message", [b"", b"me\0geheim", b"\0me\0geheim\0", b"\0\xff\0geheim"])
def test_no_plain(message: bytes) -> None:
    assert isinstance(plain(message), Reply)


def test_login() -> None:
    assert login(b"me", b"geheim") == Credentials("me", "geheim")
    assert isinstance(login(b"\xff", b"x"), Reply)


def test_credentials_do_not_show_the_password() -> None:
    assert "geheim" not in repr(Credentials("me", "geheim"))


@given(st.text(), st.binary())
def test_nothing_raises(line: str, message: bytes) -> None:
    decode(line)
    plain(message)
    login(message, message)
