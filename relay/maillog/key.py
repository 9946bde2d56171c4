"""The key of the log's pseudonyms: 32 random octets in a file that only its owner can read, made once."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

SIZE: Final = 32
"""Octets of a key."""


def read_key(path: str) -> bytes:
    """The key in ``path``. Raises OSError, also for a file that others can read or that holds no key."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "others can read the key of the log's hashes (chmod 600)", path)
        text = file.read(4 * SIZE).strip()
    with suppress(ValueError):
        key = bytes.fromhex(text.decode("ascii", "replace"))
        if len(key) == SIZE:
            return key
    raise OSError(errno.EINVAL, f"no key of {SIZE} octets in hexadecimal", path)


def make_key(path: str) -> bytes:
    """The key in ``path``, made where there is none, with its folder (mode 0700). Raises OSError as read_key does."""
    folder = Path(path).parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    # Written whole before it has its name, so that nobody reads half a key; who is first wins.
    with suppress(FileExistsError):
        if not os.path.lexists(path):
            _write(Path(path))
    return read_key(path)


def _write(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{secrets.token_hex(SIZE)}\n".encode("ascii"))
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(draft)
    finally:
        draft.unlink()
