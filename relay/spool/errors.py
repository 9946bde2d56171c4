"""What SQLite's errors mean for a spool: translated once, here, by primary result code (sqlite.org/rescode.html)."""

from __future__ import annotations

from typing import Final

from relay.spool import SpoolBroken, SpoolError, SpoolFull
from relay.spool.library import sqlite3

SQLITE_ERROR: Final = 1
_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED
_FULL: Final = 13  # SQLITE_FULL
# SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB: what was written or will be read can't be trusted any more.
_BROKEN: Final = frozenset({10, 11, 26})
_PRIMARY: Final = 0xFF


class SpoolBusy(SpoolError):
    """Another program holds the database's lock: nothing was changed, and waiting helps."""


def result_code(error: BaseException) -> int | None:
    """The primary result code; pysqlite3 gives that alone, the standard library the extended one."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else None


def translate(error: BaseException) -> SpoolError:
    """The port's error for ``error``. Texts are SQLite's own, which hold no values of rows; others are left out."""
    if isinstance(error, SpoolError):
        return error
    if isinstance(error, UnicodeDecodeError):
        # We write valid UTF-8 only; what quick_check quotes of a damaged file may be anything.
        return SpoolBroken("the spool can't be trusted any more: it holds text that is no UTF-8")
    if not isinstance(error, sqlite3.Error):
        return SpoolError(f"the spool could not do it: {type(error).__name__}")
    code = result_code(error)
    if code in _BUSY:
        return SpoolBusy("the spool is locked by another program")
    if code == _FULL:
        return SpoolFull("the disk is full")
    if code in _BROKEN:
        return SpoolBroken(f"the spool can't be trusted any more: {error}")
    return SpoolError(f"the spool could not do it: {error}")
