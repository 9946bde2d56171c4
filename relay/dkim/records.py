"""The TXT record that publishes a key: spelled for a zone file, and read back (RFC 6376 §3.6.1, RFC 8463 §4)."""

from __future__ import annotations

import base64
import re
from typing import Final, Literal

STRING_MAX: Final = 255
"""Octets of one character-string of a TXT record (RFC 1035 §3.3)."""
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_TAGS: Final = re.compile(r"v[ \t]*+=[ \t]*+DKIM1\b|\bp[ \t]*+=")


def record_name(selector: str, domain: str) -> str:
    """Where the record stands (§3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def record(kind: Literal["rsa", "ed25519"], public_key: bytes) -> str:
    """The record's text; ``public_key`` is DER (SubjectPublicKeyInfo) for RSA, the 32 octets for Ed25519."""
    return f"v=DKIM1; k={kind}; p={base64.b64encode(public_key).decode()}"


def zone_line(name: str, text: str) -> str:
    """A record as a zone file has it (RFC 1035 §5.1), its text in strings of at most 255 octets."""
    strings = [text[start : start + STRING_MAX] for start in range(0, len(text), STRING_MAX)]
    if len(strings) == 1:
        return f'{name}. IN TXT "{strings[0]}"'
    return "\n".join([f"{name}. IN TXT (", *(f'  "{string}"' for string in strings), ")"])


def text_of(given: str) -> str | None:
    """The text of a record from a zone file, from what ``dig`` prints, or bare; None where there is none."""
    strings = _STRING.findall(given)
    text = "".join(strings) if strings else given.strip()
    return text if _TAGS.search(text) is not None else None
