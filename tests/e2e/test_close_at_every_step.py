"""The upstream closes, or resets, the connection without a word, at each step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.accidents import STEPS, relay_three_messages
from tests.peers.scripted import CLOSE, RESET, Act


@pytest.mark.parametrize(
    ("pipelining", "accident"),
    [("off", CLOSE), ("auto", CLOSE), ("auto", RESET)],
    ids=["lock-step", "chained", "chained-reset"],
)
@pytest.mark.parametrize("step", STEPS)
async def test_closed(tmp_path: Path, step: str, pipelining: str, accident: Act) -> None:
    relay, in_doubt = await relay_three_messages(tmp_path, step, accident, pipelining=pipelining)
    assert in_doubt == (1 if step == "CONTENT" else 0), "only an unanswered final dot is in doubt"
    assert not relay.lines("status=(bounced|expired)")
