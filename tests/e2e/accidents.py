"""What the tests of one accident at each step share: the steps, and what must be true after it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import Act, ScriptedUpstream

STEPS = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT")
PATIENCE = {"connect_timeout": "1s", "reply_timeout": "1s", "final_reply_timeout": "1s"}


async def relay_three_messages(folder: Path, step: str, accident: Act, **upstream: Any) -> tuple[Relay, int]:
    """Three messages, an accident at the first pass of ``step``: each must be taken exactly once in the end.

    The ended relay for a look at its log, and how many attempts were left in doubt.
    """
    async with ScriptedUpstream({step: [accident]}) as peer:
        settings = smtp_upstream(peer.port, max_connections=1, **{**PATIENCE, **upstream})
        async with Relay(folder, {"peer": settings}) as relay:
            names = [f"{n}@y.test" for n in range(3)]
            ids = await asyncio.gather(*(relay.submit(recipients=[name]) for name in names))
            await relay.until("postfix/qmgr.*: removed$", 3)
            taken = Counter(message.recipients for message in peer.accepted())
            assert taken == Counter((name,) for name in names), "each message once, none lost"
            assert peer.violations == []
            assert len(relay.lines("status=sent")) == 3
            for queue_id in ids:
                assert relay.lines(f"{queue_id}: to=<.*status=sent")
            assert (await relay.json("queue", "count")) == {"waiting": 0, "leased": 0, "deferred": 0, "held": 0}
            assert await relay.stop() == 0
    in_doubt = relay.lines(r"status=deferred \(in doubt: ")
    assert len(in_doubt) == len(relay.lines("in doubt"))
    return relay, len(in_doubt)
