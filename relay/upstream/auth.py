"""Which SASL mechanism proves who we are, and how a server's answer to it is kept free of the password."""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Final, Literal

Mechanism = Literal["plain", "login", "cram-md5"]
Choice = Literal["auto", "plain", "login", "cram-md5"]

_OVER_TRUSTED_WIRE: Final[tuple[Mechanism, ...]] = ("plain", "login", "cram-md5")
_ELSEWHERE: Final[tuple[Mechanism, ...]] = ("cram-md5", "plain", "login")


def mechanisms(choice: Choice, offered: Collection[str], *, trusted: bool) -> tuple[Mechanism, ...]:
    """Those of ``offered`` (in lower case) to try, the best first; none where the choice is not offered.

    Where the wire is ``trusted`` (verified TLS, or this machine) PLAIN is best: one round trip (RFC 4954 §4), and it
    lets the server keep nothing but a hash. Elsewhere CRAM-MD5 is, which does not give the password away.
    """
    ranked = _OVER_TRUSTED_WIRE if trusted else _ELSEWHERE
    return tuple(each for each in ranked if each in offered and choice in {"auto", each})


def without_secret(text: str, username: str, password: str) -> str:
    """``text`` with the password, in clear or in the base64 that crossed the wire, blotted out."""
    plain = f"\0{username}\0{password}"
    secrets = [password, *(base64.b64encode(each.encode()).decode() for each in (plain, password))]
    for secret in secrets:
        if secret:
            text = text.replace(secret, "********")
    return text
