"""What is made of files on disk, made again when one of them changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_Signature = tuple[tuple[int, int, int] | None, ...]


class Watched(Generic[T]):
    """``read`` is called for the first value and whenever one of ``paths`` is another file, size or time than before.

    A file that is missing counts as one that may appear. Costs one stat(2) a file each time it is asked.
    """

    def __init__(self, paths: tuple[str, ...], read: Callable[[], T]) -> None:
        self._paths = tuple(Path(path) for path in paths)
        self._read = read
        self._known: tuple[_Signature, T] | None = None

    def value(self) -> T:
        """The value for the files as they are now; raises what ``read`` raises."""
        signature = tuple(_signature(path) for path in self._paths)
        if self._known is None or self._known[0] != signature:
            self._known = signature, self._read()
        return self._known[1]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
