from __future__ import annotations

from relay.policy import Admitted, Refused, decide


def test_up_to_fifty_received_lines_are_admitted() -> None:
    assert isinstance(decide(received=0), Admitted)
    assert isinstance(decide(received=50), Admitted)


def test_more_are_a_loop() -> None:
    decision = decide(received=51)
    assert isinstance(decision, Refused)
    assert (decision.reply.code, decision.reply.enhanced) == (554, "5.4.6")
