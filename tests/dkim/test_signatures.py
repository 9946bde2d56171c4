"""What is signed, and that it holds: dkimpy verifies what is made here."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dkim.bodies import BodyHash
from relay.dkim.choice import fitting, profile_of
from relay.dkim.signatures import Canonicalization, Prepared, Unsignable, in_order, prepare, unsigned
from relay.dkim.verifying import Result, verify
from relay.mail import UNSIGNED, Signatures
from relay.settings import UpstreamDkimSettings
from relay.signing.keys import PrivateKey, make_key

RSA = make_key("r1", "rsa", 1024)
ED25519 = make_key("e1", "ed25519")
RECORDS = {f"{key.selector}._domainkey.example.com": key.record() for key in (RSA, ED25519)}
WAYS: tuple[Canonicalization, ...] = ("relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed")
HEADER = b"From: Ann <a@example.com>\r\nTo: b@y.test\r\nSubject: x\r\nDate: z\r\nMessage-ID: <m@x>\r\n"
BODY = b"hello  \r\n\r\n"


def signed(header: bytes, body: bytes, way: Canonicalization = "relaxed/simple", key: PrivateKey = RSA) -> bytes:
    hasher = BodyHash(relaxed=way.endswith("/relaxed"))
    hasher.feed(body)
    prepared = prepare(header, "example.com", way)
    assert prepared is not None
    made = unsigned(
        prepared, key, domain="example.com", canonicalization=way, body_hash=hasher.finish(), now=1_795_000_000
    )
    return made.signed(key.sign(made.digest))


def results(message: bytes) -> list[bool]:
    return [result.passed for result in verify(message, RECORDS.get)]


NAMES = st.sampled_from(["To", "CC", "subject", "Reply-To", "X-Odd", "Received", "List-Id", "Resent-To", "References"])
VALUES = st.lists(
    st.sampled_from(["a", " ", "\t", "\r\n ", "\r\n\t", "b@c", ";", "=", ":", "d=example.com"]), max_size=8
).map("".join)
# dkimpy takes a fold of blanks alone for the header's end; our own scan of a message does not make such ones.
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(
    lambda fields: "".join(f"{name}: {value}x\r\n" for name, value in fields)
)
BODIES = st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"word", b"\xff", b" \r\n"]), max_size=10).map(
    lambda pieces: b"".join(pieces) + b"\r\n"
)


@settings(max_examples=150)
@given(FIELDS, FIELDS, BODIES, st.sampled_from(WAYS), st.sampled_from([RSA, ED25519]))
def test_what_is_signed_holds(above: str, below: str, body: bytes, way: Canonicalization, key: PrivateKey) -> None:
    header = f"{above}From: Ann <a@example.com>\r\n{below}".encode()
    assert results(signed(header, body, way, key) + header + b"\r\n" + body) == [True]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \r\n", b"a\r\n\r\n\r\n"])
def test_bodies_that_are_next_to_nothing(way: Canonicalization, body: bytes) -> None:
    assert results(signed(HEADER, body, way) + HEADER + b"\r\n" + body) == [True]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Ann", b"Eve"),
        (b"hello", b"hallo"),
        (b"Subject: x", b"Subject: y"),
        (b"From:", b"From: Eve <e@example.com>\r\nFrom:"),
        (b"To:", b"Cc: e@y.test\r\nTo:"),
        (b"To:", b"Reply-To: e@y.test\r\nTo:"),
        (b"Date: z", b"Date: z\r\nDate: y"),
        (b"\r\n\r\n", b"\r\n\r\nmore"),
    ],
)
def test_what_was_changed_or_added_breaks_it(before: bytes, after: bytes) -> None:
    message = signed(HEADER, BODY) + HEADER + b"\r\n" + BODY
    assert results(message) == [True]
    head, body = message[: message.index(b"From:")], message[message.index(b"From:") :]
    assert before in body
    assert results(head + body.replace(before, after, 1)) == [False]


def test_what_it_leaves_open_may_change() -> None:
    message = signed(HEADER, BODY) + HEADER + b"\r\n" + BODY
    assert results(b"Received: by x\r\nReturn-Path: <b@y>\r\n" + message) == [True]
    # Relaxed header fields may be folded anew, relaxed bodies were not asked for.
    assert results(message.replace(b"Ann <a@", b"Ann\r\n   <a@")) == [True]


def test_fields_that_the_next_hop_writes_are_left_out() -> None:
    prepared = prepare(HEADER, "example.com", "relaxed/simple", (b"date", b"message-id"))
    assert prepared is not None
    assert prepared.h == "from:from:reply-to:subject:subject:to:to:cc"
    everything = prepare(HEADER, "example.com", "relaxed/simple")
    assert everything is not None
    assert everything.h == "from:from:reply-to:subject:subject:to:to:cc:date:date:message-id:message-id"


def test_several_of_a_name_are_signed_from_the_bottom() -> None:
    prepared = prepare(b"To: 1\r\nFrom: a\r\nTo: 2\r\n", "example.com", "relaxed/simple")
    assert prepared == Prepared("from:from:reply-to:subject:to:to:to:cc", b"from:a\r\nto:2\r\nto:1\r\n", False)


def test_never_a_second_one_of_the_same_domain() -> None:
    bearing = b"DKIM-Signature: v=1; a=rsa-sha256; d=Example.COM; s=x; b=\r\n" + HEADER
    assert prepare(bearing, "example.com", "relaxed/simple") is None
    other = bearing.replace(b"Example.COM", b"sub.example.com")
    assert prepare(other, "example.com", "relaxed/simple") is not None
    assert prepare(other, "example.com", "relaxed/simple", alone=True) is None


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"To: b\r\n", "no From field, or several"),
        (b"From: a\r\nFrom: b\r\n", "no From field, or several"),
        (b"From: a\r\n" + b"To: b\r\n" * 300, "too many fields"),
        (b"From : a\r\n", "blanks before a field's colon"),
    ],
)
def test_what_can_not_be_signed(header: bytes, why: str) -> None:
    with pytest.raises(Unsignable, match=why):
        prepare(header, "example.com", "relaxed/simple")


def test_odd_fields_that_are_not_signed_do_not_matter() -> None:
    assert prepare(b"X-A : b\r\nFrom: a\r\n" + b"X: y\r\n" * 10_000, "example.com", "relaxed/simple") is not None


@pytest.mark.parametrize("key", [RSA, ED25519])
def test_no_line_is_long(key: PrivateKey) -> None:
    field = signed(HEADER, BODY, key=key)
    assert field.endswith(b"\r\n")
    assert b"l=" not in field.replace(b"bl=", b"")[: field.index(b"bh=")]
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert all(line[:1] == b"\t" for line in field.split(b"\r\n")[1:-1])


def test_rsa_comes_first() -> None:
    assert in_order([ED25519, RSA]) == (RSA, ED25519)


def test_results_tell_why() -> None:
    message = signed(HEADER, BODY) + HEADER + b"\r\n" + BODY
    (unpublished,) = verify(message, lambda _: None)
    assert unpublished == Result("example.com", "r1", "rsa-sha256", False, "no record at r1._domainkey.example.com")
    (other,) = verify(message, lambda _: ED25519.record())
    assert not other.passed
    assert other.reason
    assert verify(HEADER + b"\r\n" + BODY, RECORDS.get) == []
    (odd,) = verify(b"DKIM-Signature: nothing\r\n" + HEADER + b"\r\n" + BODY, lambda _: RSA.record())
    assert not odd.passed


FIELD = b"DKIM-Signature: v=1;\r\n\tb=%d\r\n"
ALL = Signatures(FIELD % 1 + FIELD % 2 + FIELD % 3, "")


@pytest.mark.parametrize(("count", "sent"), [(None, 3), (0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_an_upstream_gets_as_many_as_it_takes(count: int | None, sent: int) -> None:
    found = fitting(ALL, UpstreamDkimSettings(count))
    assert found == b"".join(FIELD % n for n in range(1, sent + 1))


def test_an_upstream_that_wants_other_fields_gets_other_signatures() -> None:
    ses = UpstreamDkimSettings(1, ("date", "message-id"), alone=True)
    assert profile_of(ses) == "date,message-id,alone"
    assert fitting(ALL, ses) is None
    assert fitting(Signatures(FIELD % 1 + FIELD % 2, profile_of(ses)), ses) == FIELD % 1
    assert fitting(UNSIGNED, ses) == b""
    none = UpstreamDkimSettings(0)
    assert fitting(Signatures(b"", profile_of(none)), UpstreamDkimSettings()) is None
