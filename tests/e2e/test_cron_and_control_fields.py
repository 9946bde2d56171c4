"""What comes unfinished leaves whole, and what was said to the relay alone goes no further."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.peers.scripted import ScriptedUpstream
from tests.peers.tap import ByteTap

REWRITE = {"RELAY__REWRITE__ALIASES__ROOT": "ops@example.com", "RELAY__REWRITE__DEFAULT_DOMAIN": "example.org"}


async def test_mail_as_cron_sends_it(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, environment=REWRITE) as relay,
    ):
        client = await Submitter.connect(relay.port)
        body = b"\x00\xff" + b"x" * 70_000 + b"\r\n.\r\n"
        header = b"To: root\r\nSubject: Cron <root@host> run\r\nBcc: nobody@example.net\r\n"
        reply = await client.submit("cron", ["root", "www"], header + b"\r\n" + body, " BODY=8BITMIME")
        client.close()
        assert reply.startswith("250 "), reply
        (received,) = await peer.received(1)
        assert received.mail.startswith(b"MAIL FROM:<cron@example.org>")
        assert received.recipients == ("ops@example.com", "www@example.org")
        head, _, arrived = received.content.partition(b"\r\n\r\n")
        assert arrived == body
        assert b"\r\nFrom: cron@example.org\r\n" in head
        assert head.endswith(b"\r\nTo: root\r\nSubject: Cron <root@host> run")
        (told,) = await relay.until(r"cleanup\[\d+\]: \w+: info: repaired: (.*)$")
        assert told[1] == (
            "sender cron -> cron@example.org, recipient root -> ops@example.com, recipient www -> www@example.org,"
            " bcc, message-id, date, from, long-line"
        )


async def test_control_fields_are_obeyed_and_go_no_further(tmp_path: Path) -> None:
    async with ScriptedUpstream() as first, ScriptedUpstream() as second:
        upstreams = {"first": smtp_upstream(first.port), "second": smtp_upstream(second.port)}
        async with Relay(tmp_path, upstreams) as relay:
            client = await Submitter.connect(relay.port)
            fields = b"Subject: x\r\nX-Relay-Upstream: second\r\nX-Relay-Priority: bulk\r\nIdempotency-Key: k\r\n"
            assert (await client.submit("a@x.test", ["b@y.test"], fields + b"\r\n")).startswith("250 ")
            (received,) = await second.received(1)
            assert b"Relay-" not in received.content
            assert b"Idempotency" not in received.content
            unknown = await client.submit("a@x.test", ["b@y.test"], b"X-Relay-Upstream: third\r\n\r\n")
            assert unknown == "550 5.6.0 Error: X-Relay-Upstream names no upstream"
            late = b"X-Relay-Not-After: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\n"
            assert (await client.submit("a@x.test", ["late@y.test"], late)).startswith("250 ")
            client.close()
            await relay.until(r"to=<late@y\.test>, relay=none, .*status=expired")


async def test_a_relay_that_is_its_own_upstream_ends_the_loop(tmp_path: Path) -> None:
    relay = Relay(tmp_path, {"peer": smtp_upstream(1)}, {"bounces": "off"})
    async with ByteTap(relay.port) as around_the_corner:  # what is plainly our own listener is refused at the start
        relay.upstreams = {"itself": smtp_upstream(around_the_corner.port)}
        relay.write_config()
        async with relay:
            await relay.submit()
            (told,) = await relay.until(r"to=<b@y\.test>, .*dsn=5\.4\.6, status=bounced \((.*)\)")
            assert "too many hops" in told[1]
            assert len(relay.lines(r"status=sent")) == 1
