"""The mail log's writer: takes events on the event loop's thread, writes lines on its own.

``emit`` costs the loop an append. One thread spells what waits and writes it, unbuffered, a small batch at a time: a
batch is short because spelling holds the interpreter, and the loop must not wait for it. An event waits a few
milliseconds for the company of others: to wake a thread costs more than to spell a line. Nothing polls. A log that
can't be written never hurts mail: lines are dropped and counted, and one warning says so once lines flow again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from relay.events import Event, Notice
from relay.maillog.grammar import Grammar
from relay.maillog.key import make_key
from relay.maillog.objects import Objects
from relay.maillog.pseudonyms import Pseudonyms
from relay.maillog.targets import Journal, Lines, Target
from relay.settings import LogSettings

WAITING_LIMIT: Final = 100_000
"""Events that wait for a blocked sink at the most; later ones are dropped and counted."""

COMPANY_WAIT: Final = 0.005
"""Seconds that the first event waits for others."""

_BATCH: Final = 64


class MailLog:
    """Writes events to standard error, a file or journald, as ``settings`` say.

    OSError where that can't be opened, or the key can't be had that hides addresses. ``emit`` and ``reopen`` belong to
    one thread, the event loop's.
    """

    def __init__(self, settings: LogSettings, hostname: str, *, pid: int | None = None) -> None:
        # The key first: where it can't be had, nothing is opened, and nothing is logged in clear.
        key = make_key(settings.key_file) if settings.recipients == "hash" else None
        self._conceal = None if key is None else Pseudonyms(key).conceal
        self._target = _target(settings, hostname, os.getpid() if pid is None else pid)
        self._waiting: deque[Event | Callable[[], None] | None] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        # Counters that only grow, each written by one thread: no lock is needed.
        self._dropped = 0
        self._lost = 0
        self._told = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="maillog", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Have ``event`` written soon, in order. Never blocks, never raises."""
        if len(self._waiting) >= WAITING_LIMIT:
            self._dropped += 1
            return
        self._waiting.append(event)
        if not self._rung:
            self._ring()

    def reopen(self) -> None:
        """Go on in a new file under the same name, after what was emitted so far: for log rotation."""
        self._waiting.append(self._reopen)
        self._ring()

    def close(self, deadline: float = 5.0) -> bool:
        """Write what waits, for at most ``deadline`` seconds; whether all of it was. Nothing is taken afterwards."""
        if not self._closed:
            self._closed = True
            self._waiting.append(None)
            self._ring()
        self._thread.join(deadline)
        return not self._thread.is_alive() and self._missing() == self._told

    def _ring(self) -> None:
        self._rung = True
        self._bell.put(None)

    def _missing(self) -> int:
        return self._dropped + self._lost

    def _run(self) -> None:
        going_on = True
        while going_on:
            self._bell.get()
            if not self._closed:
                time.sleep(COMPANY_WAIT)
            # Before it looks: what is appended from now on rings again.
            self._rung = False
            while going_on and self._waiting:
                going_on = self._work_off()
            if self._missing() > self._told and (len(self._waiting) < WAITING_LIMIT // 2 or not going_on):
                self._tell()
        self._target.close()

    def _work_off(self) -> bool:
        """Write a batch of what waits; False where the end was among it."""
        spelled: list[Any] = []
        while self._waiting and len(spelled) < _BATCH:
            item = self._waiting.popleft()
            if item is None:
                self._write(spelled)
                return False
            if callable(item):
                self._write(spelled)
                spelled = []
                item()
            else:
                spelled.append(self._spell(item))
        self._write(spelled)
        return True

    def _spell(self, event: Event) -> Any:
        try:
            return self._target.spell(event if self._conceal is None else self._conceal(event))
        except Exception as error:  # noqa: BLE001 -- a bug in one line must not end the log
            return self._warning(f"could not spell an event: {type(event).__name__}: {type(error).__name__}")

    def _warning(self, text: str) -> Any:
        return self._target.spell(Notice(time.time(), "master", text, warning=True))

    def _tell(self) -> None:
        """Say once how many went missing; where that can't be written either, the next batch tries again."""
        missing = self._missing()
        before = self._lost
        self._write([self._warning(f"mail log: {missing - self._told} events were dropped")])
        if self._lost == before:
            self._told = missing
        else:
            self._lost = before

    def _write(self, spelled: list[Any]) -> None:
        if spelled and not self._target.write(spelled):
            self._lost += len(spelled)

    def _reopen(self) -> None:
        trouble = self._target.reopen()
        if trouble is not None:
            self._write([self._warning(f"mail log: going on in the old file: {trouble}")])


def _target(settings: LogSettings, hostname: str, pid: int) -> Target:
    objects = Objects(hostname, pid) if settings.format == "json" else None
    if settings.target == "journald":
        return Journal(settings.tag, pid, objects)
    spelling = Grammar(hostname, settings.tag, pid).lines if objects is None else objects.lines
    return Lines(None if settings.target == "stderr" else settings.target, spelling, os.environ)
