"""The token that opens the HTTP interface: random text in a file that only its owner can read, made once."""

from __future__ import annotations

import errno
import hashlib
import hmac
import re
import secrets
from typing import Final

from relay.privatefile import make_private, read_private

_MADE: Final = 32
"""Octets of randomness in a token that we make."""
_TOKEN: Final = re.compile(r"[!-~]{16,512}")
_MOST: Final = 4096


def read_token(path: str) -> str:
    """The token in ``path``. Raises OSError, also for a symbolic link, a file that others can read, or no token."""
    text = read_private(path, "the token of [http]", _MOST).decode("ascii", "replace").strip()
    if _TOKEN.fullmatch(text) is None:
        raise OSError(errno.EINVAL, "no token: 16 printable characters without spaces, at least", path)
    return text


def make_token(path: str) -> str:
    """The token in ``path``, made where there is no such file, with its folder (mode 0700). Raises as read_token."""
    make_private(path, f"{secrets.token_urlsafe(_MADE)}\n".encode("ascii"))
    return read_token(path)


def cookie_of(token: str) -> str:
    """What a browser keeps in place of the token: cookies go to every port of a host, and it opens nothing else."""
    return hmac.new(token.encode(), b"relay dashboard", hashlib.sha256).hexdigest()
