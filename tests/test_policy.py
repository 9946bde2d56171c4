from __future__ import annotations

import pytest

from relay.policy import Admitted, Refused, decide

NAME = "relay.example.com"


def refused(decision: Admitted | Refused) -> tuple[int, str | None] | None:
    return (decision.reply.code, decision.reply.enhanced) if isinstance(decision, Refused) else None


def test_up_to_fifty_received_lines_are_admitted() -> None:
    assert refused(decide(hostname=NAME, received=0)) is None
    assert refused(decide(hostname=NAME, received=50)) is None


def test_more_are_a_loop() -> None:
    assert refused(decide(hostname=NAME, received=51)) == (554, "5.4.6")
    assert refused(decide(hostname="localhost", received=51)) == (554, "5.4.6")


@pytest.mark.parametrize("hostname", [NAME, "[192.0.2.1]", "localhosts.example"])
def test_two_received_lines_of_our_own_are_a_loop(hostname: str) -> None:
    assert refused(decide(hostname=hostname, received=1, ours=1)) is None
    assert refused(decide(hostname=hostname, received=2, ours=2)) == (554, "5.4.6")


@pytest.mark.parametrize("hostname", ["localhost", "Localhost.localdomain", "debian"])
def test_machines_that_share_a_name_that_everybody_has_are_no_loop(hostname: str) -> None:
    assert refused(decide(hostname=hostname, received=20, ours=20)) is None


def test_only_an_upstream_that_there_is_can_be_asked_for() -> None:
    assert refused(decide(hostname=NAME, received=0, upstream="ses", upstreams={"ses"})) is None
    assert refused(decide(hostname=NAME, received=0, upstream="SES", upstreams={"ses"})) == (550, "5.6.0")
    assert refused(decide(hostname=NAME, received=0, upstream="ses")) == (550, "5.6.0")
