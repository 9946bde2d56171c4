"""A durable, fast local mail relay: SMTP in, pooled and pipelined SMTP out."""

from __future__ import annotations

import sys

from relay.compiled import build_of

__version__ = "0.1.0"

_BUILD = build_of(__path__[0])
IS_COMPILED = _BUILD is not None
"""Whether the modules that every message passes through are compiled (relay/compiled.py)."""
if _BUILD is not None:
    sys.path.append(_BUILD)  # the library with the code of all compiled modules lies there
    __path__[:] = [f"{_BUILD}/relay"]
