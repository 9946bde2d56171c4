"""Header fields: their canonical form against dkimpy's, and whose message it is."""

from __future__ import annotations

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from relay.dkim.fields import ascii_domain, author_domain, author_of, header_of, relaxed, signed_domains, split

VALUES = st.lists(
    st.sampled_from([b"a", b" ", b"\t", b"\r\n ", b"\r\n\t", b"  ", b"b=c", b":", b";", b"\xc3\xbc"]), max_size=12
).map(b"".join)


@given(st.sampled_from([b"Subject", b"FROM", b"x-a"]), VALUES)
def test_relaxed_fields_are_as_dkimpy_has_them(name: bytes, value: bytes) -> None:
    ((there, canonical),) = Relaxed.canonicalize_headers([(name, value + b"\r\n")])
    assert relaxed(name + b":" + value) + b"\r\n" == there + b":" + canonical


@pytest.mark.parametrize("field", [b"X-A : b", b"x-a:b", b"X-A\t:\t b \t", b"X-A:\r\n  b\r\n "])
def test_odd_fields_have_one_canonical_form(field: bytes) -> None:
    assert relaxed(field) == b"x-a:b"


def test_fields_are_split_where_they_end() -> None:
    header = b"A: 1\r\nb : 2\r\n folded\r\n\tagain\r\nA: 3\r\n"
    assert split(header) == [(b"a", b"A: 1"), (b"b", b"b : 2\r\n folded\r\n\tagain"), (b"a", b"A: 3")]
    assert header_of(header + b"\r\nbody\r\n\r\n") == header
    assert header_of(header) == header


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b" a@example.com", "example.com"),
        (b' "Ann, of <x@y>" <a@Example.COM>', "example.com"),
        (b" Ann <a@b.example>, Bob <b@example.com>", "b.example"),
        (b" a@b.example, b@example.com", "b.example"),
        (b" (comment @ (nested) , <x@y>) a@example.com (x@y)", "example.com"),
        (b' "a@b"@example.com', "example.com"),
        (b" a @ example.com ", "example.com"),
        (b" Team: a@example.com, b@c.example;", "example.com"),
        (b" <@relay.example,@b.example:a@example.com>", "example.com"),
        (b" ann@home <a@example.com>", "example.com"),
        (b" a@example.com.", "example.com"),
        ("a@müller.example".encode(), "xn--mller-kva.example"),
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe?= <a@sub.example.com>", "sub.example.com"),
        (b" undisclosed", None),
        (b"", None),
        (b" <>", None),
        (b" a@[192.0.2.1]", None),
        (b" a@exa mple.com", None),
        (b" a@\xff\xfe.example", None),
        (b' "unfinished <a@example.com>', "example.com"),
    ],
)
def test_the_author_is_the_first_mailbox(value: bytes, domain: str | None) -> None:
    assert author_domain(value) == domain


@given(st.binary(max_size=200))
def test_any_value_has_an_author_or_none(value: bytes) -> None:
    found = author_domain(value)
    assert found is None or found.isascii()


@pytest.mark.parametrize("octets", [b'"' * 100_000, b"(" * 100_000, b"<@" * 50_000, b"\\" * 100_000])
def test_a_hostile_author_is_none(octets: bytes) -> None:
    assert author_domain(octets) is None
    assert author_domain(octets[:9999]) is None


def test_the_author_of_a_header() -> None:
    assert author_of(b"X: 1\r\nfrom :\r\n Ann\r\n <a@example.com>\r\nTo: b@y\r\n") == "example.com"
    assert author_of(b"X-From: a@example.com\r\nX:\r\n From: a@example.com\r\n") is None


def test_the_domains_that_have_signed() -> None:
    first = b"DKIM-Signature: v=1; bh=d=x; d= Example.\r\n COM ; s=a\r\n"
    header = first + b"DKIM-Signature: d=b.example\r\nX: d=c.example\r\n"
    assert list(signed_domains(split(header))) == ["example.com", "b.example"]


def test_a_domain_that_is_none() -> None:
    assert ascii_domain("ü" * 300) is None
    assert ascii_domain("a..b") is None
