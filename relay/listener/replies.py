"""What an application hears of its message at the end."""

from __future__ import annotations

from typing import Final

from relay.outcome import Reply

ACCEPTED: Final = 250
NO_ROOM: Final = Reply(452, "Error: insufficient system storage", "4.3.1")
"""RFC 5321 §4.5.3.1.10, RFC 3463 §3.4: a full spool or disk is temporary."""
TROUBLE: Final = Reply(451, "Error: queue file write error", "4.3.0")
"""The spool could not do it; it has told the log why."""
HEADER_TOO_LARGE: Final = Reply(552, "Error: message header too large", "5.3.4")


def queued(name: str) -> Reply:
    """It is kept, under that name."""
    return Reply(ACCEPTED, f"Ok: queued as {name}", "2.0.0")
