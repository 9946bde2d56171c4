"""One process per spool: an flock on ``<spool>.lock`` that ends with the process, however it ends.

The file is never unlinked: between unlink and flock two processes could each hold a lock on a file of that name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from relay.spool import SpoolError, SpoolLocked
from relay.spool.guarding import FLAGS, flaw, make_private


class SpoolLock:
    """The lock while it is held. The file holds the owner's pid, for people."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, spool: Path) -> Self:
        """Take the lock of ``spool`` at once or raise SpoolLocked; SpoolError where the file can't be opened."""
        path = lock_path(spool)
        try:
            descriptor = os.open(path, FLAGS | os.O_CREAT, 0o600)
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from error
        status = os.fstat(descriptor)
        found = flaw(path, status)
        if found is not None:
            os.close(descriptor)
            raise SpoolError(found)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise SpoolLocked(f"{spool} is in use by process {owner or 'unknown'}") from error
        make_private(descriptor, status)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let it go; harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_path(spool: Path) -> Path:
    """``<spool>.lock``, beside the spool."""
    return spool.with_name(spool.name + ".lock")
