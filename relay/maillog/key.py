"""The key of the log's pseudonyms: 32 random octets in a file that only its owner can read, made once."""

from __future__ import annotations

import errno
import secrets
from contextlib import suppress
from typing import Final

from relay.privatefile import make_private, read_private

SIZE: Final = 32
"""Octets of a key."""


def read_key(path: str) -> bytes:
    """The key in ``path``. Raises OSError, also for a file that others can read or that holds no key."""
    text = read_private(path, "the key of the log's hashes", 4 * SIZE).strip()
    with suppress(ValueError):
        key = bytes.fromhex(text.decode("ascii", "replace"))
        if len(key) == SIZE:
            return key
    raise OSError(errno.EINVAL, f"no key of {SIZE} octets in hexadecimal", path)


def make_key(path: str) -> bytes:
    """The key in ``path``, made where there is none, with its folder (mode 0700). Raises OSError as read_key does."""
    make_private(path, f"{secrets.token_hex(SIZE)}\n".encode("ascii"))
    return read_key(path)
