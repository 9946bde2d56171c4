"""The upstream says 421 and closes: its session ends, no mail is refused and none goes twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.accidents import STEPS, relay_three_messages
from tests.peers.scripted import say


@pytest.mark.parametrize("pipelining", ["off", "auto"])
@pytest.mark.parametrize("step", STEPS)
async def test_421(tmp_path: Path, step: str, pipelining: str) -> None:
    relay, in_doubt = await relay_three_messages(
        tmp_path, step, say("421 4.3.2 closing", close=True), pipelining=pipelining
    )
    assert in_doubt == 0, "421 to the final dot is an answer"
    assert not relay.lines("status=(bounced|expired)")
