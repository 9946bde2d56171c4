"""TLS with an upstream fails, in each way it can: no mail, name or password leaves in clear, none is refused, and all
of it goes once the upstream is mended, by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.ledger import Submitter
from tests.upstream.doors import Certificates
from tests.upstream.tls_peer import PASSWORD, USER, TlsPeer

HOST = "127.0.0.1"
FORBIDDEN = {"MAIL", "RCPT", "DATA", "BDAT", "AUTH"}


def flaws(certificates: Certificates) -> Mapping[str, dict[str, Any]]:
    good = certificates.server(HOST)
    return {
        "expired": {"tls": certificates.server(HOST, expired=True)},
        "another-name": {"tls": certificates.server("other.test")},
        "unknown-authority": {"tls": certificates.server(HOST, stranger=True)},
        "not-offered": {"tls": good, "offer_starttls": False},
        "refused-454": {"tls": good, "says": {"STARTTLS": "454 4.7.0 TLS not available"}},
        "refused-502": {"tls": good, "says": {"STARTTLS": "502 5.5.1 what?"}},
        "closed-in-place-of-220": {"tls": good, "says": {"STARTTLS": None}},
        "silent-in-place-of-220": {"tls": good, "says": {"STARTTLS": ""}},
        "replies-injected-behind-220": {
            "tls": good,
            "says": {"STARTTLS": "220 go on\r\n250-peer.test\r\n250 AUTH PLAIN"},
        },
        "garbage-in-place-of-a-handshake": {"tls": good, "garbage": b"x" * 1000},
        "mail-in-place-of-a-handshake": {"tls": good, "garbage": b"250 2.0.0 Ok\r\n" * 20},
        "silent-in-the-handshake": {"tls": good, "silent": True},
    }


async def test_no_mail_leaves_and_none_is_lost(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    keys = {
        "tls": "starttls",
        "tls_ca": certificates.trust,
        "username": USER,
        "password": PASSWORD,
        "connect_timeout": "1s",
        "reply_timeout": "1s",
    }
    peers: dict[str, TlsPeer] = {}
    with contextlib.ExitStack() as bad:
        for name, flaw in flaws(certificates).items():
            peers[name] = bad.enter_context(TlsPeer(**flaw))
        upstreams = {name: {**smtp_upstream(peer.port), **keys} for name, peer in peers.items()}
        relay = Relay(tmp_path / "relay", upstreams, queue={"bounces": "off"})
        async with relay:
            client = await Submitter.connect(relay.port)
            for name in peers:
                content = f"From: <a@x.test>\r\nX-Relay-Upstream: {name}\r\n\r\nhello\r\n".encode()
                assert (await client.submit("a@x.test", ["b@y.test"], content)).startswith("250")
            client.close()
            for name in peers:
                await relay.until(f"upstream {name} is down: ")
            queued = await relay.json("queue", "list")
            assert [each["recipients"][0]["attempts"] for each in queued] == [0] * len(peers)
            assert not relay.lines("status=(bounced|expired)")
            for name, peer in peers.items():
                assert not FORBIDDEN & {*peer.verbs}, f"{name}: {peer.verbs}"
            bad.close()
            with contextlib.ExitStack() as mended:
                for peer in peers.values():
                    mended.enter_context(TlsPeer(certificates.server(HOST), port=peer.port))
                await relay.until("status=sent", len(peers), within=90)
                assert not any((await relay.json("queue", "count")).values())
        assert not [line for line in relay.log if PASSWORD in line]
