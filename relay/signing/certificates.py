"""Whether a signature is that of a certificate's key (OpenSSL through ``cryptography``)."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import load_pem_x509_certificate

_HASHES: Final = {"sha1": SHA1, "sha256": SHA256}


def is_signed_by(
    certificate: bytes, octets: bytes, signature: bytes, hash_name: Literal["sha1", "sha256"], at: datetime
) -> bool:
    """Whether ``signature`` (RSASSA-PKCS1-v1_5) of ``octets`` is by the RSA key of ``certificate`` (PEM), valid ``at``.

    Who issued it is not looked at: it is for whoever fetched it from where only its owner can put it.
    """
    try:
        read = load_pem_x509_certificate(certificate)
        key = read.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        if not read.not_valid_before_utc <= at <= read.not_valid_after_utc:
            return False
        key.verify(signature, octets, padding.PKCS1v15(), _HASHES[hash_name]())
    except (ValueError, InvalidSignature):
        return False
    return True
