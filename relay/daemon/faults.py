"""Injury on request: the process kills itself at a named point of the spool, for tests of what survives.

``RELAY_FAULT=NAME:N`` sends SIGKILL to the own process at the N-th pass of the point NAME;
``RELAY_FAULT_TRACE=FILE`` appends the names of the points passed. Without them nothing is called.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path


def fault_hook(environ: Mapping[str, str]) -> Callable[[str], None] | None:
    """The hook that the environment asks for, or None."""
    wanted, _, count = environ.get("RELAY_FAULT", "").partition(":")
    trace = environ.get("RELAY_FAULT_TRACE")
    if not wanted and trace is None:
        return None
    nth = int(count or "1")
    passed: Counter[str] = Counter()
    file = Path(trace).open("a", buffering=1, encoding="utf-8") if trace else None  # noqa: SIM115 - open for good

    def hook(name: str) -> None:
        passed[name] += 1
        if file is not None:
            file.write(f"{name}\n")
        if name == wanted and passed[name] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
