"""The token that opens the HTTP interface: random text in a file that only its owner can read, made once."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_MADE: Final = 32
"""Octets of randomness in a token that we make."""
_TOKEN: Final = re.compile(r"[!-~]{16,512}")
_MOST: Final = 4096


def read_token(path: str) -> str:
    """The token in ``path``. Raises OSError, also for a symbolic link, a file that others can read, or no token."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "others can read the token of [http] (chmod 600)", path)
        text = file.read(_MOST).decode("ascii", "replace").strip()
    if _TOKEN.fullmatch(text) is None:
        raise OSError(errno.EINVAL, "no token: 16 printable characters without spaces, at least", path)
    return text


def make_token(path: str) -> str:
    """The token in ``path``, made where there is no such file, with its folder (mode 0700). Raises as read_token."""
    folder = Path(path).parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    # Written whole before it has its name, so that nobody reads half a token; who is first wins.
    with suppress(FileExistsError):
        if not os.path.lexists(path):
            _write(Path(path))
    return read_token(path)


def cookie_of(token: str) -> str:
    """What a browser keeps in place of the token: cookies go to every port of a host, and it opens nothing else."""
    return hmac.new(token.encode(), b"relay dashboard", hashlib.sha256).hexdigest()


def _write(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{secrets.token_urlsafe(_MADE)}\n".encode("ascii"))
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(draft)
    finally:
        draft.unlink()
