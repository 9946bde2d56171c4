"""Who is let in: our own Host, no foreign page, a token; pure, before anything of a request is obeyed.

A page that somebody's browser shows can send requests to this machine. It can't choose Host (a name of its own that it
points here, DNS rebinding, is seen by it), nor leave out Origin and Sec-Fetch-Site, nor send ``Authorization``; the
cookie is SameSite=Strict, and by it alone nothing can be changed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from relay.http.token import cookie_of

COOKIE: Final = "relay_dashboard"
_OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths for everybody: what they tell is yes or no."""
_FEEDBACK: Final = "/feedback/"
"""Below it requests prove themselves by a signature; they come to whatever name the provider was given."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request is judged; ``fields`` are its header's, names in lower case; ``local`` is the address that the
    connection came to.
    """

    method: str
    path: str
    query: str
    fields: tuple[tuple[str, str], ...]
    local: str

    def values(self, name: str) -> list[str]:
        """The values of a header field, as often as it stands there."""
        return [value for key, value in self.fields if key == name]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``status`` 0: let in; 303: to "/" with ``cookie`` set; else refused with it, for ``why``."""

    status: int
    why: str = ""
    cookie: str = ""


_IN: Final = Verdict(0)


class Gate:
    """``token`` None: nobody needs one. ``names`` are the host names that are ours beside the machine's own."""

    def __init__(self, token: str | None, names: Iterable[str]) -> None:
        self._token = None if token is None else token.encode()
        self._cookie = None if token is None else cookie_of(token)
        self._names = frozenset({"localhost", *(name.strip("[]").lower() for name in names)})

    def judge(self, asked: Asked) -> Verdict:
        """Whether a request is let in; never raises."""
        return self._foreign(asked) or (_IN if self._is_open(asked.path) else self._known(asked))

    def _is_open(self, path: str) -> bool:
        return self._token is None or path in _OPEN or path.startswith(_FEEDBACK)

    def _foreign(self, asked: Asked) -> Verdict | None:
        hosts = asked.values("host")
        host = hosts[0] if hosts else ""  # HTTP/1.0 may come without, a browser never does
        if host and not asked.path.startswith(_FEEDBACK) and not self._is_ours(host, asked.local):
            return Verdict(403, "this is not a name of this relay")
        if "cross-site" in asked.values("sec-fetch-site"):
            return Verdict(403, "asked by another site's page")
        if any(not _same_origin(origin, host) for origin in asked.values("origin")):
            return Verdict(403, "asked by another site's page")
        return None

    def _is_ours(self, host: str, local: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower().removesuffix(".")
        if name in self._names:
            return True
        try:
            given, here = ip_address(name), ip_address(local.partition("%")[0])
        except ValueError:
            return False
        return given == here or (given.is_loopback and here.is_loopback)

    def _known(self, asked: Asked) -> Verdict:
        given = asked.values("authorization")
        if given:
            scheme, _, token = given[0].partition(" ")
            good = len(given) == 1 and scheme.lower() == "bearer" and self._is_token(token.strip())
            return _IN if good else Verdict(401, "not the token")
        if asked.path == "/" and asked.method in _SAFE and (offered := parse_qs(asked.query).get("token")):
            good = len(offered) == 1 and self._is_token(offered[0])
            return Verdict(303, cookie=self._cookie or "") if good else Verdict(401, "not the token")
        if not self._has_cookie(asked):
            return Verdict(401, "a token is needed (relay dashboard prints the address with it)")
        if asked.method not in _SAFE:
            return Verdict(403, "a cookie changes nothing; send the token")
        return _IN

    def _is_token(self, text: str) -> bool:
        return self._token is not None and hmac.compare_digest(text.encode("utf-8", "replace"), self._token)

    def _has_cookie(self, asked: Asked) -> bool:
        assert self._cookie is not None
        for field in asked.values("cookie"):
            try:
                morsel = SimpleCookie(field).get(COOKIE)
            except CookieError:
                continue
            given = b"" if morsel is None else morsel.value.encode("utf-8", "replace")
            if hmac.compare_digest(given, self._cookie.encode()):
                return True
        return False


def _same_origin(origin: str, host: str) -> bool:
    """Whether ``origin`` is of a page that came from us, by whichever scheme a proxy before us speaks."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(host) and parts.netloc.lower() == host.lower()
