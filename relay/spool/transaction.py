"""One writing transaction as the verbs see it, and the sums it will have changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.spool.library import sqlite3


class Transaction:
    """Handed to every verb between BEGIN and COMMIT. ``alone`` is True where the verb has it for itself, because a
    batch with it failed: then it does without shortcuts.
    """

    __slots__ = (
        "alone",
        "execute",
        "executemany",
        "fault",
        "last",
        "messages",
        "new_contents",
        "new_messages",
        "new_recipients",
        "new_signatures",
        "octets",
        "sent",
        "written",
    )

    def __init__(
        self, connection: sqlite3.Connection, fault: Callable[[str], None] | None, *, alone: bool = False
    ) -> None:
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.fault = fault
        self.alone = alone
        self.messages = 0
        """By how many open messages there will be more."""
        self.octets = 0
        """By how many octets of queued content there will be more."""
        self.written = 0
        """Octets of content that went into the log."""
        self.last = 0
        """The highest queue number that came in."""
        self.sent: dict[str, int] = {}
        """Messages relayed, by upstream."""
        self.new_messages: list[tuple[Any, ...]] = []
        """Rows that come in with the transaction's last statements, together: of messages, of their recipients, of
        their contents and of our signatures.
        """
        self.new_recipients: list[tuple[Any, ...]] = []
        self.new_contents: list[tuple[int, bytes]] = []
        self.new_signatures: list[tuple[Any, ...]] = []


class LeaseGone(Exception):
    """A settlement met recipients that are not leased: it must look at each, in a transaction of its own."""


def milliseconds(seconds: float) -> int:
    """Unix seconds as rows keep them; rounded, so that a time read from a row finds that row again."""
    return round(seconds * 1000)
