"""Whether there is room: ``max_size`` of queued content, ``min_free_disk``, and a ballast for the day both are gone.

Room is the event loop's: no lock. Ballast is the writer thread's; others only look at ``held``.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from relay.clock import Clock
from relay.spool import SpoolFull
from relay.spool.guarding import FLAGS, flaw

BALLAST_SIZE: Final = 4 * 1024 * 1024
"""Octets kept so that outcomes can still be recorded on a full disk: some thousand settlements until it has room."""

_log = logging.getLogger(__name__)

_FREE_DISK_KEPT: Final = 1.0
"""Seconds for which a free-space figure is believed."""

_FREE_DISK_DRIFT: Final = 1024 * 1024
"""Octets taken in after which it is asked for sooner."""


def free_octets(folder: Path) -> int:
    """What the file system of ``folder`` offers, by its own figures, from memory: statvfs on a local disk (WAL needs
    one) reads nothing. Raises OSError.
    """
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize


class Room:
    """Octets queued, octets on their way in, and what the disk still offers (asked once a second, or a megabyte)."""

    def __init__(self, folder: Path, *, max_size: int, min_free_disk: int, clock: Clock) -> None:
        self.queued = 0
        """Octets of accepted content, as of the last commit."""
        self.pending = 0
        """Octets staged or being accepted."""
        self._folder = folder
        self._max_size = max_size
        self._min_free_disk = min_free_disk
        self._clock = clock
        self._free = 0
        self._asked: float | None = None
        self._since = 0
        self._short = False

    def check(self, size: int) -> None:
        """Raise SpoolFull where ``size`` more octets find no room."""
        if self.queued + self.pending + size > self._max_size:
            raise SpoolFull("the queue has reached its max_size")
        if self._min_free_disk and self._free_disk() - self.pending - size < self._min_free_disk:
            raise SpoolFull("the disk has less than min_free_disk left")

    def reserve(self, size: int) -> None:
        """Count ``size`` more octets as pending, or raise SpoolFull."""
        self.check(size)
        self.pending += size
        self._since += size

    def _free_disk(self) -> int:
        now = self._clock.monotonic()
        stale = self._asked is None or not 0 <= now - self._asked < _FREE_DISK_KEPT
        if stale or self._since > _FREE_DISK_DRIFT:
            self._free = free_octets(self._folder)
            self._asked = now
            self._since = 0
            self._note()
        return self._free

    def _note(self) -> None:
        """Say once that new mail is refused, and once that it is taken again: with some room more, not to flutter."""
        if self._short != (self._free < self._min_free_disk + self._short * BALLAST_SIZE):
            self._short = not self._short
            if self._short:
                _log.warning("less than min_free_disk is left at %s: new mail is refused", self._folder)
            else:
                _log.warning("min_free_disk is left at %s again: new mail is taken", self._folder)


class Ballast:
    """``<spool>.ballast``: blocks that belong to us and hold nothing, given up when the disk is full."""

    def __init__(self, spool: Path, *, size: int = BALLAST_SIZE) -> None:
        self._path = spool.with_name(spool.name + ".ballast")
        self._size = size
        self.held = False
        """False between giving it up and finding room for it again: no new mail is taken meanwhile."""

    def take(self) -> bool:
        """Reserve the blocks, where the disk would still have as many left; whether they are held now."""
        if self.held:
            return True
        with suppress(OSError):
            if self._path.is_symlink() or (self._path.exists() and not self._path.is_file()):
                return False
            kept = self._path.stat().st_blocks * 512 if self._path.exists() else 0
            if free_octets(self._path.parent) + kept < 2 * self._size:
                return False
            descriptor = os.open(self._path, FLAGS | os.O_CREAT, 0o600)
            try:
                if flaw(self._path, os.fstat(descriptor)) is not None:
                    return False
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
            self.held = True
        return self.held

    def give_up(self) -> bool:
        """Return the blocks to the file system; whether there were any."""
        held, self.held = self.held, False
        with suppress(OSError):
            self._path.unlink()
        return held
