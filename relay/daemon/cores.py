"""No core dump of a relay: its memory holds passwords, keys and mail."""

from __future__ import annotations

import resource
from typing import Final

_NO_PIPE_EITHER: Final = 1
"""Octets: core(5), a limit of 1 is the one that Linux obeys for a core_pattern that is a pipe too."""


def leave_no_core() -> None:
    """Forbid core dumps to this process and what it starts, for good."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    least = _NO_PIPE_EITHER if hard == resource.RLIM_INFINITY else min(hard, _NO_PIPE_EITHER)
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))
