"""DKIM-Signature fields, made from a header and a body hash (RFC 6376, RFC 8301, RFC 8463).

``l=`` is never used: what is appended would pass for signed (§8.2). The caller brings the key: something that signs a
SHA-256 digest, here or elsewhere. The same key and header at the same second give the same signature
(RSASSA-PKCS1-v1_5 and Ed25519).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol, TypeVar

from relay.dkim.fields import relaxed, signed_domains, split
from relay.value import dataclass

OVERSIGNED: Final = (b"from", b"reply-to", b"subject", b"to", b"cc")
"""Signed once more than they are there, also where they are absent: none can be added on top unseen (§8.15)."""

OVERSIGNED_WHERE_PRESENT: Final = (
    *(b"sender", b"date", b"message-id", b"mime-version", b"content-type", b"content-transfer-encoding"),
    *(b"in-reply-to", b"references"),
)
"""Fields of which a message has one at the most, and which servers on the way may add where they are missing."""

SIGNED_WHERE_PRESENT: Final = (
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id"),
    *(b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post"),
    *(b"list-owner", b"list-archive"),
)
"""§5.4.1, RFC 8058 §4. Who resends or distributes a message adds another one."""

_MAX_SIGNED: Final = 200
"""Names in h=: a message with more fields of these is no mail, and its signature would be larger than it."""

Canonicalization = Literal["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"]
"""Of header and body, as c= has it (§3.5)."""


class Unsignable(Exception):
    """A message that can't be signed; the text says why, in words without its contents."""


class Key(Protocol):
    """What signatures say of their key."""

    @property
    def selector(self) -> str:
        """``s=``."""
        ...

    @property
    def algorithm(self) -> Literal["rsa-sha256", "ed25519-sha256"]:
        """``a=``."""
        ...


K = TypeVar("K", bound=Key)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message's fields that will be signed: ``h`` names them, ``octets`` is their canonical form."""

    h: str
    octets: bytes
    simple: bool


def prepare(
    header: bytes,
    domain: str,
    canonicalization: Canonicalization,
    omitted: Collection[bytes] = (),
    *,
    alone: bool = False,
) -> Prepared | None:
    """Choose and canonicalise what a signature of ``domain`` covers; None where there is to be none.

    That is where the message bears one of this domain already, or any and ours must stand ``alone``. ``omitted`` are
    names in lower case that the next hop rewrites. Raises :class:`Unsignable`.
    """
    fields = split(header)
    bearing = tuple(signed_domains(fields))
    if domain in bearing or (alone and bearing):
        return None
    there: dict[bytes, list[bytes]] = {}
    for name, field in fields:
        there.setdefault(name, []).append(field)
    if len(there.get(b"from", ())) != 1:
        raise Unsignable("it has no From field, or several")
    simple = canonicalization.startswith("simple")
    names: list[str] = []
    octets: list[bytes] = []
    for name, text, extra in _WANTED:
        found = there.get(name, ())
        if not (found or extra == 2) or name in omitted:
            continue
        # §5.4.2: several of a name are signed from the bottom up.
        for field in reversed(found):
            if not field.startswith(b":", len(name)):
                # RFC 5322 §4.5 has it, but verifiers disagree about whether it is this field.
                raise Unsignable("it has blanks before a field's colon")
            octets.append(field if simple else relaxed(field))
        names += [text] * (len(found) + (extra > 0))
    if len(names) > _MAX_SIGNED:
        raise Unsignable("it has too many fields")
    octets.append(b"")
    return Prepared(":".join(names), b"\r\n".join(octets), simple)


_WANTED: Final = (
    *((name, name.decode(), 2) for name in OVERSIGNED),
    *((name, name.decode(), 1) for name in OVERSIGNED_WHERE_PRESENT),
    *((name, name.decode(), 0) for name in SIGNED_WHERE_PRESENT),
)


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A field that lacks only its signature, and the SHA-256 digest of which that is."""

    octets: bytes
    digest: bytes

    def signed(self, signature: bytes) -> bytes:
        """The whole field, CR LF ended, in lines of at most 78 octets where names allow it.

        ``signature`` is RSASSA-PKCS1-v1_5 (RFC 6376 §3.3.1) or PureEdDSA (RFC 8463 §3) of the digest.
        """
        text = base64.b64encode(signature)
        lines = [text[:70], *(text[start : start + 74] for start in range(70, len(text), 74))]
        return self.octets + b"\r\n\t ".join(lines) + b"\r\n"


def unsigned(
    prepared: Prepared, key: Key, *, domain: str, canonicalization: Canonicalization, body_hash: str, now: int
) -> Unsigned:
    """A signature's field for ``prepared`` and this key; ``now`` in Unix seconds."""
    value = (
        f"v=1; a={key.algorithm}; c={canonicalization};\r\n"
        f"\td={domain}; s={key.selector}; t={now};\r\n"
        f"\th={_folded_names(prepared.h)};\r\n"
        f"\tbh={body_hash};\r\n"
        "\tb="
    ).encode()
    octets = b"DKIM-Signature: " + value
    # Relaxed by the two folds that it has, at a third of the time.
    plain = b"dkim-signature:" + value.replace(b"\r\n\t ", b" ").replace(b"\r\n\t", b" ")
    canonical = octets if prepared.simple else plain
    return Unsigned(octets, hashlib.sha256(prepared.octets + canonical).digest())


def _folded_names(h: str) -> str:
    lines = [""]
    for name in h.split(":"):
        if len(lines[-1]) + len(name) > 70:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n\t ".join(lines).removesuffix(":")


def in_order(keys: Sequence[K]) -> tuple[K, ...]:
    """RSA first: who takes only some of our signatures, or reads only the first, can verify that one."""
    return tuple(sorted(keys, key=lambda key: key.algorithm != "rsa-sha256"))
