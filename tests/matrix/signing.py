"""A DKIM key for the corpus's signed message, and whether its signature still holds when it arrives."""

from __future__ import annotations

import base64
from typing import Final

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_MADE: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY: Final = _MADE.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
SELECTOR: Final = b"matrix"


def record() -> str:
    """The text that publishes it."""
    public = _MADE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def _record(name: bytes, timeout: int = 5) -> bytes:
    return record().encode()


def holds(content: bytes) -> bool:
    """Whether the signature of ``content`` is good."""
    return bool(dkim.verify(content, dnsfunc=_record))
