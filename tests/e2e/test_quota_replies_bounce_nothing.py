"""The provider says that a quota is spent, a rate exceeded, a password wrong: it pauses, no mail is worse for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.scripted import CLOSE, EXTENSIONS, Script, ScriptedUpstream, say

THROTTLED = "454 Throttling failure: Maximum sending rate exceeded."
DAILY = "550 5.4.5 Daily SMTP relay limit exceeded for user."
WITH_AUTH = (*EXTENSIONS, "AUTH PLAIN LOGIN")


def nobody_was_hurt(relay: Relay) -> None:
    assert not relay.lines("status=(deferred|bounced|expired)")
    assert not relay.lines("sender non-delivery notification")


async def attempts(relay: Relay) -> set[int]:
    queued = await relay.json("queue", "list")
    return {recipient["attempts"] for message in queued for recipient in message["recipients"]}


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "CONTENT"])
async def test_throttled_at_any_command_is_a_pause_of_seconds(tmp_path: Path, step: str) -> None:
    async with ScriptedUpstream({step: [say(THROTTLED)]}) as peer:
        settings = smtp_upstream(peer.port, preset="ses-smtp", max_connections=1)
        async with Relay(tmp_path, {"ses": settings}) as relay:
            began = time.monotonic()
            await asyncio.gather(*(relay.submit() for _ in range(5)))
            (notice,) = await relay.until(r"upstream ses is paused \(rate\) until ")
            assert "454 Throttling failure" in notice.string
            assert "warning" not in notice.string, "it passes by itself"
            status = (await relay.json("status"))["upstreams"]["ses"]
            assert status["state"] == "paused"
            assert "Throttling" in status["last_error"]
            assert await attempts(relay) == {0}
            await relay.until("status=sent", 5)
            assert 3.9 < time.monotonic() - began < 15, "five seconds, give or take 20 %"
            await relay.until("upstream ses is (up|slowed down to .*) again")
            assert len(relay.lines("upstream ses is paused")) == 1
            nobody_was_hurt(relay)
            assert peer.violations == []


async def test_a_daily_limit_said_with_550_lets_the_next_upstream_take_over(tmp_path: Path) -> None:
    script: Script = {"CONTENT": say(DAILY)}
    async with ScriptedUpstream(script) as google, ScriptedUpstream() as backup:
        upstreams = {
            "google": smtp_upstream(google.port, preset="google-workspace"),
            "backup": smtp_upstream(backup.port),
        }
        async with Relay(tmp_path, upstreams) as relay:
            await asyncio.gather(*(relay.submit() for _ in range(20)))
            await relay.until(r"relay=backup\[.*status=sent", 20)
            (notice,) = relay.lines("upstream google is paused")
            assert "paused (quota) until" in notice
            assert DAILY in notice
            assert len(backup.accepted()) == 20
            nobody_was_hurt(relay)


async def test_a_named_time_is_waited_for(tmp_path: Path) -> None:
    until = int(time.time()) + 4
    date = formatdate(until, usegmt=True).replace("GMT", "UTC")
    refusal = f"421 Domain x.test is not allowed to send: recipient limit exceeded, try again after {date}"
    async with ScriptedUpstream({"MAIL": [say(refusal, close=True)]}) as peer:
        settings = smtp_upstream(peer.port, preset="mailgun")
        async with Relay(tmp_path, {"mg": settings}) as relay:
            await relay.submit()
            await relay.until(r"upstream mg is paused \(quota\) until ")
            await relay.until("status=sent")
            assert until <= peer.accepted()[0].at < until + 6
            nobody_was_hurt(relay)


async def test_a_spent_quota_is_asked_with_one_message(tmp_path: Path) -> None:
    async with ScriptedUpstream({"CONTENT": say(THROTTLED)}) as peer:
        settings = smtp_upstream(peer.port, preset="ses-smtp", max_connections=4)
        async with Relay(tmp_path, {"ses": settings}) as relay:
            await asyncio.gather(*(relay.submit() for _ in range(40)))
            await relay.until("upstream ses is paused", 1)
            await asyncio.sleep(1)  # what was under way is answered
            before = len(peer.messages)
            await relay.until("upstream ses is paused", 2, within=15)
            assert len(peer.messages) == before + 1
            nobody_was_hurt(relay)


async def test_a_wrong_password_is_tried_three_times_in_ten_minutes_and_keeps_all_mail(tmp_path: Path) -> None:
    """A start, and three reloads with wrong passwords: the provider hears of three."""
    script = {"AUTH": say("535 5.7.8 Error: authentication failed")}
    async with ScriptedUpstream(script, extensions=WITH_AUTH) as peer:
        settings = smtp_upstream(peer.port, username="me", password="wrong-0")
        async with Relay(tmp_path, {"ses": settings}) as relay:
            await asyncio.gather(*(relay.submit() for _ in range(30)))
            (notice,) = await relay.until(r"upstream ses is paused \(auth\) until ")
            assert "warning" in notice.string, "somebody has to mend it"
            assert "wrong-0" not in "\n".join(relay.log)
            assert peer.sessions == 1, "thirty messages are no reason for ten logins"
            for n in (1, 2, 3):
                relay.upstreams = {"ses": {**settings, "password": f"wrong-{n}"}}
                relay.write_config()
                os.kill(relay.pid, signal.SIGHUP)
                await relay.until("reload: done", n)
                await relay.submit()
                await asyncio.sleep(0.5)
            assert peer.sessions == 3
            status = await relay.json("status")
            assert status["upstreams"]["ses"]["state"] == "paused"
            assert status["queue"]["waiting"] == 33
            assert await attempts(relay) == {0}
            nobody_was_hurt(relay)


async def test_the_right_password_after_a_wrong_one_is_used_at_once(tmp_path: Path) -> None:
    script = {"AUTH": [say("535 5.7.8 Error: authentication failed"), say("235 2.7.0 Welcome")]}
    async with ScriptedUpstream(script, extensions=WITH_AUTH) as peer:
        settings = smtp_upstream(peer.port, username="me", password="wrong", max_connections=1)
        async with Relay(tmp_path, {"ses": settings}) as relay:
            await asyncio.gather(*(relay.submit() for _ in range(10)))
            await relay.until(r"upstream ses is paused \(auth\)")
            relay.upstreams = {"ses": {**settings, "password": "right"}}
            relay.write_config()
            os.kill(relay.pid, signal.SIGHUP)
            await relay.until("status=sent", 10)
            nobody_was_hurt(relay)


async def test_too_many_connections_pauses_nobody_who_has_one(tmp_path: Path) -> None:
    """The first connection is taken, others hear 421: mail goes on over the one."""
    greetings = [say("220 peer.test ESMTP")] + [say("421 Too many concurrent SMTP connections", close=True)] * 50
    async with ScriptedUpstream({"GREETING": greetings}, delay=0.02) as peer:
        settings = smtp_upstream(peer.port, preset="ses-smtp", max_connections=5)
        async with Relay(tmp_path, {"ses": settings}) as relay:
            await relay.submit()
            await relay.until("status=sent")
            await relay.submit_many(60)
            await relay.until("status=sent", 61)
            assert len(relay.lines(r"upstream ses is slowed down to no more than 1 connections: .*421 Too many")) == 1
            assert peer.sessions <= 9, "one more is tried ever more seldom"
            nobody_was_hurt(relay)


async def test_one_recipients_rate_is_his_own(tmp_path: Path) -> None:
    slow = "450 4.2.1 The user you are trying to contact is receiving mail too quickly."
    async with ScriptedUpstream({"RCPT slow@y.test": [say(slow)]}) as peer:
        settings = smtp_upstream(peer.port, preset="google-workspace")
        async with Relay(tmp_path, {"google": settings}) as relay:
            await relay.submit(recipients=("slow@y.test", "b@y.test"))
            await relay.until("to=<b@y.test>.*status=sent")
            await relay.until("to=<slow@y.test>.*status=deferred")
            await relay.until("to=<slow@y.test>.*status=sent")
            assert not relay.lines("paused")


async def test_an_upstream_that_is_away_is_down_and_not_paused(tmp_path: Path) -> None:
    async with Relay(tmp_path, {"ses": smtp_upstream(free_port(), preset="ses-smtp")}) as relay:
        await relay.submit()
        await relay.until("upstream ses is down: .*refused")
        assert (await relay.json("status"))["upstreams"]["ses"]["state"] == "down"


async def test_every_attempt_bears_the_same_idempotency_key(tmp_path: Path) -> None:
    """The final reply is lost: what is sent again is known again."""
    script: Script = {"CONTENT": [CLOSE], "AUTH": say("235 2.7.0 Welcome")}
    async with ScriptedUpstream(script, extensions=WITH_AUTH) as peer:
        settings = smtp_upstream(peer.port, preset="resend", password="x", max_connections=1)
        async with Relay(tmp_path, {"resend": settings}) as relay:
            await relay.submit()
            await relay.until("status=sent")
            await relay.submit()
            await relay.until("status=sent", 2)
    keys = [line for m in peer.messages for line in m.content.split(b"\r\n") if b"idempotency-key:" in line.lower()]
    assert len(keys) == 3
    assert keys[0] == keys[1]
    assert keys[1] != keys[2]
