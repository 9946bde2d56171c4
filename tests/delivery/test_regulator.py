"""What an upstream taught its lane is said in words, kept, and begun with the next time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.delivery.learning import Refusal
from relay.delivery.regulator import Regulator, rate_text
from relay.lessons import LearnedRecord
from relay.outcome import Command, Reply, Trouble, classify
from relay.settings import Limit

TOO_FAST = classify(Reply(454, "Throttling failure", "4.7.0"), Command.MAIL, host="ses")
TOO_MANY = replace(TOO_FAST, trouble=Trouble.CONNECTIONS)
SINCE = 1_800_000_000.0
FIFTY = (Limit(50, 1.0, "50/second"),)


def regulator(kept: LearnedRecord | None = None, *limits: Limit) -> tuple[Regulator, list[LearnedRecord]]:
    records: list[LearnedRecord] = []
    found = Regulator("ses", limits=limits or FIFTY, kept=kept, keep=records.append, wall=lambda: SINCE, now=100.0)
    return found, records


def test_it_is_said_in_words_and_kept() -> None:
    assert regulator()[0].learned is None
    taught, records = regulator()
    for n in range(14):
        taught.took(1, 100.0 + n / 100)
    assert taught.too_fast(TOO_FAST, 100.2, 100.3) is Refusal.LOWERED
    learned = taught.learned
    assert learned is not None
    assert learned.rate == pytest.approx(12.6)
    assert learned.text.startswith("configured 50/second, working at 12.6/s since 20")
    assert learned.text.endswith(": 454 4.7.0 Throttling failure")
    assert taught.condition == "slowed down to 12.6/s"
    assert records == [LearnedRecord("ses", 14.0, 8.0, SINCE, "454 4.7.0 Throttling failure")]
    again, _ = regulator(records[-1])
    assert again.learned == learned


def test_a_configured_limit_that_is_no_faster_ends_it() -> None:
    kept = LearnedRecord("ses", 14.0, 8.0, SINCE, "454")
    assert regulator(kept, Limit(600, 60.0, "600/minute"))[0].learned is None
    assert regulator(kept, Limit(600, 3600.0, "600/hour"))[0].learned is not None, "a quota is no rate"


def test_an_account_that_is_no_faster_ends_it_too() -> None:
    taught, _ = regulator(LearnedRecord("ses", 14.0, 8.0, SINCE, "454"))
    assert taught.learned is not None
    taught.bounded([Limit(10, 1.0, "10/second of the account")])
    assert taught.permits(None) is None
    assert taught.learned is None


def test_connections_are_kept_too_and_forgotten_at_the_maximum() -> None:
    taught, records = regulator()
    assert taught.too_many(TOO_MANY, 4, 100.0)
    assert not taught.too_many(TOO_MANY, 4, 100.1), "no news"
    assert taught.most(10, 100.2) == 4
    assert taught.condition == "slowed down to no more than 4 connections"
    again, _ = regulator(records[-1])
    assert again.most(10, 100.2) == 4
    assert again.learned == taught.learned
    taught.opened(5, 5, 200.0)
    assert taught.learned is None
    assert records[-1].connections is None


@pytest.mark.parametrize(("rate", "text"), [(14.0, "14/s"), (0.5, "30/min"), (0.01, "36/h"), (2345.6, "2346/s")])
def test_rates_are_said_as_people_say_them(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_an_upstream_that_is_new_to_us_has_few_connections() -> None:
    """All that is under way is refused where it turns out to have been too fast."""
    new, _ = regulator()
    assert [new.openable(present) for present in (0, 1, 3, 5)] == [3, 2, 0, 0]
    for _ in range(16):
        assert new.openable(3) == 0
        new.took(1, 100.0)
    assert new.openable(3) >= 1000
