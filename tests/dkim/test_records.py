"""The record that publishes a key."""

from __future__ import annotations

import pytest

from relay.dkim.records import record, record_name, text_of, zone_line
from relay.signing.keys import make_key


def test_a_short_record_stands_on_one_line() -> None:
    text = record("ed25519", bytes(32))
    assert text == "v=DKIM1; k=ed25519; p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert zone_line(record_name("e1", "example.com"), text) == f'e1._domainkey.example.com. IN TXT "{text}"'


@pytest.mark.parametrize("bits", [2048, 4096])
def test_a_long_one_in_strings_of_255_octets_and_is_read_back(bits: int) -> None:
    text = make_key("r1", "rsa", bits).record()
    zone = zone_line("r1._domainkey.example.com", text)
    strings = zone.split('"')[1::2]
    assert len(strings) > 1
    assert max(map(len, strings)) <= 255
    assert text_of(zone) == text
    # As dig prints it.
    assert text_of(" ".join(f'"{string}"' for string in strings)) == text
    assert text_of(f"  {text}\n") == text


@pytest.mark.parametrize("text", ["", "v=spf1 -all", '"v=spf1 include:x"', "hello"])
def test_other_texts_are_no_record(text: str) -> None:
    assert text_of(text) is None


def test_a_record_without_a_version_is_one() -> None:
    assert text_of('"k=rsa; p="') == "k=rsa; p="
