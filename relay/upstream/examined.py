"""What a server shows of itself in a handshake: its greeting, its TLS, how it let us log in, what it can do."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_NAMES_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate that was verified; ``expires`` in Unix seconds."""

    subject: str
    issuer: str
    expires: float


@dataclass(frozen=True, slots=True)
class Examined:
    """A handshake that came to its end. ``tls`` is "" without TLS; ``certificate`` None where none was verified;
    ``mechanism`` "" without AUTH; ``extensions`` are EHLO's lines.
    """

    relay: str
    greeting: str = ""
    tls: str = ""
    certificate: Certificate | None = None
    mechanism: str = ""
    extensions: tuple[str, ...] = ()


def tls_of(connection: ssl.SSLObject | None) -> str:
    """``TLSv1.3 with cipher TLS_AES_256_GCM_SHA384``; "" where there is no TLS."""
    if connection is None:
        return ""
    cipher = connection.cipher()
    return f"{connection.version()} with cipher {cipher[0] if cipher is not None else 'unknown'}"


def certificate_of(connection: ssl.SSLObject | None) -> Certificate | None:
    """The other side's, where it was verified: OpenSSL hands out no other one in words."""
    shown: Mapping[str, Any] = (connection.getpeercert() if connection is not None else None) or {}
    if not shown:
        return None
    # What counts are the alternative names (RFC 9525 §6.3); a large provider's has dozens.
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    subject = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    return Certificate(
        subject or _name(shown.get("subject", ())),
        _name(shown.get("issuer", ())),
        ssl.cert_time_to_seconds(shown["notAfter"]),
    )


def _name(parts: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """The common name, else what stands last: the organisation's unit, or it."""
    pairs = [pair for part in parts for pair in part]
    return next((value for key, value in pairs if key == "commonName"), pairs[-1][1] if pairs else "")
