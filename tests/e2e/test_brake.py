"""A newsletter to a stale list: it is stopped before the provider stops us, and everything else goes on."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Relay, reached, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream, say

UNKNOWN = say("550 5.1.1 no such user")
NEWS = "X-Relay-Priority: bulk\r\nX-Relay-Tag: may\r\n"


async def submit(relay: Relay, fields: str, recipient: str = "b@y.test") -> None:
    client = await Submitter.connect(relay.port)
    reply = await client.submit("news@x.test", [recipient], f"{fields}Subject: news\r\n\r\nhello\r\n".encode())
    assert reply.startswith("250"), reply
    client.close()


async def test_bulk_mail_to_a_stale_list_is_held_until_it_is_released(tmp_path: Path) -> None:
    async with ScriptedUpstream({"RCPT gone@y.test": UNKNOWN}) as peer:
        tables = {"peer": smtp_upstream(peer.port)}
        async with Relay(tmp_path, tables, queue={"bounces": "off"}) as relay:
            with relay.config.open("a") as file:
                file.write('[brake]\nbounces = "10%"\nminimum = 20\n')
            await relay.stop()
            await relay.start()
            for n in range(20):
                recipient = "gone@y.test" if n % 5 == 0 else "b@y.test"
                await submit(relay, NEWS, recipient)
            await relay.until(r"brake: bulk mail of sender:news@x\.test is held: 4 of 20 recipients bounced")
            await submit(relay, NEWS)
            await relay.until(r"status=deferred \(brake on .*; held until relay brake release")
            before = len(peer.accepted())
            await submit(relay, "X-Relay-Priority: urgent\r\n")
            await submit(relay, "")
            await reached(lambda: len(peer.accepted()) == before + 2)
            await relay.until("status=sent", 18)
            await relay.kill()
            await relay.start()
            found = await relay.json("brake", "list")
            assert {each["source"] for each in found} == {"upstream:peer", "sender:news@x.test", "tag:may"}
            assert (await relay.json("queue", "count"))["held"] == 1
            answer = await relay.json("brake", "release", "--all")
            assert answer["messages"] == 1
            await reached(lambda: len(peer.accepted()) == before + 3)
            assert await relay.json("brake", "list") == []
