"""``[http]`` of a real relay: who is let in, what it answers, what it takes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.harness import Relay, free_port
from tests.http.client import Answer, ask, say

MESSAGE = b"From: A <a@x.test>\nTo: success@y.test, B <b@y.test>\nBcc: c@y.test\nSubject: hi\n\nHello\n"
RAW = {"Content-Type": "message/rfc822"}
JSON = {"Content-Type": "application/json"}


@dataclass
class Web:
    relay: Relay
    port: int
    token: str

    async def __call__(self, path: str, method: str = "GET", body: bytes | None = None, **fields: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in fields.items()}
        return await ask(self.port, path, method, {"Authorization": f"Bearer {self.token}", **given}, body)

    async def post(self, path: str, body: Any, **fields: str) -> Answer:
        return await self(path, "POST", json.dumps(body).encode(), Content_Type="application/json", **fields)


def relay_with_http(folder: Path, port: int, **http: Any) -> Relay:
    tables = {"http": {"address": f"127.0.0.1:{port}", **http}, "feedback.sp": {"kind": "sparkpost", "token": "s" * 20}}
    upstreams = {"sim": {"kind": "simulator", "limits": ["1000/hour"]}}
    return Relay(folder, upstreams, queue={"backoff": ["1h"]}, tables=tables)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    port = free_port()
    async with relay_with_http(tmp_path, port, max_message_size="100kB", max_recipients=3) as relay:
        yield Web(relay, port, (tmp_path / "spool" / "http.token").read_text().strip())


async def test_the_commands_answers_and_who_gets_them(web: Web) -> None:
    await web.relay.submit(recipients=["success@y.test"])
    await web.relay.submit(recipients=["defer@y.test"])
    await web.relay.until("status=deferred")
    await web.relay.until("status=sent")
    for path, command in (("/api/queue", ("queue", "list")), ("/api/queue/count", ("queue", "count"))):
        assert (await web(path)).json == await web.relay.json(*command)
    said, printed = (await web("/api/status")).json, await web.relay.json("status")
    assert said.keys() == printed.keys()
    assert said["upstreams"]["sim"]["sent_total"] == 1
    assert said["queue"] == printed["queue"] == {"waiting": 0, "leased": 0, "deferred": 1, "held": 0}
    (queued,) = (await web("/api/queue?state=deferred&limit=5")).json
    assert (await web(f"/api/trace?id={queued['id']}")).json == await web.relay.json("trace", queued["id"])
    assert (await web("/api/plan?messages=1000")).json["ahead"] == 1000
    assert (await web.post("/api/queue/remove", {"ids": [queued["id"]]})).json == {"changed": 1, "in_flight": 0}
    assert (await web("/api/queue")).json == []

    assert [(await ask(web.port, path)).status for path in ("/healthz", "/readyz")] == [200, 200]
    for path in ("/api/status", "/metrics", "/", "/api/openapi.json", "/nowhere"):
        answer = await ask(web.port, path)
        assert (answer.status, answer.fields["www-authenticate"]) == (401, 'Bearer realm="relay"')
    for name, wrong in (("Host", "evil.example"), ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")):
        given = {"Authorization": f"Bearer {web.token}", name: wrong}
        assert (await ask(web.port, "/api/status", fields=given)).status == 403
    assert (await web("/nowhere")).status == 404
    assert (await web("/api/status", "POST")).status == 405


async def test_what_is_asked_wrongly_is_said(web: Web) -> None:
    for path in ("/api/queue?colour=red", "/api/queue?limit=x", "/api/queue?limit=-1", "/api/queue?state=a&state=b"):
        answer = await web(path)
        assert (answer.status, list(answer.json)) == (400, ["error"])
    assert (await web.post("/api/queue/hold", {})).status == 400
    assert (await web.post("/api/queue/hold", [])).status == 400
    assert (await web("/api/queue/hold", "POST", b"all=true", Content_Type="text/plain")).status == 415
    assert (await web("/api/queue/hold", "POST", b"{" + b" " * 2**21, Content_Type="application/json")).status == 413


async def test_a_message_is_kept_before_it_is_answered(web: Web) -> None:
    answer = await web("/api/messages", "POST", MESSAGE, **RAW)
    assert answer.status == 202
    await web.relay.until(rf"{answer.json['id']}: from=<a@x.test>, size=\d+, nrcpt=3 ")
    await web.relay.until(f"{answer.json['id']}: removed")
    assert sorted(re.findall(r"to=<([^>]+)>.*status=sent", "\n".join(web.relay.log))) == [
        *("b@y.test", "c@y.test", "success@y.test")
    ]
    told = (await web("/api/messages?sender=&recipient=one@y.test&recipient=two@y.test", "POST", MESSAGE, **RAW)).json
    await web.relay.until(rf"{told['id']}: from=<>, size=\d+, nrcpt=2 ")

    draft = {"from": "Shop <shop@x.test>", "to": ["success@y.test"], "subject": "Grüße", "html": "<b>hi</b>"}
    first = await web.post("/api/messages", draft, Idempotency_Key="order-7")
    again = await web.post("/api/messages", draft, Idempotency_Key="order-7")
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    await web.relay.until("duplicate of")


async def test_what_is_no_message_is_refused_and_says_why(web: Web, tmp_path: Path) -> None:
    large = b"Subject: x\r\n\r\n" + b"x" * 60_000 + b"\r\n" + b"y" * 60_000
    to = "?sender=a@x.test&recipient=b@y.test"
    for path, body, fields, status in (
        ("", b"Subject: no recipients\r\n\r\n", RAW, 422),
        ("", b"To: b@y.test\r\n\r\n", RAW, 422),
        ("", b"", RAW, 422),
        ("?recipient=no%20address", MESSAGE, RAW, 422),
        ("?sender=a@x.test%0d%0aRCPT", MESSAGE, RAW, 422),
        ("?recipient=1@y.test&recipient=2@y.test&recipient=3@y.test&recipient=4@y.test", MESSAGE, RAW, 422),
        ("", b"Idempotency-Key: other\r\n" + MESSAGE, {**RAW, "Idempotency-Key": "one"}, 422),
        (to, large, RAW, 413),
        (to, b"X: " + b"x" * 90_000, {**RAW, "Content-Length": "100000000", "Expect": "100-continue"}, 413),
        ("", MESSAGE, {"Content-Type": "text/plain"}, 415),
        ("", b"{", JSON, 400),
        ("", b'{"from": "a@x.test"}', JSON, 422),
        ("", json.dumps({"from": "a@x.test", "to": "b@y.test", "text": "x" * 101_000}).encode(), JSON, 413),
    ):
        answer = await web(f"/api/messages{path}", "POST", body, **fields)
        assert answer.status == status, (path, body[:40], answer.body)
        assert answer.json["error"]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large[:70_000], large[70_000:])) + b"0\r\n\r\n"
    head = f"POST /api/messages{to} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {web.token}\r\n"
    head += "Content-Type: message/rfc822\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert (await say(web.port, head.encode() + chunks)).status == 413
    assert (await web("/api/queue")).json == []
    assert web.relay.lines("queued|status=") == []


async def test_a_large_message_comes_whole_however_it_is_sent(tmp_path: Path) -> None:
    port = free_port()
    tables = {"http": {"address": f"127.0.0.1:{port}"}}
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}, tables=tables) as relay:
        web = Web(relay, port, (tmp_path / "spool" / "http.token").read_text().strip())
        body = b"From: a@x.test\nTo: success@y.test\n\n" + b"".join(b"line %d\r" % n for n in range(200_000))
        answer = await web("/api/messages", "POST", body, **RAW)
        assert answer.status == 202
        (size,) = await relay.until(rf"{answer.json['id']}: from=<a@x.test>, size=(\d+)")
        assert int(size[1]) > len(body) + 200_000
        await relay.until(f"{answer.json['id']}: removed")


async def test_who_leaves_amid_a_message_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    tables = {"http": {"address": f"127.0.0.1:{port}"}}
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}, tables=tables) as relay:
        token = (tmp_path / "spool" / "http.token").read_text().strip()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        head += "Content-Type: message/rfc822\r\nContent-Length: 9000000\r\n\r\n"
        writer.write(head.encode() + MESSAGE + b"x" * 3_000_000)
        await writer.drain()
        writer.close()
        assert (await ask(port, "/readyz")).status == 200
        assert await relay.stop() == 0
        assert relay.lines("internal error|failed|Traceback") == []
        await relay.start()
        assert (await relay.json("queue", "list")) == []


async def test_a_spool_that_is_full_says_when_to_come_again(tmp_path: Path) -> None:
    port = free_port()
    spool = {"max_size": "1kB"}
    tables = {"http": {"address": f"127.0.0.1:{port}", "auth": "none"}}
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}, spool=spool, tables=tables) as relay:
        answer = await ask(port, "/api/messages", "POST", RAW, MESSAGE + b"x" * 3000)
        assert (answer.status, answer.fields["retry-after"]) == (503, "30")
        assert answer.json["reply"].startswith("452 4.3.1")
        await relay.until("NOQUEUE: reject: POST from localhost.127.0.0.1.: 452 4.3.1")


async def test_the_metrics_are_those_that_happened(web: Web) -> None:
    await web.relay.submit(recipients=["success@y.test", "bounce@y.test", "defer@y.test"])
    await web("/api/messages", "POST", MESSAGE, **RAW)
    await web.relay.until("status=sent", 4)
    await web.relay.until("status=bounced")
    await web.relay.until("status=deferred")
    answer = await web("/metrics")
    assert answer.fields["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert samples["relay_messages_accepted_total", "app"] == 1
    assert samples["relay_messages_accepted_total", "http"] == 1
    outcomes = {key[1:]: value for key, value in samples.items() if key[0] == "relay_recipients_total"}
    assert outcomes == {("bounced", "sim"): 1, ("deferred", "sim"): 1, ("expired", "sim"): 0, ("sent", "sim"): 5} or (
        outcomes["sent", "sim"] == 4  # the notification to the sender may be on its way
    )
    assert samples["relay_queue_messages", "deferred"] == 1
    assert samples["relay_connections", "sim"] >= 1
    assert 0 < samples["relay_limit_used_ratio", "1000/hour", "sim"] <= 0.01
    assert samples["relay_accept_seconds_count",] == 2
    assert samples["relay_delivery_seconds_count", "sim"] == outcomes["sent", "sim"]
    openmetrics = await web("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.body.endswith(b"# EOF\n")


async def test_feedback_is_believed_by_its_proof_alone(web: Web) -> None:
    event = {"msys": {"message_event": {"type": "spam_complaint", "rcpt_to": "b@y.test", "event_id": "1"}}}
    body = json.dumps([event]).encode()
    proof = {"X-MessageSystems-Webhook-Token": "s" * 20, "Host": "hooks.example.com"}
    assert (await ask(web.port, "/feedback/sp", "POST", {"Host": "hooks.example.com"}, body)).status == 401
    assert (await ask(web.port, "/feedback/other", "POST", proof, body)).status == 404
    assert (await ask(web.port, "/feedback/sp", "POST", proof, b"{")).status == 400
    assert (
        await ask(
            web.port, "/feedback/sp", "POST", {**proof, "Content-Length": "6000000", "Expect": "100-continue"}, body
        )
    ).status == 413
    assert (await ask(web.port, "/feedback/sp", "GET", proof)).status == 405
    assert (await ask(web.port, "/feedback/sp", "POST", proof, body)).status == 200
    await web.relay.until("complaint")


async def test_a_browser_is_let_in_by_the_printed_address(web: Web) -> None:
    code, address, _ = await web.relay.command("dashboard")
    assert code == 0
    assert address.strip() == f"http://127.0.0.1:{web.port}/?token={web.token}"
    first = await ask(web.port, address.strip().removeprefix(f"http://127.0.0.1:{web.port}"))
    assert (first.status, first.fields["location"]) == (303, "/")
    assert "HttpOnly" in first.fields["set-cookie"]
    assert "SameSite=strict" in first.fields["set-cookie"]
    assert web.token not in first.fields["set-cookie"]
    cookie = {"Cookie": first.fields["set-cookie"].partition(";")[0]}
    await web.relay.submit(recipients=["defer@y.test"], sender='"<script>alert(1)</script>"@x.test')
    await web.relay.until("status=deferred")
    page = await ask(web.port, "/", fields=cookie)
    assert page.status == 200
    assert "default-src 'none'" in page.fields["content-security-policy"]
    assert b"<script" not in page.body
    assert b"1000/hour" in page.body
    assert b'content="5"' in page.body
    (queued,) = (await web("/api/queue")).json
    for path in ("/messages?state=deferred", "/messages", f"/trace?id={queued['id']}"):
        shown = (await ask(web.port, path, fields=cookie)).body
        assert queued["id"].encode() in shown
        assert b"defer@y.test" in shown
        assert b"&lt;script&gt;alert(1)" in shown
        assert b"<script" not in shown
    assert (await ask(web.port, "/messages?state=odd", fields=cookie)).status == 400
    assert (await ask(web.port, "/trace?id=%3Cscript%3E", fields=cookie)).status == 404
    assert b"<script" not in (await ask(web.port, "/trace?id=%3Cscript%3E", fields=cookie)).body
    assert (await ask(web.port, "/style.css", fields=cookie)).fields["content-type"].startswith("text/css")
    # By the cookie alone nothing is changed.
    held = await ask(web.port, "/api/queue/hold", "POST", {**cookie, **JSON}, b'{"all": true}')
    assert held.status == 403
    assert web.relay.lines(web.token) == []


async def test_it_goes_and_comes_with_the_relay(web: Web, tmp_path: Path) -> None:
    token = tmp_path / "spool" / "http.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    # A connection that is open and silent keeps nobody waiting.
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
    os.kill(web.relay.pid, signal.SIGHUP)
    await web.relay.until("reload: done")
    assert (await ask(web.port, "/readyz")).status == 200
    began = asyncio.get_running_loop().time()
    assert await web.relay.stop() == 0
    assert asyncio.get_running_loop().time() - began < 8
    writer.close()
    assert web.relay.lines("Traceback|internal error") == []
    await web.relay.start()
    assert (await web("/api/status")).status == 200


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    try:
        relay = relay_with_http(tmp_path, port)
        await relay.start(may_die=True)
        assert await relay.ended() == 69
        assert any(str(port) in line for line in relay.lines("in use"))
    finally:
        taken.close()


async def test_a_token_behind_a_link_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / "http.token").symlink_to(tmp_path / "elsewhere")
    relay = relay_with_http(tmp_path, free_port())
    await relay.start(may_die=True)
    assert await relay.ended() == 69
    assert relay.lines(r"\[http\] token_file")
    assert not (tmp_path / "elsewhere").exists()


async def test_without_http_there_is_none(tmp_path: Path) -> None:
    async with Relay(tmp_path, {"sim": {"kind": "simulator"}}) as relay:
        assert not (tmp_path / "spool" / "http.token").exists()
        code, _, said = await relay.command("dashboard")
        assert (code, "no [http]" in said) == (1, True)
        with open(f"/proc/{relay.pid}/maps") as maps:  # noqa: ASYNC230, PTH123 - no file that could block
            assert "msgspec" not in maps.read()
