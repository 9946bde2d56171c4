from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.headers.controls import (
    CONTROL_FIELDS,
    IDEMPOTENCY_KEY,
    NO_CONTROLS,
    NOT_AFTER,
    PRIORITY,
    TAG,
    UPSTREAM,
    Controls,
    read_controls,
)
from relay.mail import Priority
from relay.outcome import Reply


def test_nothing_asked_for() -> None:
    assert read_controls([]) == NO_CONTROLS == Controls(None, None, None, None, None)


@pytest.mark.parametrize("text", [b"urgent", b"URGENT", b"Urgent"])
def test_a_priority_in_any_case(text: bytes) -> None:
    assert read_controls([(PRIORITY, text)]) == Controls(Priority.URGENT)


def test_every_field() -> None:
    fields = [
        (NOT_AFTER, b"Sun, 22 Nov 2026 12:00:00 +0100"),
        (IDEMPOTENCY_KEY, b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (TAG, b"orders/42: confirmation"),
        (UPSTREAM, b"ses-api.2"),
        (PRIORITY, b"bulk"),
    ]
    assert read_controls(fields) == Controls(
        Priority.BULK,
        "ses-api.2",
        "orders/42: confirmation",
        1_795_345_200.0,
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, b"") for name in CONTROL_FIELDS),
        *((name, b"\xff\x00") for name in CONTROL_FIELDS),
        *((name, "\u0130".encode()) for name in CONTROL_FIELDS),
        (PRIORITY, b"high"),
        (PRIORITY, b"urgent!"),
        (UPSTREAM, b"ses api"),
        (UPSTREAM, b"x" * 65),
        (UPSTREAM, b"ses\n"),
        (TAG, b"x" * 129),
        (TAG, b"a\tb"),
        (IDEMPOTENCY_KEY, b"x" * 256),
        (NOT_AFTER, b"tomorrow"),
        (NOT_AFTER, b"2026-11-22T12:00:00Z"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_without_being_repeated(name: bytes, value: bytes) -> None:
    refusal = read_controls([(name, value)])
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (550, "5.6.0")
    assert name.decode() in refusal.text.lower()
    assert not value or value.decode("latin-1") not in str(refusal)


def test_a_field_given_twice() -> None:
    assert read_controls([(TAG, b"a"), (TAG, b"a")]) == Controls(tag="a")
    refusal = read_controls([(TAG, b"a"), (TAG, b"b")])
    assert isinstance(refusal, Reply)
    assert str(refusal) == "550 5.6.0 Error: X-Relay-Tag given twice"


@given(st.lists(st.tuples(st.sampled_from(CONTROL_FIELDS), st.binary(max_size=20)), max_size=5))
def test_any_octets_are_understood_or_refused(fields: list[tuple[bytes, bytes]]) -> None:
    result = read_controls(fields)
    if isinstance(result, Controls):
        texts = [text for text in (result.upstream, result.tag, result.idempotency_key) if text is not None]
        assert all(text and text.isascii() and text.isprintable() for text in texts)
    else:
        assert str(result).isascii()
        assert str(result).isprintable()
