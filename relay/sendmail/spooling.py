"""Straight into the spool, while no relay runs: the same intake as a listener's, under the spool's own lock.

The lock is what says whether a relay runs, so there are never two writers. The superuser writes as the spool's owner:
files that the relay could not open must not come into being beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.clock import SystemClock
from relay.config import ConfigError, load
from relay.control.verbs import exit_of as exit_of_trouble
from relay.delivery.routing import Routing
from relay.events import Emit
from relay.listener.intake import Intake
from relay.mail import Client, Envelope
from relay.maillog import MailLog
from relay.outcome import Reply
from relay.sendmail.exits import Exit, Failure, exit_of
from relay.settings import Settings
from relay.smtp.lineends import TOO_LARGE
from relay.spool import PART_SIZE, Arrival, SpoolError, SpoolLocked
from relay.spool.sqlite import open_spool


class Locked(Exception):
    """A process has the spool: a relay that begins or ends, or another one like us."""


class NoDelivery:
    """Who relays here: nobody, until a relay starts."""

    def reserve(self, size: int, turn: int) -> bool:  # noqa: ARG002
        """Nothing is handed over."""
        return False

    def unreserve(self, size: int, turn: int) -> None:
        """Nothing was reserved."""

    def handed_over(self, arrival: Arrival) -> None:
        """Nothing is handed over."""

    def waiting(self, turn: int) -> None:
        """The next relay finds it."""


def keep(config: Path, environ: Mapping[str, str], envelope: Envelope, content: bytes) -> None:
    """Put a message into the spool; durable on return.

    Raises :class:`Locked`, or :class:`Failure`: 75 where this user may not or there is no spool yet, else as a
    listener's reply would have it.
    """
    try:
        settings = load(config, environ)
        owner = os.stat(settings.spool.path)  # noqa: PTH116
    except ConfigError as error:
        text = f"no relay runs, and its configuration is of no use to this user: {error.problems[0]}"
        raise Failure(Exit.TEMPORARY, text) from None
    except OSError as error:
        text = f"no relay runs, and no spool is to be seen at {error.filename}: {error.strerror}"
        raise Failure(Exit.TEMPORARY, text) from None
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    try:
        with _log(settings) as emit:
            reply = asyncio.run(_accept(settings, emit, envelope, content))
    except SpoolLocked as error:
        raise Locked(str(error)) from error
    except SpoolError as error:
        raise Failure(Exit(exit_of_trouble(error)), f"no relay runs, and its spool: {error}") from error
    if reply.code // 100 != 2:
        raise Failure(exit_of(reply), f"the spool refused the message: {reply}")


async def _accept(settings: Settings, emit: Emit, envelope: Envelope, content: bytes) -> Reply:
    listener = settings.listeners[0]
    if len(content) > listener.max_message_size:
        return TOO_LARGE
    clock = SystemClock()
    spool = await open_spool(settings.spool, clock=clock)
    names = [each.name for each in settings.upstreams]
    try:
        intake = Intake(
            spool,
            clock,
            settings.hostname,
            emit,
            NoDelivery(),
            rewrite=settings.rewrite,
            upstreams=names,
            dedupe=settings.queue.dedupe,
            routing=Routing(settings.routes, names, settings.queue.bounces),
            listeners=settings.listeners,
        )
        client = Client("localhost", "127.0.0.1", settings.hostname, "local", listener.name)
        reception = intake.open_content(envelope, client)
        for start in range(0, len(content), PART_SIZE):
            await reception.write(content[start : start + PART_SIZE])
        return await reception.finish()
    finally:
        await spool.close()


@contextlib.contextmanager
def _log(settings: Settings) -> Iterator[Emit]:
    """The relay's own log file, where it has one and this user may write there. Standard error is the caller's."""
    try:
        log = None if settings.log.target == "stderr" else MailLog(settings.log, settings.hostname)
    except OSError:
        log = None
    try:
        yield log.emit if log is not None else lambda _: None
    finally:
        if log is not None:
            log.close()
