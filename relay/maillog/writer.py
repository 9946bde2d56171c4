"""The mail log's writer: takes events on the event loop's thread, writes lines on its own.

``emit`` costs the loop an append. One thread spells what waits and writes it, unbuffered, a small batch at a time: a
batch is short because spelling holds the interpreter, and the loop must not wait for it. Nothing polls. A log that
can't be written never hurts mail: lines are dropped and counted, and one warning says so once lines flow again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from relay.events import Event, Notice
from relay.maillog.grammar import Grammar
from relay.settings import LogSettings

WAITING_LIMIT: Final = 100_000
"""Events that wait for a blocked sink at the most; later ones are dropped and counted."""

_BATCH: Final = 64
_STDERR: Final = 2


class MailLog:
    """Writes events to standard error or to a file.

    A file is appended to and created with mode 0640, less the umask; OSError where it can't be opened. ``emit`` and
    ``reopen`` belong to one thread, the event loop's.
    """

    def __init__(self, settings: LogSettings, hostname: str, *, pid: int | None = None) -> None:
        self._path = None if settings.target == "stderr" else settings.target
        self._descriptor = _STDERR if self._path is None else _open(self._path)
        self._grammar = Grammar(hostname, settings.tag, os.getpid() if pid is None else pid)
        self._waiting: SimpleQueue[Event | Callable[[], None] | None] = SimpleQueue()
        # Counters that only grow, each written by one thread: no lock is needed.
        self._dropped = 0
        self._lost = 0
        self._told = 0
        self._torn = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="maillog", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Have ``event`` written soon, in order. Never blocks, never raises."""
        if self._waiting.qsize() >= WAITING_LIMIT:
            self._dropped += 1
        else:
            self._waiting.put(event)

    def reopen(self) -> None:
        """Go on in a new file under the same name, after what was emitted so far: for log rotation."""
        if self._path is not None:
            self._waiting.put(self._reopen)

    def close(self, deadline: float = 5.0) -> bool:
        """Write what waits, for at most ``deadline`` seconds; whether all of it was. Nothing is taken afterwards."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        self._thread.join(deadline)
        return not self._thread.is_alive() and self._missing() == self._told

    def _missing(self) -> int:
        return self._dropped + self._lost

    def _run(self) -> None:
        going_on = True
        while going_on:
            lines: list[str] = []
            item = self._waiting.get()
            while True:
                if item is None:
                    going_on = False
                    break
                if callable(item):
                    self._write(lines)
                    lines = []
                    item()
                else:
                    lines.append(self._spell(item))
                if len(lines) >= _BATCH:
                    break
                try:
                    item = self._waiting.get_nowait()
                except Empty:
                    break
            self._write(lines)
            if self._missing() > self._told and (self._waiting.qsize() < WAITING_LIMIT // 2 or not going_on):
                self._tell()
        if self._path is not None:
            os.close(self._descriptor)

    def _spell(self, event: Event) -> str:
        try:
            return self._grammar.lines(event)
        except Exception as error:  # noqa: BLE001 -- a bug in one line must not end the log
            return self._warning(f"could not spell an event: {type(event).__name__}: {type(error).__name__}")

    def _warning(self, text: str) -> str:
        return self._grammar.lines(Notice(time.time(), "master", text, warning=True))

    def _tell(self) -> None:
        """Say once how many went missing; where that can't be written either, the next batch tries again."""
        missing = self._missing()
        before = self._lost
        self._write([self._warning(f"mail log: {missing - self._told} events were dropped")])
        if self._lost == before:
            self._told = missing
        else:
            self._lost = before

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        text = "".join(lines)
        rest = memoryview(("\n" + text if self._torn else text).encode(errors="replace"))
        try:
            while rest:
                try:
                    written = os.write(self._descriptor, rest)
                except BlockingIOError:  # somebody made our standard error non-blocking
                    select.select([], [self._descriptor], [])
                    continue
                rest = rest[written:]
                # A line cut off by a full disk is ended before the next one begins.
                self._torn = bool(rest)
        except OSError:
            self._lost += len(lines)

    def _reopen(self) -> None:
        assert self._path is not None
        try:
            opened = _open(self._path)
        except OSError as error:
            self._write([self._warning(f"mail log: going on in the old file: {error.strerror}")])
            return
        os.close(self._descriptor)
        self._descriptor = opened
        self._torn = False


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)
