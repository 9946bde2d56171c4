"""Somebody complains, an address is gone: neither gets mail again, nor after a restart, until an operator says so."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Relay, reached, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream, say

MAIL = b"From: news@x.test\r\nSubject: news\r\n\r\nhello\r\n"


async def asked(relay: Relay, recipient: str) -> str:
    client = await Submitter.connect(relay.port)
    try:
        return await client.submit("news@x.test", [recipient], MAIL)
    finally:
        client.close()


async def configured(relay: Relay, text: str) -> None:
    with relay.config.open("a") as file:
        file.write(text)
    await relay.stop()
    await relay.start()


async def test_a_complaint_and_a_bounce_stop_mail(tmp_path: Path) -> None:
    tables = {"sim": {"kind": "simulator"}}
    async with Relay(tmp_path, tables, queue={"bounces": "off"}) as relay:
        await configured(relay, "[suppression]\n")
        assert (await asked(relay, "complaint@y.test")).startswith("250")
        assert (await asked(relay, "bounce@y.test")).startswith("250")
        await relay.until(r"suppressed: <complaint@y\.test>, until it is removed \(complaint: feedback-type abuse")
        await relay.until(r"suppressed: <bounce@y\.test>, until .* \(bounce: .*550 5\.1\.1")
        await relay.kill()
        await relay.start()
        for gone in ("complaint@y.test", "Bounce@y.test"):
            assert (await asked(relay, gone)).startswith(f"550 5.1.1 <{gone}>: Recipient address rejected")
        await relay.json("suppress", "remove", "bounce@y.test")
        assert (await asked(relay, "bounce@y.test")).startswith("250")


async def test_accepted_is_not_relayed(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"RCPT gone@y.test": say("550 5.1.1 no such user")}) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, queue={"bounces": "off"}) as relay,
    ):
        await configured(relay, '[suppression]\nat_the_door = "accept"\n')
        await asked(relay, "gone@y.test")
        await relay.until(r"suppressed: <gone@y\.test>")
        reply = await asked(relay, "gone@y.test")
        assert reply.startswith("250")
        await relay.until(r"to=<gone@y\.test>, relay=none, .*dsn=5\.1\.1, status=bounced \(suppressed after a hard")
        (story,) = await relay.json("trace", reply.rpartition(" ")[2])
        assert [each["state"] for each in story["recipients"]] == ["suppressed"]
        await asked(relay, "b@y.test")
        await reached(lambda: len(peer.accepted()) == 1)
