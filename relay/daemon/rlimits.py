"""What the system lets this process do: no core dumps, as many open files as it may have."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

_NO_PIPE_EITHER: Final = 1
"""Octets: core(5), a limit of 1 is the one that Linux obeys for a core_pattern that is a pipe too."""
_OPEN_FILES: Final = 65_536
"""Wanted; the soft limit is 1024 on most systems, for the sake of programs that call select(2)."""


def set_limits() -> None:
    """For this process and what it starts, for good."""
    leave_no_core()
    have_descriptors()


def leave_no_core() -> None:
    """Forbid core dumps: the memory of a relay holds passwords, keys and mail."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    least = _NO_PIPE_EITHER if hard == resource.RLIM_INFINITY else min(hard, _NO_PIPE_EITHER)
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def have_descriptors() -> None:
    """Raise the soft limit of open files as far as the hard one lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a kernel's own ceiling: what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
