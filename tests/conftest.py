"""Tests are of the sources as they stand, unless RELAY_COMPILED=yes asks for the build of them (scripts/compile)."""

from __future__ import annotations

import os
from typing import Final

import pytest

os.environ.setdefault("RELAY_COMPILED", "no")

from relay import IS_COMPILED

REACH_INSIDE: Final = {
    # They change a constant or a method, derive from a class, or give it its parameter: compiled code knows none of it.
    "tests/delivery/quota/test_ledger.py": ["test_the_same_property_catches_a_wrong_ledger"],
    "tests/delivery/test_engine.py": ["test_delivery_pauses_while_outcomes_cannot_be_recorded"],
    "tests/delivery/test_turns.py": [
        "test_between_two_of_one_source_each_other_one_that_waits_has_its_turn",
        "test_what_is_put_back_is_the_next_one_and_nothing_is_lost",
        "test_bulk_has_its_share_beside_normal_mail_and_no_more",
    ],
    "tests/delivery/test_ways.py": [
        "test_one_that_says_nothing_any_more_is_passed_over_until_it_does",
        "test_one_that_says_nothing_is_noticed_when_nothing_else_happens",
        "test_the_last_bit_of_room_is_used_too",
    ],
    "tests/smtp/test_client.py": ["test_windowing_needs_both_extensions"],
    "tests/upstream/test_smtp_upstream.py": ["test_slow_in_all_steps_is_too_slow_after_all"],
    "tests/e2e/test_upstream_misbehaves.py": ["test_replies_taken_for_anothers_are_found"],
    "tests/security/test_smuggling.py": ["test_without_normalising_there_is_smuggling"],
    "tests/test_cli.py": ["test_python_m_relay_is_the_command", "test_version"],  # it says "compiled"
    "tests/test_maillog.py": ["test_an_event_that_cannot_be_spelled_does_not_end_the_log"],
}
"""Tests that can only be of the sources, by file."""


def pytest_configure() -> None:
    if os.environ["RELAY_COMPILED"] == "yes" and not IS_COMPILED:
        raise pytest.UsageError("RELAY_COMPILED=yes, and there is no build of these sources: scripts/compile makes it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if IS_COMPILED:
        for item in items:
            path, _, name = item.nodeid.partition("::")
            if name.partition("[")[0] in REACH_INSIDE.get(path, []):
                item.add_marker(pytest.mark.skip(reason="reaches into what is compiled"))
