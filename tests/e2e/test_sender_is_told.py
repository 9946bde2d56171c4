"""Notifications to senders as they leave the relay: failure, delay, relayed; who asked for what; what comes of those
that can't be delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.scripted import EXTENSIONS, Act, Received, ScriptedUpstream, say

REFUSED = say("550 5.1.1 no such user")


async def commands(relay: Relay, *lines: bytes, content: bytes = b"Subject: x\r\n\r\nbody\r\n") -> str:
    """Say ``lines`` and one content over a session of our own; the message's queue id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    replies = [await reader.readline()]
    for line in (b"EHLO app.test", *lines, b"DATA", content + b"."):
        writer.write(line + b"\r\n")
        reply = await reader.readline()
        while reply[3:4] == b"-":
            reply = await reader.readline()
        replies.append(reply)
        assert reply[:1] in b"23", (line, reply)
    writer.close()
    return replies[-1].rsplit(b" ", 1)[1].strip().decode()


def parsed(received: Received) -> tuple[EmailMessage, list[dict[str, str]]]:
    """A notification and the groups of fields in its second part."""
    message = message_from_bytes(received.content, policy=policy.SMTP)
    assert message.get_content_type() == "multipart/report"
    status: Any = list(message.iter_parts())[1].get_payload()
    return message, [dict(block.items()) for block in status]


async def test_ehlo_offers_dsn(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        await reader.readline()
        writer.write(b"EHLO app.test\r\n")
        assert b"250-DSN\r\n" in [await reader.readline() for _ in range(9)]
        writer.close()


async def test_one_notification_for_all_that_failed_together(tmp_path: Path) -> None:
    script = {"RCPT b@y.test": REFUSED, "RCPT c@y.test": say("550 5.7.1 not here"), "RCPT n@y.test": REFUSED}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        queue_id = await commands(
            relay,
            b"MAIL FROM:<a@x.test> RET=FULL ENVID=QQ+2B314",
            b"RCPT TO:<b@y.test> NOTIFY=FAILURE ORCPT=rfc822;b+2Blist@y.test",
            b"RCPT TO:<c@y.test>",
            b"RCPT TO:<d@y.test>",
            b"RCPT TO:<n@y.test> NOTIFY=NEVER",
        )
        (match,) = await relay.until(rf"postfix/bounce.*{queue_id}: sender non-delivery notification: (\w+)$")
        await relay.until(rf"{match[1]}: to=<a@x.test>.*status=sent")
        _, notification = await peer.received(2)
        assert notification.mail.startswith(b"MAIL FROM:<>")
        message, (of_message, of_b, of_c) = parsed(notification)
        assert of_message["Original-Envelope-Id"] == "QQ+314"
        assert (of_b["Original-Recipient"], of_b["Final-Recipient"]) == ("rfc822; b+list@y.test", "rfc822; b@y.test")
        assert (of_b["Action"], of_b["Status"]) == ("failed", "5.1.1")
        assert of_b["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
        assert (of_c["Final-Recipient"], of_c["Status"]) == ("rfc822; c@y.test", "5.7.1")
        whole = list(message.iter_parts())[2]
        assert whole.get_content_type() == "message/rfc822"
        assert whole.as_bytes().endswith(b"\r\n\r\nbody\r\n")
        await relay.drained()
        assert len(peer.messages) == 2


async def test_success_is_passed_on_where_dsn_is_offered(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(extensions=(*EXTENSIONS, "DSN")) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay,
    ):
        await commands(
            relay,
            b"MAIL FROM:<a@x.test> RET=HDRS ENVID=e1",
            b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@y.test",
        )
        await relay.until("status=sent")
        await relay.drained()
        assert b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o@y.test" in peer.commands
        assert any(line.startswith(b"MAIL FROM:<a@x.test>") and b"RET=HDRS ENVID=e1" in line for line in peer.commands)
        assert not relay.lines("notification")


async def test_success_is_told_by_us_where_dsn_is_not_offered(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        queue_id = await commands(
            relay,
            b"MAIL FROM:<a@x.test> RET=FULL",
            b"RCPT TO:<b@y.test> NOTIFY=SUCCESS",
            b"RCPT TO:<c@y.test> NOTIFY=FAILURE",
        )
        await relay.until(rf"postfix/bounce.*{queue_id}: sender delivery status notification: \w+$")
        _, notification = await peer.received(2)
        _, blocks = parsed(notification)
        (of_b,) = blocks[1:]
        assert (of_b["Final-Recipient"], of_b["Action"], of_b["Status"]) == ("rfc822; b@y.test", "relayed", "2.0.0")
        await relay.drained()
        assert len(peer.messages) == 2, "nobody is told of the notification's own success"


async def test_a_delay_is_told_once_also_over_a_restart(tmp_path: Path) -> None:
    """The upstream is down, so nothing was ever attempted; notifications wait behind it too."""
    port = free_port()
    async with Relay(tmp_path, {"peer": smtp_upstream(port)}, {"delay_warning": "2s"}) as relay:
        queue_id = await commands(
            relay, b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"RCPT TO:<c@y.test> NOTIFY=FAILURE"
        )
        silent = await commands(relay, b"MAIL FROM:<>", b"RCPT TO:<b@y.test>")
        await relay.until(rf"postfix/bounce.*{queue_id}: sender delay notification: \w+$")
        await relay.kill()
        await relay.start()
        await asyncio.sleep(3)
        assert len(relay.lines("sender delay notification")) == 1
        assert not relay.lines(f"{silent}: sender")
        async with ScriptedUpstream(port=port) as peer:
            await peer.received(3)
            await relay.drained()
            (notification,) = [m for m in peer.messages if m.recipients == ("a@x.test",)]
            _, (of_message, of_b) = parsed(notification)
            assert of_message["X-Relay-Queue-ID"] == queue_id
            assert (of_b["Final-Recipient"], of_b["Action"]) == ("rfc822; b@y.test", "delayed")
            assert of_b["Status"].startswith("4.4.")
            assert of_b["Will-Retry-Until"]
            assert "Connection refused" in of_b["Diagnostic-Code"]


async def test_a_deferred_recipients_delay_tells_the_reply(tmp_path: Path) -> None:
    script = {"RCPT b@y.test": say("451 4.3.0 later")}
    queue = {"delay_warning": "2s", "backoff": ["30s"]}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, queue) as relay:
        await relay.submit()
        (notification,) = await peer.received(1)
        _, (_, of_b) = parsed(notification)
        assert of_b["Status"] == "4.3.0"
        assert of_b["Diagnostic-Code"] == "smtp; 451 4.3.0 later"
        assert of_b["Last-Attempt-Date"]


async def test_a_notification_that_fails_is_a_dead_letter(tmp_path: Path) -> None:
    script: dict[str, Act | Sequence[Act]] = {"RCPT b@y.test": REFUSED, "RCPT a@x.test": [REFUSED]}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await relay.submit()
        (match,) = await relay.until(r"postfix/bounce.*warning: (\w+): the notification can't be delivered")
        assert relay.lines(rf"{match[1]}: to=<a@x.test>.*dsn=5\.1\.1, status=bounced")
        assert not relay.lines(f"{match[1]}: sender"), "nobody is told of a notification's failure"
        (dead,) = await relay.json("queue", "list", "--state", "dead")
        assert (dead["id"], dead["state"], dead["sender"]) == (match[1], "held", "")
        (recipient,) = dead["recipients"]
        assert recipient["last_reply"].startswith("dead letter: host peer[127.0.0.1]")
        (told,) = await relay.json("trace", match[1])
        assert "can't be delivered" in told["waits_for"]
        held = await relay.submit(recipients=("late@y.test",), sender="")
        await relay.until(f"{held}: removed")
        assert (await relay.command("queue", "release", "--state", "dead"))[0] == 0
        await relay.until(rf"{match[1]}: to=<a@x.test>.*status=sent")
        assert await relay.json("queue", "list", "--state", "dead") == []


async def test_a_dead_letter_can_be_removed_or_bounced_for_good(tmp_path: Path) -> None:
    script = {"RCPT b@y.test": REFUSED, "RCPT a@x.test": REFUSED}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        for verb in ("remove", "bounce"):
            await relay.submit()
            await relay.until("can't be delivered", 1 if verb == "remove" else 2)
            assert (await relay.command("queue", verb, "--state", "dead"))[0] == 0
            await relay.drained()


async def test_notifications_take_the_way_that_is_named(tmp_path: Path) -> None:
    async with ScriptedUpstream({"RCPT b@y.test": REFUSED}) as first, ScriptedUpstream() as second:
        upstreams = {"first": smtp_upstream(first.port), "second": smtp_upstream(second.port)}
        async with Relay(tmp_path, upstreams, {"bounces": "second"}) as relay:
            await relay.submit()
            (notification,) = await second.received(1)
            assert notification.recipients == ("a@x.test",)
            await relay.drained()
            assert not first.messages


async def test_nobody_is_told_where_bounces_are_off(tmp_path: Path) -> None:
    queue = {"bounces": "off", "delay_warning": "2s"}
    script = {"RCPT b@y.test": REFUSED}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, queue) as relay:
        queue_id = await relay.submit()
        await relay.until(f"{queue_id}: removed")
        assert not relay.lines("notification")


async def test_mail_beyond_ascii_is_told_of_in_its_own_forms(tmp_path: Path) -> None:
    script = {"RCPT ü@y.test": REFUSED}
    async with ScriptedUpstream(script) as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await commands(
            relay,
            "MAIL FROM:<ä@x.test> SMTPUTF8 BODY=8BITMIME".encode(),
            "RCPT TO:<ü@y.test> ORCPT=utf-8;ü+2Bx@y.test".encode(),
            content="Subject: café\r\n\r\nbody\r\n".encode(),
        )
        (notification,) = await peer.received(1)
        assert notification.recipients == ("ä@x.test",)
        assert notification.mail.endswith(b" SMTPUTF8")
        assert "Final-Recipient: utf-8; ü@y.test\r\n".encode() in notification.content
        assert b"Content-Type: message/global-delivery-status\r\n" in notification.content
