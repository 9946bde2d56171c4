from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from relay.upstream.addresses import Family, in_turn, is_literal, parse_hosts, without_dns
from relay.upstream.watched import Watched

HOSTS = parse_hosts(
    "# comment\n127.0.0.1 localhost\n192.0.2.7\tMailHub mailhub.example. # here\n2001:db8::7 mailhub\n"
    "nonsense name\n\n192.0.2.7 mailhub\nfe80::1%lo zoned\n"
)


def test_hosts() -> None:
    assert HOSTS == {
        "localhost": ("127.0.0.1",),
        "mailhub": ("192.0.2.7", "2001:db8::7"),
        "mailhub.example": ("192.0.2.7",),
        "zoned": ("fe80::1%lo",),
    }


@pytest.mark.parametrize(
    ("host", "family", "addresses"),
    [
        ("MAILHUB", "any", ("192.0.2.7", "2001:db8::7")),
        ("mailhub", "ipv6", ("2001:db8::7",)),
        ("localhost", "any", ("127.0.0.1",)),  # the file has the last word on it
        ("localhost", "ipv6", ("::1",)),
        ("app.localhost", "any", ("::1", "127.0.0.1")),
        ("192.0.2.1", "any", ("192.0.2.1",)),
        ("192.0.2.1", "ipv6", ()),
        ("2001:db8::1", "ipv6", ("2001:db8::1",)),
        ("mailhub.example", "ipv6", ()),
        ("mx.test", "any", ()),
    ],
)
def test_what_needs_no_name_server(host: str, family: Family, addresses: tuple[str, ...]) -> None:
    assert without_dns(host, HOSTS, family) == addresses


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "fe80::1%eth0"])
def test_literals(host: str) -> None:
    assert is_literal(host)


@pytest.mark.parametrize("host", ["mx.test", "[::1]", "192.0.2", ""])
def test_names(host: str) -> None:
    assert not is_literal(host)


def test_families_take_turns_from_ipv6_on() -> None:
    order = in_turn(["192.0.2.1", "192.0.2.2", "::1", "::2", "::3"], [], lambda: 0.5)
    assert [":" in each for each in order] == [True, False, True, False, True]


def test_the_failing_come_last_and_nothing_twice() -> None:
    assert in_turn(["::1", "::1", "192.0.2.1", "192.0.2.2"], ["::1"], lambda: 0.5) == ("192.0.2.1", "192.0.2.2", "::1")


def test_each_address_is_first_at_times() -> None:
    four = [f"192.0.2.{n}" for n in range(4)]
    chance = random.Random(1).random
    assert {in_turn(four, [], chance)[0] for _ in range(60)} == set(four)


def test_files_are_read_again_only_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    reads: list[str] = []

    def read() -> str:
        reads.append(path.read_text() if path.exists() else "")
        return reads[-1]

    watched = Watched((str(path),), read)
    assert [watched.value(), watched.value()] == ["", ""]
    path.write_text("one")
    assert [watched.value(), watched.value()] == ["one", "one"]
    path.write_text("two")
    os.utime(path, ns=(1, 1))
    assert watched.value() == "two"
    assert len(reads) == 3


def test_a_file_that_can_not_be_read_is_tried_again(tmp_path: Path) -> None:
    watched = Watched((str(tmp_path / "file"),), (tmp_path / "file").read_text)
    with pytest.raises(FileNotFoundError):
        watched.value()
    (tmp_path / "file").write_text("there")
    assert watched.value() == "there"
