"""Hashes of users' passwords: scrypt (RFC 7914) as PHC strings, Argon2 (RFC 9106) where argon2-cffi is installed.

``$scrypt$ln=15,r=8,p=3$SALT$HASH``, base64 without padding. Verifying takes some tenths of a second and tens of
megabytes on purpose: it belongs into a thread, never on the event loop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from relay.smtp.sasl import text

SALT_SIZE: Final = 16
"""Octets."""
_HASH_SIZE: Final = 32
_LN: Final = 15
_R: Final = 8
_P: Final = 3
"""32 MB and three passes: one of the equivalent settings of OWASP's password storage cheat sheet."""
_MAX_MEMORY: Final = 256 * 2**20
"""Octets that a hash from elsewhere may ask for."""
_MAX_PASSES: Final = 64

_B64: Final = r"[A-Za-z0-9+/]"
_SCRYPT: Final = re.compile(
    rf"\$scrypt\$ln=(\d{{1,2}}),r=(\d{{1,2}}),p=(\d{{1,2}})\$({_B64}{{11,88}})\$({_B64}{{22,172}})"
)
_ARGON2: Final = re.compile(
    rf"\$argon2(?:id|i|d)\$v=19\$m=(\d{{1,7}}),t=(\d{{1,2}}),p=(\d{{1,2}})\$({_B64}{{11,88}})\$({_B64}{{16,172}})"
)


@dataclass(frozen=True, slots=True)
class _Scrypt:
    """A scrypt hash read: its cost, salt and what came out."""

    ln: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def of(self, password: bytes) -> bytes:
        """The digest of another password at the same cost."""
        memory = 128 * self.r * (2**self.ln + self.p + 2)
        return hashlib.scrypt(
            password, salt=self.salt, n=2**self.ln, r=self.r, p=self.p, maxmem=memory, dklen=len(self.digest)
        )


def hash_password(password: str, salt: bytes) -> str:
    """The PHC string to keep for ``password``; ``salt`` are SALT_SIZE random octets."""
    digest = _Scrypt(_LN, _R, _P, salt, bytes(_HASH_SIZE)).of(_octets(password))
    return f"$scrypt$ln={_LN},r={_R},p={_P}${_unpadded(salt)}${_unpadded(digest)}"


def flaw_of_hash(phc: str) -> str | None:
    """What is wrong with a hash, in words that don't show it; None where it can be verified against."""
    if (found := _ARGON2.fullmatch(phc)) is not None:
        if find_spec("argon2") is None:
            return "an Argon2 hash, but argon2-cffi is not installed"
        kibibytes, passes, lanes = int(found[1]), int(found[2]), int(found[3])
        # RFC 9106 §3.1: eight kibibytes a lane at the least.
        if 0 in {passes, lanes} or not 8 * lanes <= kibibytes <= _MAX_MEMORY // 1024 or passes > _MAX_PASSES:
            return "no hash of a password (not shown)"
        return None
    return None if _read(phc) is not None else "no hash of a password (not shown)"


def verify(password: str, phc: str) -> bool:
    """Whether ``phc``, without a flaw, is of ``password``. Slow; takes the same time whatever is wrong."""
    read = _read(phc)
    if read is not None:
        return hmac.compare_digest(read.of(_octets(password)), read.digest)
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return bool(PasswordHasher().verify(phc, _octets(password)))
    except (VerificationError, InvalidHashError):
        return False


def _read(phc: str) -> _Scrypt | None:
    found = _SCRYPT.fullmatch(phc)
    if found is None:
        return None
    ln, r, p = int(found[1]), int(found[2]), int(found[3])
    if 0 in {ln, r, p} or p > _MAX_PASSES or 128 * r * 2**ln > _MAX_MEMORY:
        return None
    try:
        return _Scrypt(ln, r, p, _padded(found[4]), _padded(found[5]))
    except ValueError:
        return None


def _octets(password: str) -> bytes:
    """What is hashed: UTF-8 in the normal form that a client's password is brought to (RFC 8265 §4.2)."""
    octets = password.encode()
    return (text(octets) or "").encode()


def _unpadded(octets: bytes) -> str:
    return base64.b64encode(octets).decode().rstrip("=")


def _padded(encoded: str) -> bytes:
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
