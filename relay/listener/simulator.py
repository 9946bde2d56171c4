"""The mailbox simulator as an SMTP server: answers by the recipient's local part and keeps nothing unless asked.

For applications' tests and for the relay itself as an upstream. It is a listener, so aiosmtpd does the talking; the
rules are :mod:`relay.smtp.mailbox`'s. Nothing is relayed anywhere. It promises no durability: a 250 means "counted".
"""

from __future__ import annotations

import asyncio
import logging
import mailbox as mailboxes
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from relay.smtp.complaint import feedback_report
from relay.smtp.mailbox import COMPLAINT, end_of_content, mailbox

_MAX_SIZE: Final = 50_000_000
_TIMEOUT: Final = 300.0


class SimulatorHandler:
    """aiosmtpd's hooks. ``counts`` holds the recipients asked for by mailbox name, and "messages" taken."""

    def __init__(self, maildir: Path | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._maildir = mailboxes.Maildir(maildir, factory=None, create=True) if maildir is not None else None

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Advertise what providers do (aiosmtpd bears pipelined input but does not say so)."""
        del server
        session.host_name = hostname
        last = responses.pop()
        return [*responses, "250-PIPELINING", "250-ENHANCEDSTATUSCODES", last]

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        """The mailbox's reply."""
        box = mailbox(address)
        self.counts[box.name] += 1
        if box.accepts:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(rcpt_options)
        return str(box.reply)

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Count, keep where a maildir was asked for, and answer as the recipients' mailboxes do."""
        delay, drops = end_of_content(mailbox(address) for address in envelope.rcpt_tos)
        if delay:
            await asyncio.sleep(delay)
        self.counts["messages"] += 1
        number = self.counts["messages"]
        if self._maildir is not None and isinstance(envelope.content, bytes):
            await asyncio.to_thread(self._keep, self._maildir, envelope)
        if drops:
            _cut(server)
        return f"250 2.0.0 Ok: simulated as {number}"

    @staticmethod
    def _keep(maildir: mailboxes.Maildir, envelope: Envelope) -> None:
        """The message, and for each recipient who complains the report that its sender would get."""
        content = cast("bytes", envelope.content)
        maildir.add(content)
        for address in envelope.rcpt_tos:
            if mailbox(address).name == COMPLAINT:
                sender = envelope.mail_from or ""
                report = feedback_report(
                    content, sender=sender, recipient=address, reporter="simulator.invalid", now=time.time()
                )
                maildir.add(report)


class SimulatorServer:
    """A running simulator; ``counts`` as :class:`SimulatorHandler`'s, ``addresses`` where it listens."""

    def __init__(self, server: asyncio.Server, handler: SimulatorHandler, sessions: set[SMTP]) -> None:
        self.counts = handler.counts
        self._server = server
        self._sessions = sessions

    @property
    def addresses(self) -> list[tuple[Any, ...]]:
        """Bound addresses as sockets name them."""
        return [sock.getsockname() for sock in self._server.sockets]

    async def close(self) -> None:
        """Stop listening and end all sessions."""
        self._server.close()
        for session in list(self._sessions):
            _cut(session)
        await self._server.wait_closed()


def _cut(session: SMTP) -> None:
    if session.transport is not None:
        cast("asyncio.Transport", session.transport).abort()  # uvloop's is no subclass


class _SimulatorProtocol(SMTP):
    """Keeps track of itself, so that closing the server ends its sessions; takes long lines, as most providers do."""

    line_length_limit = _MAX_SIZE

    def __init__(self, sessions: set[SMTP], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        super().connection_lost(error)


async def start_simulator(
    address: str, *, hostname: str = "simulator.invalid", maildir: Path | None = None
) -> SimulatorServer:
    """Listen on ``address`` ("host:port" or "[v6]:port", port 0 for any); raises OSError where it can't."""
    # aiosmtpd logs dialogues, contents included, below WARNING.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    host, _, port = address.rpartition(":")
    handler = SimulatorHandler(maildir)
    sessions: set[SMTP] = set()

    def session() -> SMTP:
        return _SimulatorProtocol(
            sessions,
            handler,
            hostname=hostname,
            ident="mailbox simulator",
            data_size_limit=_MAX_SIZE,
            enable_SMTPUTF8=True,
            timeout=_TIMEOUT,
        )

    server = await asyncio.get_running_loop().create_server(session, host.strip("[]"), int(port))
    return SimulatorServer(server, handler, sessions)
