"""Which messages were on their way when the process died: a small file that is written without being synced.

The kernel keeps what was written when a process dies of whatever; a power cut may take it, and is no message's fault:
the file names the boot that it is of. A record costs one pwrite of blocks that the file already has, so that a full
disk does not matter; not a mapping of the file, as where a file system copies on write a full disk would end the
process at a store.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

_HEADER: Final = 128
_MAGIC: Final = b"relay flight recorder 1\n"
_RECORD: Final = struct.Struct("<QII")
"""The queue number, the crashes counted against it, whether it is on its way."""
_NONE: Final = bytes(_RECORD.size)
_SLOTS: Final = 4096


class FlightRecorder:
    """``<spool>.flight``, open for as long as the process lives. Trouble with it costs a warning and no mail."""

    def __init__(self, path: Path, boot: str) -> None:
        self._slots: dict[int, int] = {}
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._stale: set[int] = set()
        self._descriptor: int | None = None
        self.found: dict[int, tuple[int, bool]] = {}
        """What an ended process of this boot left: by number the crashes counted, and whether it was on its way."""
        header = (_MAGIC + boot.encode("ascii", "replace")).ljust(_HEADER, b"\n")
        try:
            self._open(path, header)
        except OSError as error:
            _log.warning("%s: %s; a message that kills the relay would not be recognised", path, error.strerror)
            self._give_up()

    def _open(self, path: Path, header: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = descriptor = os.open(path, flags, 0o600)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise FileExistsError(errno.EEXIST, "not a file of ours alone")
        kept = os.pread(descriptor, _HEADER + _SLOTS * _RECORD.size, 0)
        if kept[:_HEADER] == header:
            for at in range(_HEADER, len(kept) - _RECORD.size + 1, _RECORD.size):
                number, crashes, flying = _RECORD.unpack_from(kept, at)
                if number:
                    self.found[number] = (crashes, bool(flying))
        os.pwrite(descriptor, header.ljust(_HEADER + _SLOTS * _RECORD.size, b"\0"), 0)

    def note(self, number: int, crashes: int, *, flying: bool) -> None:
        """Remember a message; where there are more than fit, not that one."""
        slot = self._slots.get(number)
        if slot is None:
            if not self._free:
                return
            slot = self._slots[number] = self._free.pop()
            self._stale.discard(slot)
        self._write(slot, _RECORD.pack(number, crashes, flying))

    def forget(self, number: int, *, over: bool = False) -> None:
        """It is no longer on its way, and nothing is held against it. ``over``: nor will it ever be, so that its record
        may stand until another one takes the place, or the file is closed.
        """
        slot = self._slots.pop(number, None)
        if slot is None:
            return
        self._free.append(slot)
        if over:
            self._stale.add(slot)
        else:
            self._write(slot, _NONE)

    def _write(self, slot: int, record: bytes) -> None:
        if self._descriptor is None:
            return
        try:
            os.pwrite(self._descriptor, record, _HEADER + slot * _RECORD.size)
        except OSError as error:
            _log.warning("the flight recorder can't be written: %s", error.strerror)
            self._give_up()

    def close(self) -> None:
        """Write nothing more; harmless when repeated."""
        for slot in self._stale:
            self._write(slot, _NONE)
        self._stale.clear()
        self._give_up()

    def _give_up(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
