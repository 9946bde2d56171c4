from __future__ import annotations

import base64

import pytest

from relay.upstream.auth import Choice, mechanisms, without_secret


@pytest.mark.parametrize(
    ("choice", "offered", "trusted", "ranked"),
    [
        ("auto", {"plain", "login", "cram-md5", "gssapi"}, True, ("plain", "login", "cram-md5")),
        ("auto", {"plain", "login", "cram-md5"}, False, ("cram-md5", "plain", "login")),
        ("auto", {"login"}, False, ("login",)),
        ("login", {"plain", "login"}, True, ("login",)),
        ("plain", {"login"}, True, ()),
        ("auto", set(), True, ()),
    ],
)
def test_the_best_first(choice: Choice, offered: set[str], trusted: bool, ranked: tuple[str, ...]) -> None:
    assert mechanisms(choice, offered, trusted=trusted) == ranked


def test_a_secret_is_blotted_out_in_each_form() -> None:
    forms = ("pass", base64.b64encode(b"pass").decode(), base64.b64encode(b"\0me\0pass").decode())
    assert without_secret(" ".join(forms), "me", "pass") == "******** ******** ********"
    assert without_secret("535 no", "me", "") == "535 no"
