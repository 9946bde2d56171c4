"""TLS with upstreams on both event loops: what is verified, what never goes out in clear, what is said on failure."""

from __future__ import annotations

import asyncio
import ssl
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.outcome import Outcome, Scope, Verdict
from tests.upstream.doors import LOOPS, Certificates, refused, relay_one, run, upstream
from tests.upstream.tls_peer import TlsPeer

pytestmark = pytest.mark.parametrize("on", LOOPS)
WAYS = ["starttls", "implicit"]
FORBIDDEN = {"MAIL", "RCPT", "DATA", "AUTH"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def told(on: str, peer: TlsPeer, **settings: Any) -> Outcome:
    """Connect in vain: the upstream is down, and nothing of worth went out in clear."""
    outcome = run(on, refused(upstream(peer.port, **settings)))
    assert (outcome.verdict, outcome.scope) == (Verdict.DEFERRED, Scope.UPSTREAM)
    assert outcome.reply is None, "it would be taken for our account's trouble"
    assert not FORBIDDEN & set(peer.verbs)
    return outcome


@pytest.mark.parametrize("tls", WAYS)
def test_a_message_over_verified_tls(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), implicit=tls == "implicit") as peer:
        end = run(on, relay_one(upstream(peer.port, tls=tls, tls_ca=certificates.trust)))
    assert end.relay == f"main[127.0.0.1]:{peer.port}"
    assert str(end.outcomes[0].reply) == "250 2.0.0 Ok: taken"
    assert peer.in_clear() == (["EHLO", "STARTTLS"] if tls == "starttls" else [])
    assert peer.verbs[-1] == "QUIT"
    assert peer.verbs.count("EHLO") == (2 if tls == "starttls" else 1), "what is said in clear is forgotten"
    assert peer.names == ["peer.test"]


@pytest.mark.parametrize("tls", WAYS)
@pytest.mark.parametrize(
    ("server", "why"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"name": "other.test"}, "Hostname mismatch, certificate is not valid for 'peer.test'"),
        ({"stranger": True}, "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_proves_nothing(
    on: str, tls: str, server: dict[str, Any], why: str, certificates: Certificates
) -> None:
    with TlsPeer(certificates.server(**server), implicit=tls == "implicit") as peer:
        outcome = told(on, peer, tls=tls, tls_ca=certificates.trust, login=True)
    assert outcome.detail == f"server certificate of peer.test[127.0.0.1] not verified: {why}"
    assert outcome.dsn == "4.7.5"


def test_by_default_the_system_decides_whom_to_trust(on: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server()) as peer:
        assert "not verified" in told(on, peer).detail


@pytest.mark.parametrize("tls", WAYS)
def test_unverified_where_that_is_wanted(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server("other.test", stranger=True), implicit=tls == "implicit") as peer:
        run(on, relay_one(upstream(peer.port, tls=tls, tls_verify=False)))
    assert peer.in_clear() == (["EHLO", "STARTTLS"] if tls == "starttls" else [])


@pytest.mark.parametrize("tls", WAYS)
def test_a_server_of_long_ago(on: str, tls: str, certificates: Certificates) -> None:
    context = certificates.server()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with TlsPeer(context, implicit=tls == "implicit") as peer:
        outcome = told(on, peer, tls=tls, tls_ca=certificates.trust)
    assert outcome.detail.startswith("cannot start TLS with peer.test[127.0.0.1]: ")
    assert "protocol" in outcome.detail


def test_starttls_taken_out_on_the_way(on: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), offer_starttls=False) as peer:
        outcome = told(on, peer, tls_ca=certificates.trust, login=True)
    assert outcome.detail == "TLS is required, but was not offered by host peer.test[127.0.0.1]"
    assert outcome.dsn == "4.7.4"
    assert peer.verbs == ["EHLO", "QUIT"]


def test_starttls_refused(on: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), says={"STARTTLS": "454 4.7.0 TLS not available"}) as peer:
        outcome = told(on, peer, tls_ca=certificates.trust, login=True)
    said = "TLS is required, but host peer.test[127.0.0.1] refused to start TLS: 454 4.7.0 TLS not available"
    assert (outcome.detail, outcome.dsn) == (said, "4.7.4")


@pytest.mark.parametrize("injected", ["250-peer.test\r\n250 AUTH PLAIN", "x", "220-go on"])
@pytest.mark.parametrize("silent", [False, True])
def test_clear_text_behind_the_go_ahead_ends_it_at_once(
    on: str, injected: str, silent: bool, certificates: Certificates
) -> None:
    says: dict[str, str | None] = {"STARTTLS": f"220-go\r\n220 on\r\n{injected}"}
    with TlsPeer(certificates.server(), auth=(), silent=silent, says=says) as peer:
        started = time.monotonic()
        outcome = told(on, peer, tls_ca=certificates.trust, login=True)
        assert time.monotonic() - started < 2, "not after connect_timeout"
    said = "peer.test[127.0.0.1] sent clear text behind its reply to STARTTLS"
    assert (outcome.detail, outcome.dsn) == (said, "4.7.5")


@pytest.mark.parametrize("tls", WAYS)
def test_nonsense_where_tls_is_due(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), implicit=tls == "implicit", garbage=b"220 hello\r\n" * 9) as peer:
        outcome = told(on, peer, tls=tls, tls_ca=certificates.trust)
    assert outcome.detail == "cannot start TLS with peer.test[127.0.0.1]: wrong version number"


@pytest.mark.parametrize("tls", WAYS)
def test_silence_where_tls_is_due(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), implicit=tls == "implicit", silent=True) as peer:
        started = time.monotonic()
        outcome = told(on, peer, tls=tls, tls_ca=certificates.trust, connect_timeout=0.3)
        assert time.monotonic() - started < 2
    said = "conversation with peer.test[127.0.0.1] timed out while performing the TLS handshake"
    assert (outcome.detail, outcome.dsn) == (said, "4.4.2")


def test_a_close_where_tls_is_due(on: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.server(), says={"STARTTLS": None}) as peer:
        outcome = told(on, peer, tls_ca=certificates.trust)
    assert outcome.detail == "lost connection with peer.test[127.0.0.1] while performing the TLS handshake"


@pytest.mark.parametrize("tls", WAYS)
def test_our_certificate(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.asking_for_ours(), implicit=tls == "implicit") as peer:
        ours = str(certificates.client)
        run(on, relay_one(upstream(peer.port, tls=tls, tls_ca=certificates.trust, tls_cert=ours, tls_key=ours)))
    assert "relay@client.test" in str(peer.certificates)


@pytest.mark.parametrize("tls", WAYS)
def test_our_certificate_is_wanted_and_there_is_none(on: str, tls: str, certificates: Certificates) -> None:
    with TlsPeer(certificates.asking_for_ours(), implicit=tls == "implicit") as peer:
        outcome = told(on, peer, tls=tls, tls_ca=certificates.trust)
    assert "peer.test[127.0.0.1]" in outcome.detail


def test_a_renewed_certificate_counts_from_the_next_connection_on(
    on: str, certificates: Certificates, tmp_path: Path
) -> None:
    good = Path(certificates.trust).read_bytes()
    trust = tmp_path / "ca.pem"
    trust.write_bytes(trustme.CA().cert_pem.bytes())
    with TlsPeer(certificates.server()) as peer:
        door = upstream(peer.port, tls_ca=str(trust))

        async def story() -> None:
            assert "not verified" in (await refused(door)).detail
            trust.unlink()
            assert "can't be used: No such file" in (await refused(door)).detail
            trust.write_bytes(good)
            await relay_one(door)

        run(on, story())


class TestOpportunistic:
    def test_unverified_where_it_works(self, on: str, certificates: Certificates) -> None:
        with TlsPeer(certificates.server("other.test", expired=True, stranger=True)) as peer:
            run(on, relay_one(upstream(peer.port, tls="opportunistic")))
        assert peer.in_clear() == ["EHLO", "STARTTLS"]

    def test_in_clear_where_it_is_not_offered(self, on: str) -> None:
        with TlsPeer() as peer:
            run(on, relay_one(upstream(peer.port, tls="opportunistic")))
        assert peer.in_clear() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]

    def test_in_clear_where_it_is_refused(self, on: str, certificates: Certificates) -> None:
        with TlsPeer(certificates.server(), says={"STARTTLS": "454 not now"}) as peer:
            run(on, relay_one(upstream(peer.port, tls="opportunistic")))
        assert peer.in_clear() == ["EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "QUIT"]

    def test_in_clear_on_another_connection_where_it_breaks(self, on: str, certificates: Certificates) -> None:
        with TlsPeer(certificates.server(), garbage=b"nonsense\r\n") as peer:
            run(on, relay_one(upstream(peer.port, tls="opportunistic")))
        assert peer.in_clear() == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert len(peer.peers) == 2

    def test_no_such_server_is_tried_once(self, on: str) -> None:
        with TlsPeer(says={"GREETING": None}) as peer:
            outcome = told(on, peer, tls="opportunistic")
        assert "while receiving the initial server greeting" in outcome.detail
        assert len(peer.peers) == 1


def test_a_connect_that_is_given_up_leaves_nothing_open(on: str, certificates: Certificates) -> None:
    async def story(port: int) -> None:
        task = asyncio.ensure_future(refused(upstream(port, tls_ca=certificates.trust)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)

    hangs: list[dict[str, Any]] = [{"says": {"GREETING": ""}}, {"says": {"EHLO": ""}}, {"silent": True}]
    for hung in hangs:
        with TlsPeer(certificates.server(), **hung) as peer:
            run(on, story(peer.port))
