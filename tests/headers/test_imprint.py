from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.headers.imprint import KEY_WINDOW, imprints
from relay.mail import Body, Envelope, Imprint, Recipient

ENVELOPE = Envelope("a@x.test", (Recipient(0, "b@y.test"), Recipient(1, "c@y.test")))


def of(
    envelope: Envelope = ENVELOPE,
    *,
    user: str = "",
    key: str | None = None,
    message_id: str | None = "<1@x>",
    window: float | None = 600.0,
) -> tuple[Imprint, ...]:
    return imprints(envelope, user=user, key=key, message_id=message_id, window=window)


def test_what_is_asked_for_is_made() -> None:
    assert of(window=None) == ()
    assert of(message_id=None) == ()
    assert [(each.kind, each.window) for each in of(key="k")] == [
        ("Idempotency-Key", KEY_WINDOW),
        ("Message-ID", 600.0),
    ]


def test_order_and_repetition_of_recipients_and_their_parameters_mean_nothing() -> None:
    b, c = ENVELOPE.recipients
    other = replace(ENVELOPE, recipients=(c, replace(b, notify="NEVER"), c), body=Body.EIGHT_BIT, ret="FULL", envid="x")
    assert of(other, key="k") == of(key="k")


@pytest.mark.parametrize(
    "other",
    [
        replace(ENVELOPE, sender="A@x.test"),
        replace(ENVELOPE, sender=""),
        replace(ENVELOPE, recipients=ENVELOPE.recipients[:1]),
        replace(ENVELOPE, recipients=(*ENVELOPE.recipients, Recipient(2, "d@y.test"))),
    ],
)
def test_another_sender_or_other_recipients_make_another_message(other: Envelope) -> None:
    assert not {each.digest for each in of(other, key="k")} & {each.digest for each in of(key="k")}


def test_keys_are_each_users_own_and_message_ids_are_not() -> None:
    mine, by_id = of(user="a", key="k")
    theirs, same_id = of(user="b", key="k")
    assert mine.digest != theirs.digest
    assert by_id == same_id


@given(st.lists(st.text('ab@"', min_size=1, max_size=3), min_size=4, max_size=4), st.integers(0, 3))
def test_no_part_passes_for_another(parts: list[str], at: int) -> None:
    def digest(user: str, key: str, sender: str, recipient: str) -> bytes:
        envelope = Envelope(sender, (Recipient(0, recipient),))
        return of(envelope, user=user, key=key, window=None)[0].digest

    moved = [*parts]
    moved[at] += "x"
    moved[at - 1] = moved[at - 1].removesuffix("x")
    assert (digest(*parts) == digest(*moved)) == (parts == moved)
    assert digest(*parts) != of(Envelope(parts[2], (Recipient(0, parts[3]),)), message_id=parts[1])[0].digest
