"""The upstream falls silent at each step: the reply's deadline ends the session, and the mail takes another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.accidents import STEPS, relay_three_messages
from tests.peers.scripted import HANG


@pytest.mark.parametrize("pipelining", ["off", "auto"])
@pytest.mark.parametrize("step", STEPS)
async def test_hanging(tmp_path: Path, step: str, pipelining: str) -> None:
    relay, in_doubt = await relay_three_messages(tmp_path, step, HANG, pipelining=pipelining)
    assert in_doubt == (1 if step == "CONTENT" else 0)
    assert not relay.lines("status=(bounced|expired)")
