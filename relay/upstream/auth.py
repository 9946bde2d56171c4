"""Which SASL mechanism proves who we are, what it says, and how a server's answer is kept free of the secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from typing import Final, Literal

Bearer = Literal["xoauth2", "oauthbearer"]
Mechanism = Literal["plain", "login", "cram-md5"] | Bearer
Choice = Literal["auto"] | Mechanism

_OVER_TRUSTED_WIRE: Final[tuple[Mechanism, ...]] = ("plain", "login", "cram-md5")
_ELSEWHERE: Final[tuple[Mechanism, ...]] = ("cram-md5", "plain", "login")
_OF_TOKENS: Final[tuple[Bearer, ...]] = ("xoauth2", "oauthbearer")
_COMPLAINT_MOST: Final = 200
DISMISSAL: Final[dict[Bearer, bytes]] = {"xoauth2": b"", "oauthbearer": base64.b64encode(b"\1")}
"""What the error in a 334 is answered with, so that the refusal itself follows (RFC 7628 §3.2.3)."""


def mechanisms(choice: Choice, offered: Collection[str], *, trusted: bool) -> tuple[Mechanism, ...]:
    """Those of ``offered`` (in lower case) to try, the best first; none where the choice is not offered.

    Where the wire is ``trusted`` (verified TLS, or this machine) PLAIN is best: one round trip (RFC 4954 §4), and it
    lets the server keep nothing but a hash. Elsewhere CRAM-MD5 is, which does not give the password away.
    """
    ranked = _OVER_TRUSTED_WIRE if trusted else _ELSEWHERE
    return tuple(each for each in ranked if each in offered and choice in {"auto", each})


def token_mechanisms(choice: Choice, offered: Collection[str]) -> tuple[Bearer, ...]:
    """As :func:`mechanisms`, for an access token; Google's and Microsoft's XOAUTH2 is the one that both know best."""
    return tuple(each for each in _OF_TOKENS if each in offered and choice in {"auto", each})


def token_response(mechanism: Bearer, username: str, token: str, host: str, port: int) -> bytes:
    """The initial response in base64: RFC 7628 §3.1, or Google's XOAUTH2, which came before it."""
    if mechanism == "xoauth2":
        said = f"user={username}\1auth=Bearer {token}\1\1"
    else:
        name = username.replace("=", "=3D").replace(",", "=2C")  # a saslname (RFC 5801 §4)
        said = f"n,a={name},\1host={host}\1port={port}\1auth=Bearer {token}\1\1"
    return base64.b64encode(said.encode())


def complaint_of(challenge: str) -> str:
    """What a 334 in place of success tells (RFC 7628 §3.2.2): its status and the scope that was wanted."""
    try:
        said = json.loads(base64.b64decode(challenge))
    except (ValueError, RecursionError):
        return ""
    known = said if isinstance(said, dict) else {}
    words = ", ".join(f"{key} {known[key]}" for key in ("status", "scope") if known.get(key))
    return "".join(c if c.isprintable() else "?" for c in words[:_COMPLAINT_MOST])


def without_secret(text: str, username: str, password: str) -> str:
    """``text`` with the password, in clear or in the base64 that crossed the wire, blotted out."""
    plain = f"\0{username}\0{password}"
    secrets = [password, *(base64.b64encode(each.encode()).decode() for each in (plain, password))]
    for secret in secrets:
        if secret:
            text = text.replace(secret, "********")
    return text
