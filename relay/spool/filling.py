"""Zeros where the write-ahead log will go: a sync of octets that were written before is cheaper than of new ones.

A file that has grown takes its journal's commit along with each sync. SQLite fills a log from its start again once it
stands in the database, so this is dear from a start until the log has first had its full length: some hundred lone
messages. Zeros are written, not reserved: reserved blocks become written ones by a journal commit, too.

Recovery is not misled: a frame names a page, and no page has the number 0 (sqlite.org/fileformat2.html §4.1); besides,
its salt and its checksum must follow from those before. SQLite locks the database and the ``-shm`` file, not the log:
a descriptor of our own may be closed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.spool.checkpointing import LONG
from relay.spool.guarding import FLAGS, flaw
from relay.spool.room import free_octets

STEP: Final = 1024 * 1024
"""Octets that are filled at a time, synced along with the next commit."""

FIRST: Final = 160
"""Frames that the log has before anything is filled: who hands over a single message shall not pay for more."""

AHEAD: Final = 64
"""Frames before the end of what is filled at which the next step is: more than most commits have."""

SPARED: Final = 32 * 1024 * 1024
"""Octets of disk below which all of it is left to mail."""

_PIECE: Final = 16 * 1024
"""Octets written by one call: Linux keeps as one large page of its cache what came in one call, and counts all of it as
changed with each page of ours that is written into it.
"""

_HEADER: Final = 32
_FRAME: Final = 24 + 4096
_FULL: Final = _HEADER + LONG * _FRAME


class LogFiller:
    """``<spool>-wal`` ahead of what SQLite has written. For the writer's thread, between two commits."""

    def __init__(self, spool: Path) -> None:
        """To be made while the writing connection is open; without a log nothing is filled."""
        self._folder = spool.parent
        self._descriptor: int | None = None
        self._mark = FIRST
        path = spool.with_name(spool.name + "-wal")
        with suppress(OSError):
            descriptor = os.open(path, FLAGS)
            if flaw(path, os.fstat(descriptor)) is None:
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def keep_ahead(self) -> None:
        """Fill one step where the log has come near the end of what is filled. Where that can't be, never again."""
        if self._descriptor is None:
            return
        try:
            # A number that isn't 0 stands where a frame begins.
            if any(os.pread(self._descriptor, 4, _HEADER + self._mark * _FRAME)):
                self._fill(self._descriptor)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the log go; harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _fill(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size >= _FULL or free_octets(self._folder) < SPARED:
            self.close()
            return
        if _write_zeros(descriptor, size) < STEP:
            # Others were quicker. No frame can stand there yet, as this thread alone has SQLite write.
            os.ftruncate(descriptor, size)
            self.close()
            return
        self._mark = (size + STEP - _HEADER) // _FRAME - AHEAD


def _write_zeros(descriptor: int, offset: int) -> int:
    """Write a STEP; how much of it there was room for."""
    written = 0
    try:
        while written < STEP:
            written += os.pwrite(descriptor, bytes(_PIECE), offset + written)
    except OSError:
        return written
    return written
