"""Token requests and their answers (RFC 6749 §4.4, §5, §6). Pure; no secret is in an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from relay.outcome import Outcome, Trouble, unavailable
from relay.settings import OAuth2Settings, Secret
from relay.upstream.http.request import HttpResponse, printable

LIFE_UNTOLD: Final = 3600.0
"""Seconds that a token is taken to live where the server does not say (RFC 6749 §5.1: it should)."""
AHEAD_MOST: Final = 300.0
"""Seconds before its end that a token is renewed; a fifth of its life where that is less."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. The times are monotonic seconds; ``refresh`` is a new refresh token, if any."""

    access: Secret
    given_at: float
    renew_at: float
    ends_at: float
    refresh: Secret | None = None


class Refused(Exception):
    """No token; ``outcome`` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


def form(settings: OAuth2Settings, refresh: Secret | None) -> bytes:
    """The request's body: a refresh token's grant where there is one, else the client's own."""
    fields = {"client_id": settings.client_id}
    if settings.client_secret is not None:
        fields["client_secret"] = settings.client_secret.value
    if refresh is not None:
        fields |= {"grant_type": "refresh_token", "refresh_token": refresh.value}
    else:
        fields |= {"grant_type": "client_credentials"}
    if settings.scope:
        fields["scope"] = settings.scope
    return urlencode(fields).encode()


def token_of(response: HttpResponse, now: float, host: str) -> Token:
    """The token that was given; raises :class:`Refused`."""
    said = response.json()
    said = said if isinstance(said, dict) else {}
    if response.status != 200:
        # invalid_grant, invalid_client and the like (§5.2) are for a person; the description is the server's own text.
        words = printable(" ".join(str(said[key]) for key in ("error", "error_description") if said.get(key)))
        trouble = Trouble.AUTH if 400 <= response.status < 500 and response.status not in {408, 429} else None
        what = f"no OAuth2 token: host {host} said: HTTP {response.status} {words or printable(response.reason)}"
        raise Refused(unavailable(what, "4.7.0", trouble))
    access, kind = said.get("access_token"), said.get("token_type")
    if not _is_token(access) or (isinstance(kind, str) and kind.lower() != "bearer"):
        raise Refused(unavailable(f"no OAuth2 token: host {host} gave none of the Bearer type", "4.7.0", Trouble.AUTH))
    life, refresh = _seconds(said.get("expires_in")), said.get("refresh_token")
    ahead = min(AHEAD_MOST, life / 5)
    new = Secret(refresh) if isinstance(refresh, str) and refresh else None
    return Token(Secret(str(access)), now, now + life - ahead, now + life, new)


def _is_token(text: object) -> bool:
    """RFC 6750 §2.1: printable ASCII; a control character would end the SASL message early."""
    return isinstance(text, str) and bool(text) and text.isascii() and text.isprintable()


def _seconds(value: object) -> float:
    """``expires_in`` as a number or, as some servers have it, as digits in a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else LIFE_UNTOLD
