"""What a client says to log in: AUTH's argument and the two mechanisms that are offered (RFC 4954, RFC 4616).

PLAIN is the standard; LOGIN is what older libraries speak (draft-murchison-sasl-login). Functions never raise; a
refusal is a Reply. Nothing here shows what it read.
"""

from __future__ import annotations

import binascii
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from relay.outcome import Reply

MAX_RESPONSE: Final = 12288
"""Octets of a client's response in base64, initial or not (RFC 4954 §4)."""
MAX_LINE: Final = MAX_RESPONSE + 2
"""Octets of an answer to a challenge with its line end."""
MAX_COMMAND: Final = len("AUTH ") + 20 + len(" ") + MAX_LINE
"""Octets of an AUTH command with its line end; a mechanism's name has 20 at the most (RFC 4422 §3.1)."""

MECHANISMS: Final = ("PLAIN", "LOGIN")
CHALLENGES: Final = ("VXNlcm5hbWU6", "UGFzc3dvcmQ6")
"""LOGIN's: "Username:" and "Password:"; some clients look for these very words."""

_NOT_BASE64: Final = Reply(501, "Error: cannot decode base64", "5.5.2")
_CANCELLED: Final = Reply(501, "Error: authentication cancelled", "5.7.0")
_MALFORMED: Final = Reply(501, "Error: malformed authentication response", "5.5.2")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who somebody says to be, and the password that shall prove it."""

    user: str
    password: str = field(repr=False)


def decode(response: str) -> bytes | Reply:
    """A line that answers a challenge: base64, or ``*`` to give up (RFC 4954 §4)."""
    if response == "*":
        return _CANCELLED
    try:
        return binascii.a2b_base64(response.encode("ascii"), strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are such
        return _NOT_BASE64


def decode_initial(response: str) -> bytes | Reply:
    """An initial response: as :func:`decode`, where ``=`` stands for an empty one (RFC 4954 §4)."""
    return b"" if response == "=" else decode(response)


def plain(message: bytes) -> Credentials | Reply:
    """PLAIN's message, ``[authzid] NUL authcid NUL passwd`` in UTF-8 (RFC 4616 §2).

    Acting for somebody else isn't offered: another ``authzid`` makes credentials that prove nothing.
    """
    parts = message.split(b"\0")
    if len(parts) != 3:
        return _MALFORMED
    acting, user, password = (text(part) for part in parts)
    if acting is None or user is None or password is None:
        return _MALFORMED
    return Credentials(user, password if acting in {"", user} else "")


def login(user: bytes, password: bytes) -> Credentials | Reply:
    """LOGIN's two answers."""
    name, word = text(user), text(password)
    return _MALFORMED if name is None or word is None else Credentials(name, word)


def text(octets: bytes) -> str | None:
    """UTF-8 in the one normal form in which names and passwords are compared (RFC 8265 §4.2); None where it is none."""
    try:
        return unicodedata.normalize("NFC", octets.decode())
    except UnicodeDecodeError:
        return None
