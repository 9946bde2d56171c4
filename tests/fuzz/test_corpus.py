"""The fuzzers' targets as ordinary tests: the seeds, what long runs kept, and what Hypothesis makes of both."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.settings import UpstreamSettings
from relay.smtp import datareader
from tests.fuzz.corpus import kept
from tests.fuzz.targets import Target, names, target

SPLICED = 60


@pytest.mark.parametrize("name", names())
def test_what_was_found_worth_keeping_holds(name: str) -> None:
    _check_all(name)


@pytest.mark.parametrize("name", names())
def test_seeds_mutated_hold(name: str) -> None:
    seeds = (*target(name).SEEDS, *kept(name)[-20:])

    @settings(max_examples=SPLICED, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(seeds), min_size=1, max_size=3), st.randoms(use_true_random=False), st.binary())
    def holds(chosen: list[bytes], chance: random.Random, tail: bytes) -> None:
        _check(target(name), _mutated(chosen, chance) + tail)

    holds()


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # SMTP smuggling: a reader to which LF . LF ends the content too.
    feed = datareader.DataReader.feed

    def smuggled(self: datareader.DataReader, octets: bytes) -> bytes:
        return feed(self, octets.replace(b"\n.\n", b"\r\n.\r\n"))

    monkeypatch.setattr(datareader.DataReader, "feed", smuggled)
    with pytest.raises((AssertionError, ValueError)):
        _check_all("content")


def test_a_secret_that_shows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UpstreamSettings, "__repr__", lambda self: self.password.value if self.password else "")
    with pytest.raises(AssertionError):
        _check_all("configuration")


def _check_all(name: str) -> None:
    for octets in (*target(name).SEEDS, *kept(name)):
        _check(target(name), octets)


def _check(of: Target, octets: bytes) -> None:
    try:
        of.check(octets)
    except BaseException as error:
        error.add_note(f"input: {octets!r}")
        raise


def _mutated(chosen: list[bytes], chance: random.Random) -> bytes:
    """Splice, cut, repeat and swap octets."""
    octets = bytearray(b"".join(chosen))
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(octets) + 1)
        match chance.randrange(4):
            case 0:
                del octets[at : at + chance.randint(1, 8)]
            case 1:
                octets[at:at] = chance.choice([b"\r", b"\n", b"\0", b" ", b"\t", b".", b"\xff", b"<", b">", b'"', b":"])
            case 2:
                octets[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                octets[at:at] = octets[at : at + chance.randint(1, 20)]
    return bytes(octets)
