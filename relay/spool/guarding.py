"""Whose files are opened: what others put in the place of ours is refused before an octet of it is changed.

A link leads elsewhere, a second name keeps what we write after we are gone, and another owner can read it whatever the
mode. Only the owner of the process and of the folder may own what lies there: commands of root work on a relay's spool.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_SIDES: Final = ("-wal", "-shm", "-journal")
FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def flaw(path: Path, status: os.stat_result) -> str | None:
    """Why the open file ``path`` with this status is not to be used; None where it is."""
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    if status.st_nlink > 1:
        return f"{path} has a second name"
    if status.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
        return f"{path} belongs to another user"
    return None


def make_private(descriptor: int, status: os.stat_result) -> None:
    """Mode 0600, also where somebody made the file before us with a wider one."""
    if stat.S_IMODE(status.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)


def flaw_of_sides(spool: Path) -> str | None:
    """The same for what SQLite will open beside ``spool``; to be asked before it does: closing a file drops its locks.

    They become private where they are ours. Raises OSError.
    """
    for side in _SIDES:
        path = spool.with_name(spool.name + side)
        try:
            descriptor = os.open(path, FLAGS)
        except FileNotFoundError:
            continue
        try:
            status = os.fstat(descriptor)
            found = flaw(path, status)
            if found is not None:
                return found
            make_private(descriptor, status)
        finally:
            os.close(descriptor)
    return None
