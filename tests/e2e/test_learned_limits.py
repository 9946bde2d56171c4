"""The provider bears less than is configured, and says so only by refusing: it is found out, kept to and shown."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import Act, ScriptedUpstream, say

TOO_FAST = say("454 4.7.0 Throttling failure: Maximum sending rate exceeded.")
TOO_MANY = say("421 4.7.0 Error: too many connections from 127.0.0.1", close=True)
TOO_MANY_AT_MAIL = say("432 4.3.2 Concurrent connections limit exceeded.")


@dataclass
class HiddenRate(ScriptedUpstream):
    """Takes ``rate`` messages a second, by a bucket that holds a second's worth, and says so to nobody."""

    rate: float = 14.0

    def __post_init__(self) -> None:
        self.tokens = self.rate
        self.at = time.monotonic()
        self.refusals: list[float] = []
        self.taken: list[float] = []

    def act(self, step: str, default: bytes) -> Act:
        if step != "MAIL":
            return super().act(step, default)
        now = time.monotonic()
        self.tokens = min(self.rate, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            self.refusals.append(now)
            return TOO_FAST
        self.tokens -= 1
        self.taken.append(now)
        return Act(default)


@dataclass
class HiddenCap(ScriptedUpstream):
    """Bears ``cap`` connections: says so in its greeting, or to as many a MAIL as there were connections too many."""

    cap: int = 4
    at_mail: bool = False
    refusals: int = 0
    over: int = 0

    def act(self, step: str, default: bytes) -> Act:
        if step == "GREETING" and self.open_sessions > self.cap:
            self.refusals += 1
            if not self.at_mail:
                return TOO_MANY
            self.over += 1
        if step == "MAIL" and self.over:
            self.over -= 1
            return TOO_MANY_AT_MAIL
        return super().act(step, default)


async def test_a_hidden_rate_is_used_nearly_whole_shown_and_remembered(tmp_path: Path) -> None:
    """Some 25 seconds; docs/decisions.md has the figures of a longer run."""
    async with HiddenRate() as peer:
        upstream = smtp_upstream(peer.port, limits=["50/second"])
        async with Relay(tmp_path, {"ses": upstream}) as relay:
            await relay.submit_many(700)
            began = time.monotonic()
            await relay.until("upstream ses is slowed down to")
            await asyncio.sleep(15.0)
            taken = sum(at > began + 5.0 for at in peer.taken) / (time.monotonic() - began - 5.0)
            assert taken > 0.8 * 14
            late = [at for at in peer.refusals if at > began + 5.0]
            assert len(late) <= 4
            status = (await relay.json("status"))["upstreams"]["ses"]
            assert status["state"] == "backoff"
            assert "configured 50/second, working at 1" in status["last_error"]
            assert "454 4.7.0 Throttling failure" in status["last_error"]
            assert 9 < status["learned"]["rate"] < 20
            assert not relay.lines("status=(deferred|bounced)"), "nobody is charged"
            await relay.kill()
            before = len(peer.refusals)
            await relay.start()
            await asyncio.sleep(5.0)
            assert len(peer.refusals) - before <= 1, "it begins with what it knew"
            assert (await relay.json("status"))["upstreams"]["ses"]["state"] == "backoff"


@pytest.mark.parametrize("at_mail", [False, True])
async def test_connections_settle_at_a_hidden_cap(tmp_path: Path, at_mail: bool) -> None:
    async with HiddenCap(at_mail=at_mail, delay=0.02) as peer:
        upstream = smtp_upstream(peer.port, max_connections=10, pipelining="on")
        async with Relay(tmp_path, {"up": upstream}) as relay:
            await relay.submit_many(600)
            await relay.until("upstream up is slowed down to no more than")
            await relay.until("status=sent", 600)
            status = (await relay.json("status"))["upstreams"]["up"]
            assert status["state"] == "backoff"
            assert status["learned"]["connections"] == 4
            assert "421" in status["last_error"] or "432" in status["last_error"]
            assert peer.refusals <= 20
            assert not relay.lines("status=(deferred|bounced)")
            before = peer.refusals
            await relay.stop()
            await relay.start()
            await relay.submit_many(300)
            await relay.until("status=sent", 900)
            assert peer.refusals <= before + 2, "it begins with what it knew"
