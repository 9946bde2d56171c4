"""One mail transaction at the door, and the port through which its content goes on (RFC 5321 §3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiosmtpd.smtp import Envelope as HandlerEnvelope

from relay import mail
from relay.outcome import Reply
from relay.smtp.arguments import Mail, Rcpt
from relay.smtp.bdat import ChunkReader


class Transaction(HandlerEnvelope):
    """From MAIL to the end of the content; as aiosmtpd's envelope it is what a handler's hooks see.

    ``mail`` is None until MAIL was taken; ``refused`` counts recipients that were not. ``chunks`` is the content so far
    where it comes by BDAT; ``chunk_refused``: a part of it is missing, so none of it is ever taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mail: Mail | None = None
        self.recipients: list[mail.Recipient] = []
        self.refused = 0
        self.chunks: Chunks | None = None
        self.chunk_refused = False

    def add(self, rcpt: Rcpt) -> None:
        """Take a recipient."""
        self.recipients.append(mail.Recipient(len(self.recipients), rcpt.address, rcpt.notify, rcpt.orcpt))

    def as_envelope(self) -> mail.Envelope:
        """The envelope as the rest of the relay knows it; only after MAIL."""
        assert self.mail is not None
        given = self.mail
        return mail.Envelope(given.address, tuple(self.recipients), given.body, given.smtputf8, given.ret, given.envid)


class ContentSink(Protocol):
    """Takes one message's content, ended by ``finish`` or ``discard``; the latter also after anything raised."""

    async def write(self, octets: bytes) -> None:
        """Take the next octets (line ends normalised, dots removed); returns once there is room for more."""
        ...

    async def finish(self) -> Reply:
        """All is there: keep it for good and say what the client is told."""
        ...

    async def discard(self) -> None:
        """The message won't come to its end, or is refused: forget it. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Chunks:
    """Content that comes by BDAT: where it goes, and how it is read."""

    sink: ContentSink
    reader: ChunkReader


class Receiver(Protocol):
    """Who takes messages from sessions: the intake, or a test's stand-in."""

    def check_room(self, size: int, client: mail.Client) -> Reply | None:
        """Whether ``size`` octets would be taken now from this client; else the reply to MAIL."""
        ...

    def check_recipient(self, address: str) -> Reply | None:
        """Whether mail to ``address`` would be taken; else the reply to RCPT."""
        ...

    def open_content(self, envelope: mail.Envelope, client: mail.Client) -> ContentSink:
        """A sink for the content of a message with this envelope."""
        ...
