"""When the write-ahead log goes into the database: by the writer itself, and out of the way of those who wait.

SQLite's own checkpoint would run inside a COMMIT. Only the writing connection checkpoints: before 3.51.3 a second one
that does could lose committed pages (the WAL-reset bug).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from relay.spool.library import sqlite3

QUIET: Final = 1.0
"""Seconds without an operation after which what is in the log is written back."""

LONG: Final = 4000
"""Pages of 4 KB after which the log is written back as soon as nobody waits; fewer would write hot pages too often."""

TOO_LONG: Final = 16000
"""Pages after which it is written back although somebody waits."""

_PER_COMMIT: Final = 6
_CHANGES_PER_PAGE: Final = 5
_PAGE: Final = 4096


class Checkpointer:
    """Estimates the log's length from commits and changed rows; SQLite tells it only when a checkpoint runs."""

    def __init__(self, connection: sqlite3.Connection, spool: Path) -> None:
        self._connection = connection
        self._spool = spool
        self._changes = connection.total_changes
        self._pages = 0.0

    @property
    def patience(self) -> float | None:
        """How long to wait for the next operation before a checkpoint: None where there is nothing to write back."""
        return QUIET if self._pages else None

    def count(self, octets: int) -> None:
        """A commit happened that wrote ``octets`` of content."""
        changes = self._connection.total_changes
        self._pages += _PER_COMMIT + (changes - self._changes) / _CHANGES_PER_PAGE + octets / _PAGE
        self._changes = changes

    def run(self, *, idle: bool, waiting: bool) -> None:
        """Write back where it is time to; never waits for a reader. Raises sqlite3.Error."""
        if idle or self._pages >= TOO_LONG or (self._pages >= LONG and not waiting):
            # Forgotten also where a reader kept some of it back, or the disk is full: the next round takes it along.
            self._pages = 0.0
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def grows(self) -> bool:
        """Whether the database file must become longer for what the log holds. Raises sqlite3.Error and OSError."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return bool(pages * _PAGE > self._spool.stat().st_size)

    def truncate(self) -> None:
        """At the end: all of it, and an empty log. Raises sqlite3.Error."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
