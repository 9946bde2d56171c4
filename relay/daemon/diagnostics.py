"""Diagnostics of libraries and of our own bugs, through the standard logging, into the mail log.

One line per record as a warning of ``master``; a traceback goes to stderr as it is, or without what the exceptions say
where the log may hold no addresses. Nothing here ever holds content.
"""

from __future__ import annotations

import logging
import sys
import traceback

from relay.clock import Clock
from relay.events import Emit, Notice


class NoticeHandler(logging.Handler):
    """Turns log records into events."""

    def __init__(self, emit: Emit, clock: Clock, *, wordless: bool = False) -> None:
        super().__init__(logging.WARNING)
        self._wordless = wordless
        self._emit_event = emit
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record; never raises."""
        try:
            text = record.getMessage()
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                frames = traceback.extract_tb(error.__traceback__)
                where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
                text = f"{text}: {type(error).__name__}{where}"
                if self._wordless:
                    traceback.print_tb(error.__traceback__, file=sys.stderr)
                else:
                    traceback.print_exception(error, file=sys.stderr)
            self._emit_event(Notice(self._clock.now(), "master", text, warning=True))
        except Exception:  # noqa: BLE001 - logging must not hurt what it reports on
            self.handleError(record)


def install(handler: logging.Handler) -> None:
    """Send warnings of everything to ``handler``; aiosmtpd's own log, which shows dialogues, is turned off."""
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    dialogues = logging.getLogger("mail")
    dialogues.setLevel(logging.CRITICAL + 1)
    dialogues.propagate = False


def report(error: BaseException) -> None:
    """Tell of a bug of ours that ended a task."""
    logging.getLogger(__name__).error("internal error", exc_info=error)
