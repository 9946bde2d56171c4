from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.outcome import Reply
from relay.smtp.address import Path, has_control, needs_smtputf8, parse_path


def decoded(octets: bytes) -> str:
    """As the session decodes a command."""
    return octets.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "address",
    [
        "user@example.com",
        "User.Name+tag@Example.COM",
        "!#$%&'*+/=?^_`{|}~-@example.com",
        '"quoted string"@example.com',
        r'"with \"escapes\" and @"@example.com',
        '"<a@b>"@example.com',
        '""@example.com',
        "u@localhost",
        "u@host_with_underscore.example",
        "u@1and1.example",
        "u@[192.0.2.1]",
        "u@[IPv6:2001:db8::1]",
        "u@[ipv6:::1]",
        "üser@exämple.test",
        "x" * 64 + "@example.com",
    ],
)
def test_an_address_is_kept_as_given(address: str) -> None:
    assert parse_path(f"<{address}>") == Path(address, len(address) + 2)
    assert parse_path(f"<{address}> SIZE=1") == Path(address, len(address) + 2)
    assert parse_path(f"{address} SIZE=1") == Path(address, len(address))


@pytest.mark.parametrize("route", ["@one.test:", "@one.test,@two.test:", "@[192.0.2.1]:"])
def test_a_source_route_is_stripped(route: str) -> None:
    assert parse_path(f"<{route}u@b.test>") == Path("u@b.test", len(route) + 10)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "<",
        "<>x",
        "<u@>",
        "<@b>",
        "<u",
        "u>",
        "u",
        "<u.>",
        '<"u>',
        "<@r:u>",
        "<" + "x" * 65 + ">",
        "<u@b",
        "u@b>",
        "< u@b>",
        "<u@b >",
        "<a@b@c>",
        "<.u@b>",
        "<u.@b>",
        "<u..v@b>",
        "<u v@b>",
        "<u@b c>",
        "<u@-b>",
        "<u@b->",
        "<u@b.>",
        "<u@b..c>",
        "<(c)u@b>",
        "<u@b(c)>",
        '<"u@b>',
        '<"u"v@b>',
        "<u@[>",
        "<u@[]>",
        "<u@[1.2.3]>",
        "<u@[1.2.3.4.5]>",
        "<u@[01.2.3.4]>",
        "<u@[IPv6:1.2.3.4]>",
        "<u@[IPv6:fe80::1%eth0]>",
        "<u@[x400:abc]>",
        "<@a:@b:u@c>",
        "<<u@b>>",
        "<" + "x" * 65 + "@example.com>",
        "<u@" + "a." * 127 + "ab>",
        "<@" + "r." * 120 + "test:user@example.com>",
        decoded(b"<u\xff@b>"),
        decoded(b"<u@b\xed\xa0\x80>"),
    ],
)
def test_what_is_no_address_is_refused(path: str) -> None:
    refusal = parse_path(path, null=path != "<>x", postmaster=True)
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (553, "5.1.3")


@pytest.mark.parametrize("control", [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))])
@pytest.mark.parametrize("path", ["<u{}@b>", '<"u{}"@b>', "<u@b{}>", "<u@[1.2.3.4{}]>", "u@b{}", "<@r{}:u@b>"])
def test_a_control_character_is_refused_wherever_it_stands(path: str, control: str) -> None:
    refusal = parse_path(path.format(control))
    assert isinstance(refusal, Reply)
    assert (refusal.code, refusal.enhanced) == (553, "5.1.3")
    assert control not in str(refusal)
    assert has_control(path.format(control))


def test_the_null_path_is_for_mail_alone() -> None:
    assert parse_path("<>", null=True) == Path("", 2)
    assert parse_path("<> SIZE=3", null=True) == Path("", 2)
    assert isinstance(parse_path("<>"), Reply)


@pytest.mark.parametrize("local_part", ["root", "www-data", "first.last", '"quoted string"', '"a@b"', "ü", "x" * 64])
def test_the_domain_may_be_wanting_in_brackets(local_part: str) -> None:
    assert parse_path(f"<{local_part}>") == Path(local_part, len(local_part) + 2)
    assert parse_path(f"<{local_part}> SIZE=1") == Path(local_part, len(local_part) + 2)
    assert isinstance(parse_path(local_part), Reply)


@pytest.mark.parametrize("path", ["<postmaster>", "<Postmaster>", "postmaster", "POSTMASTER NOTIFY=NEVER"])
def test_postmaster_needs_no_domain_nor_brackets_in_rcpt(path: str) -> None:
    found = parse_path(path, postmaster=True)
    assert isinstance(found, Path)
    assert found.address.lower() == "postmaster"
    assert isinstance(parse_path(path), Path) is path.startswith("<")


def test_only_ascii_spells_postmaster() -> None:
    assert isinstance(parse_path("po\u017ftmaster", postmaster=True), Reply)


def test_length_limits_count_octets() -> None:
    assert isinstance(parse_path("<" + "ü" * 32 + "@b>"), Path)
    assert isinstance(parse_path("<" + "ü" * 33 + "@b>"), Reply)


def test_smtputf8_is_needed_beyond_ascii() -> None:
    assert needs_smtputf8("u@exämple.test")
    assert not needs_smtputf8("u@example.test")


@given(st.binary(max_size=300) | st.text('<>@:,."\\[] au1-\x00\r\nü', max_size=40).map(str.encode))
@example(b"<\xc0@b>")
def test_any_octets_get_a_path_without_controls_or_a_refusal(octets: bytes) -> None:
    text = decoded(octets)
    found = parse_path(text, null=True, postmaster=True)
    if isinstance(found, Path):
        assert not re.search("[\x00-\x1f\x7f]", found.address)
        assert found.address.encode() in octets
        assert 0 < found.end <= len(text)


@pytest.mark.parametrize(
    "bomb",
    [
        "<" + "a." * 50_000 + "@b>",
        "<" + "-" * 100_000,
        "<u@" + "-" * 100_000 + ">",
        "<u@" + "a-" * 50_000 + ".>",
        '<"' + "\\a" * 50_000,
        "<" + "@a," * 33_000 + "u@b>",
        "<u@[" + "1" * 100_000,
        "<" + "(" * 50_000 + ")" * 50_000 + "u@b>",
    ],
)
def test_address_bombs_take_linear_time(bomb: str) -> None:
    began = time.process_time()
    assert isinstance(parse_path(bomb), Reply)
    # 100,000 characters take a millisecond or two; anything quadratic takes minutes.
    assert time.process_time() - began < 0.5
