"""Access tokens: fetched, shared, renewed ahead of their end; shown by XOAUTH2 and OAUTHBEARER; never in an error."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from relay.outcome import Outcome, Scope, Trouble
from relay.settings import OAuth2Settings, Secret, UpstreamSettings
from relay.upstream import UpstreamUnavailable
from relay.upstream.auth import DISMISSAL, complaint_of, token_mechanisms, token_response
from relay.upstream.connecting import Connector
from relay.upstream.http.request import HttpResponse
from relay.upstream.names import Found, Names, RecordType
from relay.upstream.oauth.grant import Refused, token_of
from relay.upstream.oauth.tokens import TokenSource
from relay.upstream.smtp import SmtpUpstream
from relay.upstream.tls import context_of
from relay.upstream.watched import Watched
from tests.peers.api import CLIENT, CLIENT_SECRET, CLOSE, HANG, REFRESH, Answer, TokenPeer
from tests.upstream.doors import LOOPS, Observer, relay_one, run
from tests.upstream.tls_peer import TlsPeer, _Line

SECRETS = (CLIENT_SECRET, REFRESH, "token-1")


async def _nowhere(_name: str, _record: RecordType) -> Found:
    raise AssertionError


def _connector(now: Callable[[], float]) -> Connector:
    return Connector(Names(_nowhere, Watched((), dict), now), now, lambda: 0.5)


def source(port: int, now: Callable[[], float], **settings: Any) -> TokenSource:
    given: dict[str, Any] = {"client_id": CLIENT, "client_secret": Secret(CLIENT_SECRET)} | settings
    read = OAuth2Settings(token_url=f"http://127.0.0.1:{port}/oauth2/v2.0/token", **given)
    return TokenSource(read, _connector(now), lambda: context_of(UpstreamSettings("main")), now)


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


async def refusal_of(tokens: TokenSource) -> Outcome:
    with pytest.raises(UpstreamUnavailable) as caught:
        await tokens.token()
    await asyncio.sleep(0.02)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    return caught.value.outcome


async def test_one_token_for_all_until_shortly_before_its_end() -> None:
    clock = Clock()
    with TokenPeer() as peer:
        tokens = source(peer.port, clock, scope="https://outlook.office365.com/.default")
        assert {each.value for each in await asyncio.gather(*(tokens.token() for _ in range(5)))} == {"token-1"}
        clock.at += 3600 - 301
        assert (await tokens.token()).value == "token-1"
        clock.at += 2
        assert (await tokens.token()).value == "token-2"
    first, _ = peer.posts
    assert first.path == "/oauth2/v2.0/token"
    assert first.body == (
        b"client_id=client-1&client_secret=client%26geheim&grant_type=client_credentials"
        b"&scope=https%3A%2F%2Foutlook.office365.com%2F.default"
    )
    assert "token-2" not in repr(vars(tokens))


async def test_a_refresh_token_and_the_one_that_follows_it() -> None:
    clock = Clock()
    new = {"access_token": "token-9", "token_type": "bearer", "expires_in": "60", "refresh_token": "next"}
    with TokenPeer(acts=[Answer(200, new), Answer(200, new)]) as peer:
        tokens = source(peer.port, clock, client_secret=None, refresh_token=Secret(REFRESH))
        assert (await tokens.token()).value == "token-9"
        clock.at += 47
        await tokens.token()
    assert [each.body.decode().rpartition("=")[2] for each in peer.posts] == ["refresh%2Fgeheim"]
    assert b"grant_type=refresh_token" in peer.posts[0].body
    assert b"client_secret" not in peer.posts[0].body

    with TokenPeer(acts=[Answer(200, new)]) as peer:
        tokens = source(peer.port, clock, client_secret=None, refresh_token=Secret(REFRESH))
        await tokens.token()
        clock.at += 61
        await refusal_of(tokens)  # the peer knows no "next"
    assert peer.posts[1].body.endswith(b"refresh_token=next")


async def test_a_failure_ahead_of_the_end_costs_nothing() -> None:
    clock = Clock()
    with TokenPeer() as peer:
        tokens = source(peer.port, clock)
        await tokens.token()
        peer.acts = [Answer(503, None), CLOSE]
        clock.at += 3500
        assert (await tokens.token()).value == "token-1"
        clock.at += 101
        outcome = await refusal_of(tokens)
    assert outcome.detail == "no OAuth2 token: lost connection with 127.0.0.1[127.0.0.1]"
    assert (outcome.scope, outcome.trouble) == (Scope.UPSTREAM, None)


@pytest.mark.parametrize(
    ("answer", "said", "trouble"),
    [
        (
            Answer(400, {"error": "invalid_grant", "error_description": "AADSTS700082:\r\n expired"}),
            "HTTP 400 invalid_grant AADSTS700082: expired",
            Trouble.AUTH,
        ),
        (Answer(401, {"error": "invalid_client"}), "HTTP 401 invalid_client", Trouble.AUTH),
        (Answer(429, None), "HTTP 429 Too Many Requests", None),
        (Answer(500, None), "HTTP 500 Internal Server Error", None),
        (Answer(302, None, {"Location": "http://127.0.0.1:1/"}), "HTTP 302 Found", None),
    ],
)
async def test_a_refused_token(answer: Answer, said: str, trouble: Trouble | None) -> None:
    with TokenPeer(acts=[answer]) as peer:
        outcome = await refusal_of(source(peer.port, Clock()))
    assert outcome.detail == f"no OAuth2 token: host 127.0.0.1[127.0.0.1] said: {said}"
    assert (outcome.scope, outcome.trouble) == (Scope.UPSTREAM, trouble)


async def test_a_token_server_that_is_not_there() -> None:
    with TokenPeer() as peer:
        port = peer.port
    outcome = await refusal_of(source(port, Clock()))
    assert outcome.detail == f"no OAuth2 token: connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused"


async def test_a_silent_token_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.upstream.oauth.tokens.TIMEOUT", 0.2)
    with TokenPeer(acts=[HANG]) as peer:
        outcome = await refusal_of(source(peer.port, Clock()))
    assert outcome.detail.startswith("no OAuth2 token: conversation timed out with")


@pytest.mark.parametrize(
    "said",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"access_token": "a\\u0001b", "token_type": "Bearer"}',
        b'{"access_token": 7}',
        b'{"access_token": "a", "token_type": "mac"}',
    ],
)
def test_what_is_no_bearer_token(said: bytes) -> None:
    with pytest.raises(Refused, match="none of the Bearer type"):
        token_of(HttpResponse(200, "OK", {}, said), 0.0, "h")


@pytest.mark.parametrize(
    ("told", "renew", "end"), [(100, 80, 100), ("7200", 6900, 7200), (None, 3300, 3600), (0, 3300, 3600)]
)
def test_when_it_ends(told: object, renew: float, end: float) -> None:
    said = json.dumps({"access_token": "a", "expires_in": told}).encode()
    token = token_of(HttpResponse(200, "OK", {}, said), 0.0, "h")
    assert (token.renew_at, token.ends_at) == (renew, end)


# -- towards the SMTP server ----------------------------------------------------------------------------------------
def test_the_initial_responses() -> None:
    # https://developers.google.com/workspace/gmail/imap/xoauth2-protocol and RFC 7628 §4.1
    assert token_response(
        "xoauth2", "someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", "h", 1
    ) == (
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0"
        b"Q2cBAQ=="
    )
    said = base64.b64decode(token_response("oauthbearer", "a,=b@example.com", "vF9", "server.example.com", 587))
    assert said == b"n,a=a=2C=3Db@example.com,\1host=server.example.com\1port=587\1auth=Bearer vF9\1\1"
    assert base64.b64decode(DISMISSAL["oauthbearer"]) == b"\1"


def test_which_mechanism() -> None:
    assert token_mechanisms("auto", {"plain", "oauthbearer", "xoauth2"}) == ("xoauth2", "oauthbearer")
    assert token_mechanisms("oauthbearer", {"oauthbearer", "xoauth2"}) == ("oauthbearer",)
    assert token_mechanisms("xoauth2", {"plain", "login"}) == ()


@pytest.mark.parametrize("text", ["", "!!", "bm90IGpzb24=", base64.b64encode(b"[1]").decode()])
def test_a_challenge_that_tells_nothing(text: str) -> None:
    assert complaint_of(text) == ""


class BearerPeer(TlsPeer):
    """Takes ``good`` tokens; refuses others with a JSON challenge first."""

    good = "token-1"

    def _authenticate(self, line: _Line, command: str) -> str:
        mechanism, _, initial = command.partition(" ")[2].partition(" ")
        if f"auth=Bearer {self.good}\1" in base64.b64decode(initial).decode():
            return "235 2.7.0 Accepted"
        challenge = base64.b64encode(json.dumps({"status": "401", "schemes": "bearer", "scope": "mail"}).encode())
        line.sock.sendall(b"334 " + challenge + b"\r\n")
        assert line.read() == {"XOAUTH2": "", "OAUTHBEARER": "AQ=="}[mechanism]
        return f"535 5.7.8 no such {base64.b64decode(initial).decode().split('Bearer ')[1].strip(chr(1))}"


def smtp_upstream(port: int, tokens: TokenSource, **settings: Any) -> SmtpUpstream:
    read = UpstreamSettings("main", host="127.0.0.1", port=port, tls="none", username="a@x.test", **settings)
    return SmtpUpstream(read, "relay.test", _connector(lambda: 0.0), tokens)


@pytest.mark.parametrize("on", LOOPS)
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_mail_by_token(mechanism: str, on: str) -> None:
    async def go() -> str:
        return (await relay_one(smtp_upstream(peer.port, source(server.port, Clock())))).outcomes[0].detail

    with BearerPeer(auth=("PLAIN", mechanism)) as peer, TokenPeer() as server:
        run(on, go())
    assert peer.verbs == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
async def test_a_new_token_that_is_refused(mechanism: str) -> None:
    with BearerPeer(auth=(mechanism,)) as peer, TokenPeer() as server:
        peer.good = "token-2"
        door = smtp_upstream(peer.port, source(server.port, Clock()))
        with pytest.raises(UpstreamUnavailable) as caught:
            await door.connect(Observer())
        assert server.given == 1
        await relay_one(door)
    outcome = caught.value.outcome
    where = "127.0.0.1[127.0.0.1]"
    assert outcome.detail == (
        f"SASL authentication failed; server {where} said: 535 5.7.8 no such ******** [status 401, scope mail]"
        " (in reply to AUTH command)"
    )
    assert outcome.trouble is Trouble.AUTH


async def test_an_old_token_that_was_taken_back_is_replaced_at_once() -> None:
    clock = Clock()
    with BearerPeer(auth=("XOAUTH2",)) as peer, TokenPeer() as server:
        door = smtp_upstream(peer.port, source(server.port, clock))
        await relay_one(door)
        peer.good = "token-2"
        clock.at += 61
        await relay_one(door)
    assert peer.verbs.count("AUTH") == 3
    assert server.given == 2


async def test_a_server_without_bearer_mechanisms() -> None:
    with BearerPeer(auth=("PLAIN", "LOGIN")) as peer, TokenPeer() as server:
        with pytest.raises(UpstreamUnavailable, match=r"no mechanism available \(it offers .*PLAIN") as caught:
            await smtp_upstream(peer.port, source(server.port, Clock())).connect(Observer())
        await asyncio.sleep(0.02)
    assert caught.value.outcome.scope is Scope.UPSTREAM


async def test_without_a_token_the_server_is_not_troubled() -> None:
    with BearerPeer() as peer, TokenPeer(acts=[Answer(400, {"error": "invalid_client"})]) as server:
        with pytest.raises(UpstreamUnavailable, match="no OAuth2 token"):
            await smtp_upstream(peer.port, source(server.port, Clock())).connect(Observer())
        await asyncio.sleep(0.02)
    assert not peer.heard
