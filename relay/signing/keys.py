"""Private keys: read and tried before they are used, made, and told apart; OpenSSL signs (through ``cryptography``).

A key's file belongs to its owner alone. RSA keys have 1024 to 4096 bits (RFC 8301 §3.2: below, nobody verifies; above,
nobody need), Ed25519 ones are as RFC 8463 has them. Nothing of a key is in a message of these errors.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from relay.dkim.records import record

RSA_LEAST: Final = 1024
RSA_ADVISED: Final = 2048
RSA_MOST: Final = 4096
ED25519_SIGNATURE: Final = 64
"""Octets (RFC 8032 §5.1.6)."""
_FILE_MAX: Final = 64 * 1024
_PREHASHED: Final = utils.Prehashed(SHA256())
_PADDING: Final = padding.PKCS1v15()
_TRIAL: Final = hashlib.sha256(b"trial").digest()


class KeyUnusable(ValueError):
    """A key can't be used; ``found`` and ``allowed`` say why in words."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"found {found}; allowed: {allowed}")
        self.found = found
        self.allowed = allowed


class PrivateKey:
    """A key that signs; a :class:`relay.dkim.signatures.Key`. Safe in several threads at the same time."""

    def __init__(self, selector: str, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> None:
        self.selector = selector
        self.algorithm: Literal["rsa-sha256", "ed25519-sha256"] = (
            "rsa-sha256" if isinstance(key, rsa.RSAPrivateKey) else "ed25519-sha256"
        )
        """``a=`` of its signatures."""
        self.octets = -(-key.key_size // 8) if isinstance(key, rsa.RSAPrivateKey) else ED25519_SIGNATURE
        """Of a signature of it."""
        self._key = key

    def __repr__(self) -> str:
        return f"<PrivateKey {self.selector} {self.algorithm}>"

    @property
    def bits(self) -> int:
        """The size of an RSA key; 256 for Ed25519."""
        return self._key.key_size if isinstance(self._key, rsa.RSAPrivateKey) else 256

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest. With RSA-2048 it takes some 0.25 ms."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, _PADDING, _PREHASHED)
        return self._key.sign(digest)

    def record(self) -> str:
        """The text of the TXT record that publishes it."""
        public = self._key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            return record("rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        return record("ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def pem(self) -> bytes:
        """PKCS#8 in PEM, without a passphrase."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def tried(self) -> PrivateKey:
        """Itself, after a signature of it was verified; raises :class:`KeyUnusable`."""
        public, signature = self._key.public_key(), self.sign(_TRIAL)
        try:
            if isinstance(public, rsa.RSAPublicKey):
                public.verify(signature, _TRIAL, _PADDING, _PREHASHED)
            else:
                public.verify(signature, _TRIAL)
        except InvalidSignature:
            raise KeyUnusable("a key whose signature does not hold", "a sound key") from None
        return self


def load_key(path: str, selector: str, *, private: bool = True) -> PrivateKey:
    """Read a key from PEM and try it; ``private``: nobody but its owner may read the file.

    Raises :class:`KeyUnusable`.
    """
    allowed = "an RSA or Ed25519 key in PEM, without a passphrase"
    octets = _read(path, private=private)
    try:
        key = load_pem_private_key(octets, None)
    except TypeError:
        raise KeyUnusable("a key with a passphrase", allowed) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable("a file without such a key", allowed) from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return PrivateKey(selector, key).tried()
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyUnusable("a key of another kind", allowed)
    if not RSA_LEAST <= key.key_size <= RSA_MOST:
        raise KeyUnusable(f"an RSA key of {key.key_size} bits", f"{RSA_LEAST} to {RSA_MOST} bits, best {RSA_ADVISED}")
    return PrivateKey(selector, key).tried()


def known_key(pem: bytes) -> PrivateKey:
    """A key from :meth:`PrivateKey.pem`, which was tried already: it is not checked again."""
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
    return PrivateKey("", key)


def make_key(selector: str, kind: Literal["rsa", "ed25519"], bits: int = RSA_ADVISED) -> PrivateKey:
    """A new key; ``bits`` are RSA's. Some tenths of a second for RSA."""
    if kind == "ed25519":
        return PrivateKey(selector, ed25519.Ed25519PrivateKey.generate())
    return PrivateKey(selector, rsa.generate_private_key(public_exponent=65537, key_size=bits))


def _read(path: str, *, private: bool) -> bytes:
    allowed = "a file that only its owner can read (chmod 600)"
    try:
        # Without waiting: a FIFO would keep the relay from starting.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise KeyUnusable("no regular file", allowed)
            if private and status.st_mode & 0o077:
                raise KeyUnusable(f"a key with mode {stat.S_IMODE(status.st_mode):04o}", allowed)
            return file.read(_FILE_MAX)
    except OSError as error:
        raise KeyUnusable((error.strerror or "an unreadable file").lower(), allowed) from None


def write_key(path: Path, key: PrivateKey) -> None:
    """Write a key into a new file that only its owner can read; raises OSError, also where the file exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - the descriptor has the mode from the first moment on
        file.write(key.pem())
        file.flush()
        os.fsync(file.fileno())
