"""One session's connection: its client, its replies, its deadline, and who is told of it.

aiosmtpd sets a timer and writes for each reply, and cancels the handler when the client leaves. Here one timer lives as
long as the session, the replies to pipelined commands share a write, and a session always comes to its own end.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import re
import ssl
from ipaddress import IPv6Address
from typing import Any, ClassVar, Final, Protocol, cast

from aiosmtpd import smtp as aiosmtpd_smtp

from relay.clock import Clock, SystemClock
from relay.events import Connected, Emit, Notice, Rejected
from relay.listener import tls
from relay.listener.inbox import Inbox
from relay.listener.transaction import Transaction
from relay.mail import Client
from relay.outcome import Reply

_BARE_STATUS: Final = re.compile(r"([245]\d\d)([ -])(?![245]\.\d{1,3}\.\d{1,3}\b)")
_ENHANCED: Final = {"500": "5.5.2", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1", "504": "5.5.4", "555": "5.5.4"}
MIN_DATA_RATE: Final = 500
"""Octets of content a second; each 500 put the deadline off by one (Postfix's smtpd_min_data_rate)."""
_LINGER: Final = 1.0
"""Seconds that a dismissed client is listened to before its connection is closed."""


class Gatekeeper(Protocol):
    """Who counts sessions: the listener."""

    def opened(self, session: Connection) -> Reply | None:
        """A client connected; a Reply turns it away."""
        ...

    def closed(self, session: Connection) -> None:
        """The session is over, whatever it was doing is done."""
        ...


class Connection(aiosmtpd_smtp.SMTP):
    """A session up to its conversation; ``handler`` and the keywords that aren't named here are aiosmtpd's.

    Nothing cancels its task, so that a commit in progress is never cut off when the client leaves.
    """

    # aiosmtpd makes it the limit of its StreamReader, which pauses the transport at twice that. Lines have their own.
    line_length_limit = 64 * 1024

    envelope: Transaction
    _commands: ClassVar[list[str]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._commands = [name for name in dir(cls) if name.startswith(("smtp_", "auth_"))]

    def __dir__(self) -> list[str]:
        """The methods that answer commands: aiosmtpd looks for them so at each connection, through all attributes there
        are, which took a fifth of the time of a session with one message.
        """
        return self._commands

    def __init__(
        self,
        handler: Any,
        *,
        gatekeeper: Gatekeeper | None = None,
        clock: Clock | None = None,
        emit: Emit | None = None,
        listener: str = "app",
        client: Client | None = None,
        **stock: Any,
    ) -> None:
        # aiosmtpd keeps this in its class, where one session's EHLO changes it for all.
        self.command_size_limits = collections.defaultdict(lambda: self.command_size_limit)
        stock.setdefault("ident", "ESMTP relay")
        super().__init__(handler, **stock)
        self.client = client or Client("unknown", "", listener=listener)
        self._client_known = client is not None
        self._gatekeeper = gatekeeper
        self._clock = clock or SystemClock()
        self._emit = emit or _nobody
        self._refusal: Reply | None = None
        self._replies: list[str] = []
        self._errors = 0
        self._own_trouble = 0
        self._ended = False
        self._dismissed = False
        self._stopping = False
        self._waiting = False
        self._clogged = False
        self._at_rest = False
        """Whether the session's task waits for a command."""
        self._since = 0.0
        self._slowness = 0.0
        self._inbox: Inbox

    # -- the transport's side ---------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away; TLS from the first octet on is up by now."""
        if not self._client_known:
            self.client = client_at(transport.get_extra_info("peername"), self.client.listener)
        if self._gatekeeper is not None:
            self._refusal = self._gatekeeper.opened(self)
        self._emit(Connected(self._clock.now(), self.client.peer))
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self._secured(ssl_object)

    def _secured(self, ssl_object: ssl.SSLObject) -> None:
        """TLS is up."""
        assert self.session is not None
        self.session.ssl = {"ssl_object": ssl_object}  # as aiosmtpd has it: the transport's extras
        self._tls_protocol = cast("Any", ssl_object)  # aiosmtpd only asks whether there is one
        self._tell(f"Anonymous TLS connection established from {self.client.peer}: {tls.described(ssl_object)}")

    def data_received(self, data: bytes) -> None:
        """The client said something."""
        if not self._at_rest or not self._inbox.is_empty or not self._answered_at_once(data):
            self._inbox.feed(data)

    def _answered_at_once(self, data: bytes) -> bool:
        """Answer a command for which nothing must be waited for; False where it is the session's task's."""
        del data
        return False

    def pause_writing(self) -> None:
        """The client doesn't read what it is sent."""
        super().pause_writing()
        self._clogged = True

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._clogged = False

    def connection_lost(self, error: Exception | None) -> None:
        """The session sees the end of its input; what it is doing goes on to its own end."""
        del error
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self.transport = None
        # Past aiosmtpd's own method, which cancels the session's task: a commit may be under way (RFC 1047).
        asyncio.StreamReaderProtocol.connection_lost(self, None)

    def eof_received(self) -> bool | None:
        """The client closed its side: what it sent before is still worked off and answered."""
        keep_open = asyncio.StreamReaderProtocol.eof_received(self)
        return keep_open if self.session is not None and self.session.ssl is None else False

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super()._cb_client_connected(reader, writer)
        self._inbox = Inbox(reader, self.loop)

    def _create_envelope(self) -> Transaction:
        return Transaction()

    def _set_post_data_state(self) -> None:
        self.envelope = self._create_envelope()
        self._slowness = 0.0

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    # -- deadlines --------------------------------------------------------------------------------------------------
    def _reset_timeout(self, duration: float | None = None) -> None:
        """Note progress. One timer lives as long as the session and looks at the time when it fires."""
        self._since = self.loop.time()
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_later(duration or self._timeout_duration, self._check_deadline)

    def _check_deadline(self) -> None:
        """Only the client's slowness counts: not the time that a commit takes."""
        left = self._timeout_duration
        if self._waiting or self._ended:
            left += self._since - self.loop.time()
        if left > 0:
            self._timeout_handle = self.loop.call_later(left, self._check_deadline)
        else:
            self._timeout_cb()

    def _timeout_cb(self) -> None:
        transport = self._way_out
        if transport is None:
            return
        if self._ended or transport.get_write_buffer_size():
            # It doesn't read what it is sent: no farewell would reach it, and close() would wait for it for ever.
            transport.abort()
            return
        self.say(f"421 4.4.2 {self.hostname} Error: timeout exceeded")
        self._end()
        self._write()
        transport.close()

    # -- replies ----------------------------------------------------------------------------------------------------
    def say(self, reply: str) -> None:
        """Answer; several replies to pipelined commands leave in one write (RFC 2920 §3.2)."""
        self._replies.append(reply)

    def refuse(self, reply: Reply) -> None:
        """Answer with an error, which counts towards the limit."""
        if reply.enhanced is not None and reply.enhanced.startswith("4.3."):
            self._own_trouble += 1  # RFC 3463 §3.4: the mail system's, which the client is not to pay for
        else:
            self._errors += 1
        self._replies.append(str(reply))

    def reject(self, command: str, reply: Reply, *, sender: str | None = None, recipient: str | None = None) -> None:
        """Refuse a connection, an address or a message, and tell the log."""
        self.refuse(reply)
        self._emit(
            Rejected(
                self._clock.now(), self.client.peer, command, str(reply), sender, recipient, self.client.helo or None
            )
        )

    def decline(self, command: str, reply: Reply, *, sender: str, recipient: str) -> None:
        """Refuse an address for a reason that the client can't know of: the log is told, no error is counted."""
        self.say(str(reply))
        self._emit(
            Rejected(
                self._clock.now(), self.client.peer, command, str(reply), sender, recipient, self.client.helo or None
            )
        )

    def _tell(self, text: str, *, warning: bool = False) -> None:
        self._emit(Notice(self._clock.now(), "smtpd", text, warning=warning))

    async def push(self, status: str | bytes) -> None:
        """Answer at once: for aiosmtpd's own methods, whose replies get an enhanced code here (RFC 2034 §4)."""
        text = status.decode("utf-8", "replace") if isinstance(status, bytes) else status
        self._errors += text[:1] in {"4", "5"}
        self.say(_BARE_STATUS.sub(_with_enhanced, text, count=1))
        await self._flush()

    @property
    def _way_out(self) -> asyncio.WriteTransport | None:
        # By cast: uvloop's transports are no subclasses of asyncio's.
        return cast("asyncio.WriteTransport | None", self.transport)

    def _write(self) -> None:
        replies, transport = self._replies, self._way_out
        if replies and transport is not None:
            text = replies[0] if len(replies) == 1 else "\r\n".join(replies)
            transport.write(f"{text}\r\n".encode("utf-8", "replace"))
        replies.clear()

    async def _flush(self) -> None:
        """Send what was said. Waits where the client doesn't read its replies, under the session's deadline."""
        self._write()
        if self._clogged and self.transport is not None:
            self._waiting = True
            try:
                await self._writer.drain()
            except ConnectionError:
                self._end()
            finally:
                self._waiting = False

    async def _receive(self) -> bool:
        """Wait for the client; False where nothing more will come."""
        self._waiting = True
        more = await self._inbox.more()
        self._waiting = False
        return more

    async def _receive_content(self) -> bool:
        """Wait for content, whose octets buy time at MIN_DATA_RATE: a trickle runs into the session's deadline."""
        began, waiting = self.loop.time(), len(self._inbox)
        self._since = began - self._slowness
        more = await self._receive()
        now = self.loop.time()
        self._slowness = max(0.0, self._slowness + now - began - (len(self._inbox) - waiting) / MIN_DATA_RATE)
        self._since = now - self._slowness
        return more

    # -- the end ----------------------------------------------------------------------------------------------------
    def _end(self, *, dismissed: bool = False) -> None:
        """Read no more commands; what was said is still sent."""
        self._ended = True
        self._at_rest = False
        self._dismissed = dismissed

    def _dismiss(self, reply: str) -> None:
        """End the session from our side, perhaps in the midst of what the client is sending."""
        self.say(reply)
        self._end(dismissed=True)

    async def _linger(self) -> None:
        """Read on for a moment, for nothing: closing on unread input resets the connection, and the client may lose
        the reply that says why (RFC 1122 §4.2.2.13).
        """
        transport = self._way_out
        if transport is None or not transport.can_write_eof():
            return
        transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._receive():
                    self._inbox.take()

    @property
    def in_transaction(self) -> bool:
        """Between MAIL and the reply to its content."""
        return self.envelope.mail is not None

    @property
    def _shutting_down(self) -> str:
        return f"421 4.3.2 {self.hostname} Service shutting down"

    def shut_down(self) -> None:
        """Take no further transaction: end now where none is open, else behind it (RFC 5321 §3.8)."""
        self._stopping = True
        if self._ended or self.in_transaction or len(self._inbox) or not self._waiting:
            return
        if self.transport is not None:
            self.say(self._shutting_down)
            self._end()
            self._write()
            self.transport.close()

    def abort(self) -> None:
        """End at once; a commit under way still comes to its end, unanswered."""
        transport = self._way_out
        if transport is not None:
            transport.abort()


def client_at(peer: Any, listener: str) -> Client:
    """From a socket's address. No reverse DNS: it would put the resolver's troubles before each session."""
    if not isinstance(peer, tuple):
        return Client("localhost", "", listener=listener)
    address = str(peer[0]).partition("%")[0]
    if address.startswith("::ffff:"):
        mapped = IPv6Address(address).ipv4_mapped  # Python spells it ::ffff:7f00:1, the system ::ffff:127.0.0.1
        address = address if mapped is None else str(mapped)
    loopback = address == "::1" or address.startswith("127.")
    return Client("localhost" if loopback else "unknown", address, listener=listener)


def _with_enhanced(found: re.Match[str]) -> str:
    code, separator = found.groups()
    return f"{code}{separator}{_ENHANCED.get(code, f'{code[0]}.0.0')} "


def _nobody(event: object) -> None:
    del event
