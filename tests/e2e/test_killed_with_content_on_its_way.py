"""The upstream took all of a message and never answered: what the policy says is done, also where the relay was killed
in between. Upstreams that are to be tried again are not asked to wait for a word on disk.
"""

from __future__ import annotations

import sqlite3
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import CLOSE, HANG, RESET, Act, ScriptedUpstream

LARGE = "x" * 70 + "\r\n"
PEERS: dict[str, tuple[str, ...]] = {
    "DATA": ("PIPELINING", "8BITMIME"),
    "BDAT": ("PIPELINING", "8BITMIME", "CHUNKING"),
    "one by one": ("8BITMIME",),
}


def upstreams(peer: ScriptedUpstream, policy: str, **more: Any) -> dict[str, Any]:
    return {"peer": smtp_upstream(peer.port, in_doubt=policy, final_reply_timeout="1s", **more)}


def fields(content: bytes) -> dict[str, str]:
    """The last recipient's fields of a notification."""
    status = message_from_bytes(content).get_payload(1)
    return dict(status.get_payload()[-1].items())  # type: ignore[union-attr, index]


def begun(relay: Relay) -> list[tuple[str, str | None]]:
    with sqlite3.connect(f"file:{relay.folder}/spool/spool.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT state, begun FROM recipient ORDER BY message, n").fetchall()


@pytest.mark.parametrize("extensions", PEERS.values(), ids=PEERS.keys())
@pytest.mark.parametrize("accident", [CLOSE, HANG, RESET], ids=["close", "hang", "reset"])
async def test_it_is_held_until_an_operator_releases_it(
    tmp_path: Path, accident: Act, extensions: tuple[str, ...]
) -> None:
    async with (
        ScriptedUpstream({"CONTENT": [accident]}, extensions) as peer,
        Relay(tmp_path, upstreams(peer, "hold")) as relay,
    ):
        queue_id = await relay.submit()
        await relay.until(
            rf"{queue_id}: to=.*status=deferred \(in doubt: .*; held until relay queue release or remove\)"
        )
        (message,) = await relay.json("queue", "list", "--state", "held")
        assert message["id"] == queue_id
        (recipient,) = message["recipients"]
        assert (recipient["state"], recipient["attempts"]) == ("held", 1)
        assert recipient["last_reply"].startswith("in doubt: ")
        (told,) = await relay.json("trace", queue_id)
        assert "may have arrived" in told["waits_for"]
        assert (await relay.command("queue", "release", queue_id))[0] == 0
        await relay.until(rf"{queue_id}: removed")
        first, second = peer.messages
        assert first.content == second.content


@pytest.mark.parametrize("accident", [CLOSE, HANG, RESET], ids=["close", "hang", "reset"])
async def test_it_fails_with_a_notification_that_tells_the_doubt(tmp_path: Path, accident: Act) -> None:
    async with ScriptedUpstream({"CONTENT": [accident]}) as peer, Relay(tmp_path, upstreams(peer, "fail")) as relay:
        queue_id = await relay.submit()
        await relay.until(rf"{queue_id}: to=.*dsn=5\.4\.0, status=bounced \(in doubt: .*it may have arrived")
        await relay.until(rf"{queue_id}: sender non-delivery notification: ")
        _, notification = await peer.received(2)
        assert notification.recipients == ("a@x.test",)
        assert b"It may have arrived" in notification.content.replace(b"\r\n", b" ")
        told = fields(notification.content)
        assert (told["Action"], told["Status"]) == ("failed", "5.4.0")
        assert told["Diagnostic-Code"].startswith("X-Relay; in doubt: ")
        assert told["Remote-MTA"] == "dns; [127.0.0.1]"
        await relay.drained()


@pytest.mark.parametrize("extensions", PEERS.values(), ids=PEERS.keys())
@pytest.mark.parametrize("size", [1, 8000], ids=["small", "large"])
async def test_a_kill_after_the_dot_ends_in_hold(tmp_path: Path, extensions: tuple[str, ...], size: int) -> None:
    async with (
        ScriptedUpstream({"CONTENT": [HANG]}, extensions) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port, in_doubt="hold")}) as relay,
    ):
        queue_id = await relay.submit(LARGE * size)
        await peer.received(1)
        await relay.kill()
        assert begun(relay) == [("leased", f"peer[127.0.0.1]:{peer.port}")]
        # Whoever looks while it is down finds it where it was; nobody makes it go again.
        assert (await relay.command("queue", "retry", "--all"))[0] == 1
        await relay.start()
        await relay.until(
            rf"{queue_id}: to=<b@y.test>, relay=peer\[127.0.0.1\]:{peer.port}, .*status=deferred"
            r" \(in doubt: the relay ended in the transaction with peer\[127.0.0.1\]; held"
        )
        (message,) = await relay.json("queue", "list", "--all")
        assert message["state"] == "held"
        # Not again at the next start either.
        await relay.kill()
        await relay.start()
        assert len(peer.messages) == 1
        assert await relay.json("queue", "count") == {"waiting": 0, "leased": 0, "deferred": 0, "held": 1}
        assert (await relay.command("queue", "release", queue_id))[0] == 0
        await relay.until(rf"{queue_id}: removed")
        assert len(peer.accepted()) == 1


async def test_a_kill_after_the_dot_ends_in_a_notification(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"CONTENT": [HANG]}) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port, in_doubt="fail")}) as relay,
    ):
        queue_id = await relay.submit(recipients=("b@y.test", "c@y.test"))
        await peer.received(1)
        await relay.kill()
        await relay.start()
        await relay.until(rf"{queue_id}: to=<(b|c)@y.test>.*status=bounced \(in doubt: ", 2)
        _, notification = await peer.received(2)
        assert notification.content.count(b"Action: failed") == 2
        await relay.drained()


async def test_a_kill_before_the_content_leaves_no_doubt(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"DATA": [HANG]}) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port, in_doubt="hold")}) as relay,
    ):
        queue_id = await relay.submit()
        while b"DATA" not in peer.commands:
            async with peer.changed:
                pass
            await relay.json("queue", "count")
        await relay.kill()
        assert begun(relay) == [("leased", None)]
        await relay.start()
        await relay.until(rf"{queue_id}: to=.*status=sent")
        assert not relay.lines("in doubt")


async def test_what_is_tried_again_writes_nothing_before_its_content(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"CONTENT": [HANG]}) as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay,
    ):
        queue_id = await relay.submit()
        await peer.received(1)
        await relay.kill()
        assert begun(relay) == [("leased", None)]
        await relay.start()
        await relay.until(rf"{queue_id}: to=.*status=sent")


async def test_the_rest_of_a_session_goes_on_as_fast(tmp_path: Path) -> None:
    """Content that waits for a word on disk is chained as any other, and arrives octet for octet."""
    async with ScriptedUpstream() as peer:
        table = {"peer": smtp_upstream(peer.port, in_doubt="hold", max_connections=1)}
        async with Relay(tmp_path, table) as relay:
            await relay.submit_many(40)
            await relay.drained()
            assert len(peer.accepted()) == 40
            assert {message.content.partition(b"\r\n\r\n")[2] for message in peer.messages} == {b"hello\r\n"}
            assert not peer.violations
            assert peer.sessions == 1
            assert not relay.lines("in doubt")


async def test_stopping_leaves_doubt_to_the_policy(tmp_path: Path) -> None:
    """What SIGTERM breaks off after the dot is settled before the relay ends."""
    async with ScriptedUpstream({"CONTENT": [HANG]}) as peer:
        table = {"peer": smtp_upstream(peer.port, in_doubt="hold")}
        async with Relay(tmp_path, table, {"stop_timeout": "1s"}) as relay:
            queue_id = await relay.submit()
            await peer.received(1)
            assert await relay.stop() == 0
            assert relay.lines(rf"{queue_id}: to=.*status=deferred \(in doubt: relay stopped .*; held")
            await relay.start()
            assert await relay.json("queue", "count") == {"waiting": 0, "leased": 0, "deferred": 0, "held": 1}
            assert len(peer.messages) == 1


async def test_an_upstream_that_is_no_more_leaves_doubt_to_an_operator(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream({"CONTENT": [HANG]}) as peer,
        ScriptedUpstream() as other,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port, in_doubt="fail")}) as relay,
    ):
        queue_id = await relay.submit()
        await peer.received(1)
        await relay.kill()
        relay.upstreams = {"other": smtp_upstream(other.port)}
        relay.write_config()
        await relay.start()
        await relay.until(rf"{queue_id}: to=.*\(in doubt: the relay ended .*; held")
        assert not other.messages


async def test_many_in_flight_are_all_held_at_once(tmp_path: Path) -> None:
    """A window of messages on several sessions, killed: none is lost, none goes twice, those unanswered are held."""
    extensions = ("PIPELINING", "8BITMIME", "CHUNKING")
    async with ScriptedUpstream({"CONTENT": HANG}, extensions) as peer:
        table = {"peer": smtp_upstream(peer.port, in_doubt="hold", max_connections=3)}
        async with Relay(tmp_path, table) as relay:
            await relay.submit_many(60)
            await peer.received(3)
            await relay.kill()
            marked = sum(where is not None for _, where in begun(relay))
            assert marked >= 3
            peer.script = {}
            await relay.start()
            await relay.until(r"in doubt: .*; held", marked)
            await relay.until("status=sent", 60 - marked)
            assert (await relay.json("queue", "count"))["held"] == marked
            assert len(peer.accepted()) == 60 - marked
