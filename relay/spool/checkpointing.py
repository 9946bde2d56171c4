"""When the write-ahead log goes into the database: by the writer itself, and out of the way of those who wait.

SQLite's own checkpoint would run inside a COMMIT. Only the writing connection checkpoints: before 3.51.3 a second one
that does could lose committed pages (the WAL-reset bug). On a full disk the order matters: the database must not take
the blocks that outcomes need, and gives back its own first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.spool import SpoolFull
from relay.spool.library import sqlite3
from relay.spool.opening import BUSY_TIMEOUT
from relay.spool.room import BALLAST_SIZE, Ballast, free_octets

QUIET: Final = 1.0
"""Seconds without an operation after which what is in the log is written back."""

LONG: Final = 4000
"""Pages of 4 KB after which the log is written back as soon as nobody waits; fewer would write hot pages too often."""

TOO_LONG: Final = 16000
"""Pages after which it is written back although somebody waits."""

SPARE: Final = 1024 * 1024
"""Octets that a growing database leaves free on the disk, for outcomes."""

NEAR: Final = TOO_LONG * 4096 + SPARE
"""Octets of free disk from which on it is looked whether what the log holds still fits into the database."""

STEP: Final = 256
"""Pages that are cut off at a time: moving what stands in them fits the log in the room that the ballast leaves."""

RECOVERY_PAUSE: Final = 1.0
"""Seconds between two attempts to find room on a full disk."""

_INCREMENTAL: Final = 2  # sqlite.org/pragma.html#pragma_auto_vacuum
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
        """Write back where it is time to; never waits for a reader. Raises sqlite3.Error, OSError and SpoolFull."""
        if idle or self._pages >= TOO_LONG or (self._pages >= LONG and not waiting):
            # Forgotten also where a reader kept some of it back, or the disk is full: the next round takes it along.
            self._pages = 0.0
            self.check_room()
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def check_room(self) -> None:
        """Raise SpoolFull where the database can't grow by what the log holds and leave SPARE; also sqlite3.Error and
        OSError.

        A checkpoint that meets the end of the disk has taken all of it and given no block of the log back.
        """
        growth = self.growth()
        if growth and growth + SPARE > free_octets(self._spool.parent):
            raise SpoolFull("the disk has no room for what the log holds")

    def check_more(self) -> None:
        """Raise SpoolFull where the log could not be written back any more if more mail went in: then nothing would
        ever be recorded again. Near the end of the disk it is written back before. Also sqlite3.Error and OSError.
        """
        free = free_octets(self._spool.parent)
        if free < NEAR:
            self.check_room()
            if 2 * self.growth() > free:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def growth(self) -> int:
        """Octets that the database file must become longer by for what the log holds. Raises sqlite3.Error, OSError."""
        return max(0, self._figure("page_count") * _PAGE - self._spool.stat().st_size)

    def empty(self, *, patient: bool = False) -> None:
        """Write all of it back and give the log's blocks to the file system, where no reader is in the way (``patient``
        waits for one) and there is room. Raises as ``run`` does.
        """
        self.check_room()
        if not patient:
            self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")

    def shrink(self) -> bool:
        """Cut free pages off the database's end, some STEP of them, in a commit of its own; whether there were any.

        A file of a release that made it without auto_vacuum is made anew where the disk has room for what it holds.
        Raises sqlite3.Error and OSError.
        """
        free = self._figure("freelist_count")
        if not free:
            return False
        if self._figure("auto_vacuum") == _INCREMENTAL:
            self._connection.execute(f"PRAGMA incremental_vacuum({STEP})").fetchall()
            return True
        used = (self._figure("page_count") - free) * _PAGE
        if used + used // 8 + SPARE > free_octets(self._spool.parent):
            return False
        self._connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
        self._connection.execute("VACUUM")
        return True

    def would_fit(self, more: int) -> bool:
        """Whether the log would have room without the free pages and with ``more`` octets of disk. Raises sqlite3.Error
        and OSError.
        """
        growth = self.growth() - self._figure("freelist_count") * _PAGE
        return growth + SPARE <= free_octets(self._spool.parent) + more

    def _figure(self, pragma: str) -> int:
        (figure,) = self._connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(figure)


class Disk:
    """Whether the spool's disk is full, and how it gets room again from what the queue itself no longer needs."""

    def __init__(
        self, spool: Path, ballast: Ballast, checkpointer: Checkpointer, *, say: Callable[[str, Path], object]
    ) -> None:
        self.spool = spool
        self.full = False
        """From the first refusal on until the ballast is held, the log fits and as much again is free."""
        self._ballast = ballast
        self._checkpointer = checkpointer
        self._say = say

    def note_full(self) -> None:
        """Remember it, and say it once."""
        if not self.full:
            self.full = True
            self._say("the disk of %s is full: new mail is refused where it finds no room", self.spool)

    def recover(self, quiet: Callable[[], bool]) -> None:
        """Bring the log into the database and give back what both don't need, for as long as it is ``quiet``.

        What the queue gave up must be enough: nobody else may ever free a block. Raises sqlite3.Error and OSError.
        """
        self._empty_log()
        while not self._has_room() and self._shrink():
            self._empty_log()
            if not quiet():
                break

    def _empty_log(self) -> None:
        # What doesn't fit yet may fit once the database has become shorter.
        with suppress(SpoolFull):
            self._checkpointer.empty()

    def _has_room(self) -> bool:
        held = self._ballast.take()
        room = held and free_octets(self.spool.parent) >= BALLAST_SIZE + self._checkpointer.growth()
        if room and self.full:
            self.full = False
            self._say("the disk of %s has room again: new mail is taken", self.spool)
        return room

    def _shrink(self) -> bool:
        try:
            self._checkpointer.check_room()
        except SpoolFull:
            if self._checkpointer.would_fit(BALLAST_SIZE):
                # To write down that pages are gone takes room in the log first: less than the pages give back.
                self._ballast.give_up()
        return self._checkpointer.shrink()
