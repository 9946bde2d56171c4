"""SPF, DKIM and DMARC records as they are published, well and badly. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.checking.records import (
    DMARC_QUERIES,
    Dmarc,
    Spf,
    dmarc_names,
    is_dmarc,
    is_spf,
    key_trouble,
    policy_of,
    read_spf,
    tags,
)

OURS = "v=DKIM1; k=rsa; p=QUJD"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("v=spf1 -all", Spf("-")),
        ("v=spf1 all", Spf("+")),
        ("v=spf1", Spf("")),
        ("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ?all", Spf("?")),
        ("v=spf1 include:_spf.example.net a mx ~all", Spf("~", ("_spf.example.net",), 3)),
        ("v=spf1 A:x.test/24 MX/24//64 exists:%{i}.x.test -ALL", Spf("-", (), 3)),
        ("v=spf1 redirect=other.test", Spf("redirect", ("other.test",), 1)),
        ("v=spf1 redirect=other.test -all", Spf("-")),
        ("v=spf1 -all include:never.test", Spf("-")),
        ("v=spf1 exp=why.test -all", Spf("-")),
    ],
)
def test_spf(text: str, read: Spf) -> None:
    assert is_spf(text)
    assert read_spf(text) == read


@pytest.mark.parametrize(
    "text", ["v=spf1 include -all", "v=spf1 ipv4:192.0.2.1 -all", "v=spf1 include: -all", "v=spf1 ,"]
)
def test_spf_that_can_not_be_read(text: str) -> None:
    assert read_spf(text).flaw


def test_what_is_no_spf() -> None:
    assert not is_spf("v=spf10 -all")
    assert not is_spf("spf2.0/pra -all")


@pytest.mark.parametrize(
    ("published", "trouble"),
    [
        ([OURS], ""),
        (["p=QUJD"], ""),
        (["v=DKIM1; k=rsa; t=s; h=sha1:sha256; s=email; p=QU JD"], ""),
        ([OURS, OURS], "there are several records"),
        (["v=DKIM1"], "it is no DKIM record"),
        (["v=DKIM2; p=QUJD"], "it is no DKIM record"),
        (["v=DKIM1; p="], "the key is revoked (an empty p=)"),
        (["k=ed25519; p=QUJD"], "it has a key of ed25519, ours is of rsa"),
        (["p=QUJE"], "it has another key than key_file"),
        (["p=!"], "it has another key than key_file"),
        (["h=sha1; p=QUJD"], "it allows the hash sha1 only"),
        (["s=tlsrpt; p=QUJD"], "it is for the service tlsrpt only"),
    ],
)
def test_a_published_key(published: list[str], trouble: str) -> None:
    assert key_trouble(published, OURS) == (trouble, "")


def test_a_key_that_is_tried_out() -> None:
    assert key_trouble(["t=y:s; p=QUJD"], OURS) == ("", "it says that the domain only tries DKIM out (t=y)")


def test_the_walk() -> None:
    assert dmarc_names("a.b.example.com") == (
        "_dmarc.a.b.example.com",
        "_dmarc.b.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    )
    long = dmarc_names("a.b.c.d.e.f.g.h.i.j.mail.example.com")  # RFC 9989's own example of a long name
    assert long[:2] == ("_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com", "_dmarc.g.h.i.j.mail.example.com")
    assert len(long) == DMARC_QUERIES


@given(st.lists(st.sampled_from(["a", "bb"]), min_size=1, max_size=40))
def test_the_walk_is_short_and_ends_at_the_top(labels: list[str]) -> None:
    names = dmarc_names(".".join(labels))
    assert len(names) <= DMARC_QUERIES
    assert len(set(names)) == len(names)
    assert names[0] == f"_dmarc.{'.'.join(labels)}"
    assert names[-1] == f"_dmarc.{labels[-1]}"


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        ({}, None),
        (
            {"a.b.test": "v=DMARC1; p=reject; sp=none; rua=mailto:x@b.test"},
            Dmarc("reject", "_dmarc.a.b.test", reports=True),
        ),
        ({"a.b.test": "v=DMARC1; p=what"}, Dmarc("none", "_dmarc.a.b.test", reports=False)),
        ({"a.b.test": "v=DMARC1; p=reject; t=y"}, Dmarc("reject", "_dmarc.a.b.test", reports=False, testing=True)),
        ({"b.test": "v=DMARC1; p=reject; sp=quarantine"}, Dmarc("quarantine", "_dmarc.b.test", reports=False)),
        ({"b.test": "v=DMARC1; p=reject"}, Dmarc("reject", "_dmarc.b.test", reports=False)),
        (
            {"b.test": "v=DMARC1; p=none", "test": "v=DMARC1; p=reject; psd=y"},
            Dmarc("none", "_dmarc.b.test", reports=False),
        ),
        ({"test": "v=DMARC1; p=reject; psd=y"}, Dmarc("reject", "_dmarc.test", reports=False)),
        (
            {"b.test": "v=DMARC1; p=none; psd=n", "test": "v=DMARC1; p=reject"},
            Dmarc("none", "_dmarc.b.test", reports=False),
        ),
    ],
)
def test_the_policy_of_a_domain(found: dict[str, str], policy: Dmarc | None) -> None:
    assert policy_of("a.b.test", {f"_dmarc.{name}": text for name, text in found.items()}) == policy


def test_what_is_a_dmarc_record() -> None:
    assert is_dmarc("v=DMARC1; p=none")
    assert is_dmarc("v = DMARC1 ;p=none")
    assert not is_dmarc("v=DMARC10; p=none")
    assert not is_dmarc("p=none; v=DMARC1")


def test_tags() -> None:
    assert tags(" V = x ; p=a=b; p=c; junk;") == {"v": "x", "p": "a=b"}
