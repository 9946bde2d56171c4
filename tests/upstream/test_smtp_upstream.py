"""The handshake without TLS, and AUTH: each seam of the library on both event loops, and every way to fail."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from relay.outcome import Scope, Verdict
from relay.upstream import UpstreamUnavailable, smtp
from tests.upstream.doors import LOOPS, Certificates, Observer, refused, relay_one, run, upstream
from tests.upstream.tls_peer import PASSWORD, USER, TlsPeer

WHERE = "peer.test[127.0.0.1]"


@pytest.mark.parametrize("on", LOOPS)
def test_a_message_in_clear(on: str) -> None:
    with TlsPeer() as peer:
        end = run(on, relay_one(upstream(peer.port, tls="none")))
    assert end.relay == f"main[127.0.0.1]:{peer.port}"
    assert end.setup >= 0
    assert peer.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    outcome = await refused(upstream(port, tls="none"))
    assert outcome.detail == f"connect to {WHERE}:{port}: Connection refused"
    assert (outcome.verdict, outcome.scope, outcome.dsn) == (Verdict.DEFERRED, Scope.UPSTREAM, "4.4.1")


async def test_no_such_host() -> None:
    outcome = await refused(upstream(25, host="gone.test"))
    said = "Host or domain name not found. Name service error for name=gone.test type=AAAA: Host not found"
    assert (outcome.detail, outcome.dsn, outcome.scope) == (said, "4.4.4", Scope.UPSTREAM)
    assert outcome.verdict is Verdict.DEFERRED


@pytest.mark.parametrize("on", LOOPS)
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("step", "doing"),
    [("GREETING", "receiving the initial server greeting"), ("EHLO", "performing the EHLO handshake")],
)
def test_silence_and_loss_at_each_step(on: str, step: str, doing: str, implicit: bool, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    more: dict[str, Any] = {"tls": "implicit", "tls_ca": certificates.trust} if implicit else {"tls": "none"}
    context = certificates.server() if implicit else None
    with TlsPeer(context, implicit=implicit, says={step: ""}) as peer:
        started = time.monotonic()
        outcome = run(on, refused(upstream(peer.port, connect_timeout=0.3, **more)))
        assert time.monotonic() - started < 2
    assert (outcome.detail, outcome.dsn) == (f"conversation with {WHERE} timed out while {doing}", "4.4.2")
    with TlsPeer(context, implicit=implicit, says={step: None}) as peer:
        outcome = run(on, refused(upstream(peer.port, **more)))
    assert (outcome.detail, outcome.dsn) == (f"lost connection with {WHERE} while {doing}", "4.4.2")


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("reply", ["554 5.3.2 no mail here", "421 4.3.2 later"])
async def test_a_greeting_that_sends_us_away(reply: str, implicit: bool, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    more: dict[str, Any] = {"tls": "implicit", "tls_ca": certificates.trust} if implicit else {"tls": "none"}
    with TlsPeer(certificates.server(), implicit=implicit, says={"GREETING": reply}) as peer:
        outcome = await refused(upstream(peer.port, **more))
    assert outcome.detail == f"host {WHERE} said: {reply} (in reply to greeting command)"
    assert outcome.verdict is Verdict.DEFERRED


async def test_a_greeting_of_another_protocol() -> None:
    with TlsPeer(says={"GREETING": "SSH-2.0-OpenSSH_9.2p1"}) as peer:
        outcome = await refused(upstream(peer.port, tls="none"))
    assert outcome.detail == f"malformed reply from {WHERE} while receiving the initial server greeting"
    assert outcome.scope is Scope.UPSTREAM


async def test_a_server_that_knows_no_ehlo() -> None:
    with TlsPeer(says={"EHLO": "502 5.5.2 what?"}) as peer:
        await relay_one(upstream(peer.port, tls="none"))
    assert peer.verbs == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_a_server_that_knows_no_ehlo_has_no_tls() -> None:
    with TlsPeer(says={"EHLO": "502 5.5.2 what?"}) as peer:
        outcome = await refused(upstream(peer.port, tls="starttls"))
    assert outcome.detail == f"TLS is required, but was not offered by host {WHERE}"


async def test_ehlo_refused_for_now() -> None:
    with TlsPeer(says={"EHLO": "450 4.7.1 who are you?"}) as peer:
        outcome = await refused(upstream(peer.port, tls="none"))
    assert outcome.detail == f"host {WHERE} said: 450 4.7.1 who are you? (in reply to EHLO command)"
    assert outcome.scope is Scope.UPSTREAM
    assert peer.verbs == ["EHLO", "QUIT"]


async def test_slow_in_all_steps_is_too_slow_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "_HANDSHAKE_STEPS", 0.01)
    with TlsPeer(says={"GREETING": ""}) as peer:
        outcome = await refused(upstream(peer.port, tls="none"))
    assert outcome.detail == f"handshake with main[peer.test]:{peer.port} timed out"


# -- AUTH --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("on", LOOPS)
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize(
    ("auth", "offered", "used"),
    [
        ("auto", ("LOGIN", "PLAIN", "CRAM-MD5"), "PLAIN"),
        ("auto", ("CRAM-MD5", "LOGIN"), "LOGIN"),
        ("auto", ("CRAM-MD5", "XOAUTH2"), "CRAM-MD5"),
        ("plain", ("LOGIN", "PLAIN"), "PLAIN"),
        ("login", ("PLAIN", "LOGIN"), "LOGIN"),
        ("cram-md5", ("PLAIN", "CRAM-MD5"), "CRAM-MD5"),
    ],
)
def test_each_mechanism_over_each_channel(
    on: str, tls: str, auth: str, offered: tuple[str, ...], used: str, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    with TlsPeer(certificates.server(), implicit=tls == "implicit", auth=offered) as peer:
        trust = certificates.trust if tls != "none" else None
        run(on, relay_one(upstream(peer.port, tls=tls, tls_ca=trust, auth=auth, login=True)))
    (said,) = (line for _, line in peer.heard if line.startswith("AUTH"))
    assert said.split()[1] == used
    assert peer.verbs[-4:] == ["MAIL", "RCPT", "DATA", "QUIT"]
    assert ("AUTH" in peer.in_clear()) == (tls == "none")


@pytest.mark.parametrize("on", LOOPS)
@pytest.mark.parametrize("auth", ["plain", "login", "cram-md5"])
def test_a_wrong_password_is_tried_once_and_told_nobody(
    on: str, auth: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(tmp_path)
    blob = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    echo = f"535 5.7.8 no: {PASSWORD} {blob} {base64.b64encode(PASSWORD.encode()).decode()}"
    with TlsPeer(certificates.server(), says={"AUTH": echo}) as peer:
        door = upstream(peer.port, tls_ca=certificates.trust, auth=auth, login=True)

        async def story() -> UpstreamUnavailable:
            with pytest.raises(UpstreamUnavailable) as caught:
                await door.connect(Observer())
            await asyncio.sleep(0.02)
            return caught.value

        error = run(on, story())
    outcome = error.outcome
    said = f"{WHERE} said: 535 5.7.8 no: ******** ******** ********"
    assert outcome.detail == f"SASL authentication failed; server {said} (in reply to AUTH command)"
    assert (outcome.verdict, outcome.scope) == (Verdict.DEFERRED, Scope.UPSTREAM)
    assert outcome.reply is not None
    assert outcome.reply.code == 535
    assert peer.verbs.count("AUTH") == 1
    assert peer.verbs[-1] == "QUIT"
    shown = "".join(traceback.format_exception(error)) + repr(door) + repr(error) + repr(outcome) + caplog.text
    assert not {secret for secret in (PASSWORD, blob) if secret in shown}


async def test_what_a_server_does_not_know_after_all_is_followed_by_the_next() -> None:
    with TlsPeer(says={"AUTH": "504 5.5.4 unknown mechanism"}) as peer:
        outcome = await refused(upstream(peer.port, tls="none", login=True))
    assert [line.split()[1] for _, line in peer.heard if line.startswith("AUTH")] == ["PLAIN", "LOGIN", "CRAM-MD5"]
    assert "504 5.5.4 unknown mechanism (in reply to AUTH command)" in outcome.detail


@pytest.mark.parametrize(
    ("auth", "offered", "shown"),
    [("auto", (), "nothing"), ("auto", ("GSSAPI",), "GSSAPI"), ("plain", ("LOGIN",), "LOGIN")],
)
async def test_no_mechanism_in_common(auth: str, offered: tuple[str, ...], shown: str) -> None:
    with TlsPeer(auth=offered) as peer:
        outcome = await refused(upstream(peer.port, tls="none", auth=auth, login=True))
    why = f"cannot authenticate to server {WHERE}: no mechanism available (it offers {shown})"
    assert outcome.detail == f"SASL authentication failed; {why}"
    assert outcome.scope is Scope.UPSTREAM
    assert peer.verbs == ["EHLO", "QUIT"]


@pytest.mark.parametrize("on", LOOPS)
@pytest.mark.parametrize(("reply", "what"), [("", "conversation with {} timed out"), (None, "lost connection with {}")])
def test_silence_and_loss_at_auth(on: str, reply: str | None, what: str) -> None:
    with TlsPeer(says={"AUTH": reply}) as peer:
        outcome = run(on, refused(upstream(peer.port, tls="none", login=True, connect_timeout=0.5)))
    assert outcome.detail == f"{what.format(WHERE)} while performing the AUTH handshake"


async def test_a_challenge_that_is_none() -> None:
    with TlsPeer(auth=("CRAM-MD5",), says={"AUTH": "334 not base64!"}) as peer:
        outcome = await refused(upstream(peer.port, tls="none", login=True))
    assert outcome.detail.startswith("SASL authentication failed; ")
    assert outcome.scope is Scope.UPSTREAM
