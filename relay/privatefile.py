"""Files with a secret of the relay's own, which only their owner can read: made once, whole, by whoever is first."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path


def read_private(path: str, what: str, most: int) -> bytes:
    """The first ``most`` octets of ``path``. Raises OSError, also for a symbolic link, for what is no regular file and
    for one that others can read: then it names ``what``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, f"others can read {what} (chmod 600)", path)
        return file.read(most)


def make_private(path: str, octets: bytes) -> None:
    """Write ``octets`` to ``path``, with its folder (mode 0700), where there is no such file yet. Raises OSError.

    It is written whole before it has its name, so that nobody reads half of it; who is first wins.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    with suppress(FileExistsError):
        if not os.path.lexists(path):
            _write(Path(path), octets)


def _write(path: Path, octets: bytes) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(draft)
    finally:
        draft.unlink()
