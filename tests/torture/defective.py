"""A relay with one defect, or with mail that kills it: what the negative controls run, and the message of death.

``python -m tests.torture.defective DEFECT serve -c FILE`` is ``relay serve`` with that put into it. A figure that finds
nothing wrong with a defective relay would find nothing wrong with any.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from aiosmtpd.smtp import SMTP

from relay.cli import main
from relay.delivery import lane
from relay.listener import conversation, intake
from relay.spool import opening, sqlite

DEADLY = b"X-Test-Crash: "
LATE = 0.2
"""Seconds by which the relay that answers too early writes too late."""


def answers_before_the_commit() -> None:
    """250 first, then the disk."""
    accept = sqlite.SqliteSpool.accept
    pending = set()

    async def accept_later(self: sqlite.SqliteSpool, arrival: Any) -> None:
        async def write() -> None:
            await asyncio.sleep(LATE)
            await accept(self, arrival)

        task = asyncio.get_running_loop().create_task(write())
        pending.add(task)
        task.add_done_callback(pending.discard)

    sqlite.SqliteSpool.accept = accept_later  # type: ignore[method-assign]


def synchronous_normal() -> None:
    """As many programs set SQLite up: the log is not synced with each commit."""
    configure = opening._configure

    def with_normal(connection: Any, *values: Any, **more: Any) -> None:
        configure(connection, *values, **more)
        connection.execute("PRAGMA synchronous = NORMAL")

    opening._configure = with_normal


def errors_as_the_library_answers_them() -> None:
    """An exception of the spool reaches aiosmtpd, which answers 500: applications drop the mail."""

    class Nothing(Exception):
        pass

    vars(intake).update(SpoolError=Nothing, SpoolFull=Nothing)
    conversation.Conversation.handle_exception = SMTP.handle_exception  # type: ignore[method-assign]


def forgets_what_killed_it() -> None:
    """Dies of deadly mail, and tries it again for ever."""
    from relay.delivery import suspects

    suspects.MOST = 1000  # type: ignore[misc]
    dies_of_deadly_mail()


def dies_of_deadly_mail() -> None:
    """A message whose content says so kills the process as its delivery begins."""
    begin = lane.Lane.begin

    def deadly(self: lane.Lane, request: Any, *more: Any) -> None:
        content: bytes = request.content or b""
        at = content.find(DEADLY)
        if at >= 0:
            die(content[at + len(DEADLY) :].split(b"\r\n", 1)[0].decode())
        begin(self, request, *more)

    lane.Lane.begin = deadly  # type: ignore[method-assign, assignment]


def die(how: str) -> None:
    """By a signal, as of a bug in C or of the kernel's OOM killer."""
    os.kill(os.getpid(), {"segv": signal.SIGSEGV, "oom": signal.SIGKILL, "abort": signal.SIGABRT}[how])


DEFECTS: dict[str, Callable[[], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        answers_before_the_commit,
        synchronous_normal,
        errors_as_the_library_answers_them,
        forgets_what_killed_it,
        dies_of_deadly_mail,
    )
}


def program(defect: str) -> tuple[str, ...]:
    """The command of a relay with ``defect``."""
    assert defect in DEFECTS
    return (sys.executable, "-m", "tests.torture.defective", defect)


if __name__ == "__main__":
    DEFECTS[sys.argv.pop(1)]()
    main()
