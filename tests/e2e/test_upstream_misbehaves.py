"""An upstream that refuses, hangs, closes, lies and talks nonsense, at every step and in every way of pipelining.

All behaviours of the table run beside each other in one relay, each as an upstream of its own: which also shows that
none of them harms another. A relay whose client takes a reply for another recipient's must not pass.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.behaviours import FIRST, SECOND, Behaviour, behaviours
from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream

PATIENCE = {"connect_timeout": "2s", "reply_timeout": "2s", "final_reply_timeout": "2s", "idle_timeout": "1s"}
OVERTIME = 1.0
"""Seconds that a silent upstream may be waited for beyond its time-out."""

ANSWER = re.compile(rb"(?:(?P<first>\d{3})-[^\n]*\n)*(?P<code>(?(first)(?P=first)|\d{3}))(?: [^\n]*)?\r?\n")

WAYS: Mapping[str, Mapping[str, str]] = {
    "lock-step": {"pipelining": "off", "chunking": "off"},
    "within": {"pipelining": "on", "chunking": "off"},
    "chained": {"pipelining": "auto", "chunking": "off"},
    "windowed": {"pipelining": "auto", "chunking": "auto"},
    "chained-tls": {"pipelining": "auto", "chunking": "off", "tls": "implicit"},
}
MISPAIRING = """
from relay.smtp import client

right = client.ClientSession._answer_rcpt

def wrong(self, transaction, n, reply):
    right(self, transaction, len(transaction.outcomes) - 1 - n, reply)

client.ClientSession._answer_rcpt = wrong
"""


@dataclass
class Met:
    """A behaviour, the peer that showed it, and the ids of the two messages that met it."""

    behaviour: Behaviour
    peer: ScriptedUpstream
    ids: tuple[str, str]


async def play(
    folder: Path, table: Mapping[str, Behaviour], way: str, **environment: str
) -> tuple[Relay, dict[str, Met]]:
    """Let each behaviour meet its two messages; returns when nothing is queued any more."""
    async with contextlib.AsyncExitStack() as stack:
        context, trust = certificate(folder) if "tls" in WAYS[way] else (None, {})
        peers, upstreams = {}, {}
        for number, (name, behaviour) in enumerate(table.items()):
            extensions = behaviour.extensions + (("CHUNKING",) if way == "windowed" and behaviour.extensions else ())
            peer = await stack.enter_async_context(ScriptedUpstream(behaviour.script, extensions, tls=context))
            peers[name] = peer
            settings = {"max_connections": 1, **PATIENCE, **trust, **WAYS[way], **behaviour.upstream}
            upstreams[f"u{number}"] = {**smtp_upstream(peer.port), **settings}
        relay = Relay(folder / "relay", upstreams, queue={"bounces": "off"}, environment=environment)
        async with relay:
            client = await Submitter.connect(relay.port)
            met = {}
            for number, (name, behaviour) in enumerate(table.items()):
                ids = [await submit(client, f"u{number}", recipients, behaviour) for recipients in (FIRST, SECOND)]
                met[name] = Met(behaviour, peers[name], (ids[0], ids[1]))
            client.close()
            await relay.until(r"postfix/qmgr.*: removed$", 2 * len(table), within=90)
            assert not any((await relay.json("queue", "count")).values())
            assert await relay.stop() == 0
        return relay, met


async def submit(client: Submitter, upstream: str, recipients: tuple[str, ...], behaviour: Behaviour) -> str:
    text = "grüße" if behaviour.eight_bit else "hello"
    content = f"From: <a@x.test>\r\nX-Relay-Upstream: {upstream}\r\nSubject: test\r\n\r\n{text}\r\n".encode()
    body = " BODY=8BITMIME" if behaviour.eight_bit else ""
    reply = await client.submit("a@x.test", list(recipients), content, body)
    assert reply.startswith("250 2.0.0 Ok: queued as "), reply
    return reply.rpartition(" ")[2]


def certificate(folder: Path) -> tuple[ssl.SSLContext, dict[str, Any]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, {"tls_ca": str(folder / "ca.pem")}


def judge(relay: Relay, met: Met, *, chunked: bool = False) -> list[str]:
    """What is not as the table has it; ``chunked``: content has left together with its envelope."""
    behaviour, peer, wrong = met.behaviour, met.peer, []
    doubtful = behaviour.unanswered or (chunked and behaviour.breaks)
    taken: Counter[str] = Counter()
    unanswered: set[str] = set()
    for message in peer.messages:
        answer = ANSWER.match(message.reply)
        if answer is None:
            unanswered |= {*message.recipients}
        elif answer["code"].startswith(b"2"):
            taken.update(message.recipients)
    for queue_id, recipients in zip(met.ids, (FIRST, SECOND), strict=True):
        for to in recipients:
            lines = relay.lines(f" {queue_id}: to=<{to}>, ")
            statuses = [re.findall(r", status=(\w+) \(", line)[0] for line in lines]
            final = [status for status in statuses if status != "deferred"]
            wanted = "bounced" if to in behaviour.bounced else "sent"
            in_doubt = sum("(in doubt: " in line for line in lines)
            if final != [wanted] or statuses[-1] != wanted:
                wrong.append(f"{to} is {statuses}, not {wanted}")
            copies = taken[to] + (to in unanswered)
            if taken[to] != (wanted == "sent") and not (doubtful and 1 <= copies <= 2):
                wrong.append(f"{to} was taken {taken[to]} times")
            if in_doubt > doubtful:
                wrong.append(f"{to} was {in_doubt} times in doubt")
    if peer.violations:
        wrong.append(f"RFC 2920: {peer.violations}")
    if any(not re.match(rb"(EHLO|HELO|MAIL|RCPT|DATA|BDAT|RSET|QUIT)( |$)", command) for command in peer.commands):
        wrong.append(f"said {peer.commands}")
    if any(seconds > behaviour.time_out + OVERTIME for seconds in peer.hung):
        wrong.append(f"waited {peer.hung} s")
    return wrong


def judged(relay: Relay, met: Mapping[str, Met], *, chunked: bool = False) -> dict[str, list[str]]:
    return {name: wrong for name, each in met.items() if (wrong := judge(relay, each, chunked=chunked))}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", WAYS)
async def test_every_recipient_has_the_outcome_of_the_table(tmp_path: Path, way: str) -> None:
    chunked = way == "windowed"
    table = {n: each for n, each in behaviours().items() if not (each.data if chunked else each.bdat)}
    assert len(table) >= 60
    relay, met = await play(tmp_path, table, way)
    assert judged(relay, met, chunked=chunked) == {}
    assert not relay.lines("internal error|Traceback|unforeseen")


@pytest.mark.parametrize("way", ["lock-step", "chained", "windowed"])
async def test_replies_taken_for_anothers_are_found(tmp_path: Path, way: str) -> None:
    """The negative control: the same judge, a client that pairs replies and recipients wrongly."""
    (tmp_path / "sitecustomize.py").write_text(MISPAIRING)
    table = {name: each for name, each in behaviours().items() if name in {"RCPT-550-250-250", "RCPT-250-250-550"}}
    relay, met = await play(tmp_path, table, way, PYTHONPATH=str(tmp_path))
    assert judged(relay, met).keys() == table.keys()
