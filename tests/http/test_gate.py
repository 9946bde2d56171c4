from __future__ import annotations

import pytest

from relay.http.gate import COOKIE, Asked, Gate
from relay.http.token import cookie_of

TOKEN = "a-token-of-some-length"
BEARER = ("authorization", f"Bearer {TOKEN}")
COOKIE_FIELD = ("cookie", f"other=1; {COOKIE}={cookie_of(TOKEN)}")
HOST = ("host", "127.0.0.1:2580")


def judged(
    *fields: tuple[str, str], path: str = "/api/status", method: str = "GET", query: str = "", token: str | None = TOKEN
) -> int:
    gate = Gate(token, ("relay.example.com", "127.0.0.1"))
    return gate.judge(Asked(method, path, query, fields, "127.0.0.1")).status


def test_a_token_lets_in_and_nothing_else_does() -> None:
    assert judged(HOST, BEARER) == 0
    assert judged(HOST, ("authorization", f"bearer  {TOKEN}")) == 0
    assert judged(HOST) == 401
    for given in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer ünsinn"):
        assert judged(HOST, ("authorization", given)) == 401
    assert judged(HOST, BEARER, BEARER) == 401
    # The cookie's value is no token, nor the other way round.
    assert judged(HOST, ("authorization", f"Bearer {cookie_of(TOKEN)}")) == 401
    assert judged(HOST, ("cookie", f"{COOKIE}={TOKEN}")) == 401
    assert judged(HOST, COOKIE_FIELD) == 0
    assert judged(HOST, token=None) == 0


def test_the_token_in_an_address_opens_the_first_page_alone_and_becomes_a_cookie() -> None:
    gate = Gate(TOKEN, ())
    verdict = gate.judge(Asked("GET", "/", f"token={TOKEN}", (HOST,), "127.0.0.1"))
    assert (verdict.status, verdict.cookie) == (303, cookie_of(TOKEN))
    assert judged(HOST, path="/", query="token=wrong") == 401
    assert judged(HOST, path="/", query=f"token={TOKEN}&token={TOKEN}") == 401
    assert judged(HOST, path="/", query=f"token={TOKEN}", method="POST") == 401
    assert judged(HOST, path="/api/status", query=f"token={TOKEN}") == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/feedback/ses"])
def test_some_paths_need_no_token(path: str) -> None:
    assert judged(HOST, path=path) == 0


@pytest.mark.parametrize("path", ["/metrics", "/", "/healthz/", "/healthzz", "/feedback", "/nowhere"])
def test_all_others_do(path: str) -> None:
    assert judged(HOST, path=path) == 401


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:2580", "localhost:8080", "LOCALHOST.", "[::1]:2580", "relay.example.com", "127.0.0.2"],
)
def test_our_names_are_ours_at_any_port(host: str) -> None:
    assert judged(("host", host), BEARER) == 0


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil", "relay.example.com@evil", "a b", "[::2]"],
)
@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_host_that_is_not_ours_is_refused_whoever_asks(host: str, token: str | None) -> None:
    assert judged(("host", host), BEARER, token=token) == 403
    assert judged(("host", host), path="/healthz", token=token) == 403


def test_an_address_that_the_connection_came_to_is_ours() -> None:
    gate = Gate(None, ("0.0.0.0",))
    assert gate.judge(Asked("GET", "/", "", (("host", "192.0.2.7:2580"),), "192.0.2.7")).status == 0
    assert gate.judge(Asked("GET", "/", "", (("host", "192.0.2.8:2580"),), "192.0.2.7")).status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:3000", "http://[", "file://", "ftp://127.0.0.1:2580"]
)
@pytest.mark.parametrize("token", [TOKEN, None])
def test_another_sites_page_is_refused(origin: str, token: str | None) -> None:
    for method in ("GET", "POST"):
        assert judged(HOST, BEARER, ("origin", origin), method=method, token=token) == 403
    assert judged(HOST, BEARER, ("sec-fetch-site", "cross-site"), token=token) == 403


def test_our_own_page_is_not() -> None:
    for origin in ("http://127.0.0.1:2580", "https://127.0.0.1:2580"):
        assert judged(HOST, COOKIE_FIELD, ("origin", origin), ("sec-fetch-site", "same-origin")) == 0
        assert judged(HOST, BEARER, ("origin", origin), ("sec-fetch-site", "same-origin"), method="POST") == 0
    assert judged(HOST, COOKIE_FIELD, ("sec-fetch-site", "none")) == 0


def test_by_the_cookie_alone_nothing_is_changed() -> None:
    assert judged(HOST, COOKIE_FIELD, method="POST") == 403
    assert judged(HOST, COOKIE_FIELD, ("origin", "http://127.0.0.1:2580"), method="DELETE") == 403
    assert judged(HOST, BEARER, COOKIE_FIELD, method="POST") == 0


def test_nonsense_in_a_cookie_is_no_cookie() -> None:
    for cookie in ("", ";;;", f"{COOKIE}", f"{COOKIE}=", '"', f"{COOKIE}=\xff"):
        assert judged(HOST, ("cookie", cookie)) == 401
    assert judged(HOST, ("cookie", '"'), COOKIE_FIELD) == 0


def test_what_an_old_client_leaves_out_is_no_foreign_host() -> None:
    assert judged(BEARER) == 0
    assert judged(BEARER, ("origin", "http://127.0.0.1:2580")) == 403
