"""A copy of the spool, consistent although a relay writes meanwhile: ``VACUUM INTO`` over a connection that only reads.

It is one read transaction. The writer goes on and notices nothing but the disk's load; its log can't be filled from the
start again until the copy is done. Nobody's lock is taken and nothing is checkpointed, so the rule of one writer holds
also where another process makes the copy. What is copied is what the last commit left: the schema stays as it is.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from relay.spool import SpoolBroken, SpoolDamaged, SpoolError, SpoolFull
from relay.spool.errors import translate
from relay.spool.library import sqlite3
from relay.spool.opening import BUSY_TIMEOUT, check_header


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made and checked: octets of the file, open messages and octets of their content in it."""

    size: int
    messages: int
    octets: int
    schema: int


def copy_spool(spool: Path, target: Path, *, replace: bool = False) -> Copied:
    """Make ``target``, mode 0600, a whole and checked copy of ``spool``, or leave it as it was.

    Raises FileExistsError where there is a ``target`` and it is not to be replaced, other OSErrors where it can't be
    written, SpoolDamaged where spool or copy are no sound spool, other SpoolErrors where SQLite can't do it.
    """
    if os.path.lexists(target) and not replace:
        raise FileExistsError(errno.EEXIST, "it exists", str(target))
    if target.exists() and target.samefile(spool):
        raise FileExistsError(errno.EEXIST, "it is the spool itself", str(target))
    draft = target.with_name(f".{target.name}.{token_hex(8)}")
    # SQLite writes into an empty file too: so its mode is right from the first octet on.
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _write(spool, draft)
        copied = _check(draft)
        _sync(draft)
        if replace:
            draft.replace(target)
        else:
            target.hardlink_to(draft)  # unlike a rename, this never replaces
    finally:
        draft.unlink(missing_ok=True)
    _sync(target.parent)
    return copied


def _write(spool: Path, draft: Path) -> None:
    descriptor = os.open(spool, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Closed before SQLite opens the file: closing it later would drop SQLite's POSIX locks.
        status = os.fstat(descriptor)
        header = os.pread(descriptor, 100, 0) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)
    check_header(spool, header)
    try:
        with closing(sqlite3.connect(f"{spool.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT)) as source:
            source.isolation_level = None
            source.execute("PRAGMA temp_store = MEMORY")
            source.execute("VACUUM INTO ?", (str(draft),))
    except sqlite3.Error as error:
        failure = _failure(spool, error)
        if isinstance(failure, SpoolFull):
            # Not the spool's disk: nothing is written there.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft.parent)) from error
        raise failure from error


def _check(draft: Path) -> Copied:
    """Read all of the copy; SpoolDamaged where it is not sound."""
    try:
        with closing(sqlite3.connect(f"{draft.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
            found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise SpoolDamaged(f"the copy is damaged, and so may be the spool: {found}")
            messages, octets = copy.execute("SELECT messages, octets FROM totals").fetchone()
            (schema,) = copy.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise _failure(draft, error) from error
    return Copied(draft.stat().st_size, messages, octets, schema)


def _failure(path: Path, error: sqlite3.Error) -> SpoolError:
    failure = translate(error)
    return SpoolDamaged(f"{path}: {error}") if isinstance(failure, SpoolBroken) else failure


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
