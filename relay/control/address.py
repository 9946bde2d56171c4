"""Names of Unix sockets: longer ones than the system's 108 octets, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LONGEST: Final = 100
"""Octets of a name that fit ``sun_path`` everywhere (104 on BSD, 108 on Linux, a NUL included)."""


@contextmanager
def short_name(path: str) -> Iterator[str]:
    """A name for ``path`` that fits into a socket's address, valid inside the block (Linux: through ``/proc``)."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)
