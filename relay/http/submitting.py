"""``POST /api/messages``: a message through the same door as SMTP's, kept for good before 202 is answered.

``message/rfc822`` is read as it comes, its line ends made CR LF, and never stands in memory whole; its envelope is of
its header (Sender or From; To, Cc, Bcc, or their Resent- fields where there are any) unless the query says
``sender=`` and ``recipient=``. ``application/json`` is composed first. All recipients are taken, or none: the
answer names those that are not. ``Idempotency-Key`` of the request is the message's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from relay import headers
from relay.events import Emit, Rejected
from relay.http.answers import check_length, media_type, read_body, refusal, too_large
from relay.http.composing import Unprocessable, compose
from relay.http.neighbours import ContentSink, Receiver, Unanswered
from relay.mail import Body, Client, Envelope, Recipient
from relay.outcome import Reply
from relay.smtp.address import needs_smtputf8, parse_path
from relay.smtp.addresslist import NoAddress, parse_list
from relay.smtp.bdat import ChunkReader

LISTENER: Final = "http"
"""What it is called where listeners have names: in routes, metrics and limits."""
_OVERHEAD: Final = 64 * 1024
_KEY: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_WAIT: Final = re.compile(r"try again in (\d{1,9}) s")
_QUEUED: Final = re.compile(r"Ok: queued as (\w+)")
_PATIENCE: Final = "30"
"""Seconds after which a client may try again, where nobody knows better."""
_SENDERS: Final = ("resent-sender", "resent-from", "sender", "from")
_RECIPIENTS: Final = ("to", "cc", "bcc")


class Submitting:
    """Submits to ``receiver`` messages of at most ``max_size`` octets to at most ``max_recipients``."""

    def __init__(
        self, receiver: Receiver, emit: Emit, now: Callable[[], float], max_size: int, max_recipients: int
    ) -> None:
        self._receiver = receiver
        self._emit = emit
        self._now = now
        self._max_size = max_size
        self._max_recipients = max_recipients
        self._closed = False

    def close(self) -> None:
        """Begin no more: the relay is on its way down."""
        self._closed = True

    async def submit(self, request: Request) -> Response:
        """The answer to a submission. Raises Unanswered."""
        if self._closed:
            raise Unanswered(503, "the relay is being stopped")
        client = _client(request)
        kind = media_type(request)
        if kind not in {"message/rfc822", "application/json"}:
            raise Unanswered(415, "a message is message/rfc822 or application/json")
        key = request.headers.get("idempotency-key", "")
        if key and _KEY.fullmatch(key) is None:
            raise Unanswered(422, "an Idempotency-Key is up to 255 printable ASCII characters")
        said = request.headers.get("content-length", "")
        size = int(said[:20]) if said.isdecimal() and kind == "message/rfc822" else 0
        no_room = self._receiver.check_room(size, client)
        if no_room is not None:
            return self._refused(no_room, client)
        if kind == "message/rfc822":
            check_length(request, self._max_size)
            return await self._raw(request, client, key)
        return await self._composed(request, client, key)

    # -- the two forms ----------------------------------------------------------------------------------------------
    async def _composed(self, request: Request, client: Client, key: str) -> Response:
        # Base64 makes four characters of three octets.
        body = await read_body(request, self._max_size * 4 // 3 + _OVERHEAD)
        try:
            composed = await asyncio.to_thread(compose, body)
        except Unprocessable as error:
            raise Unanswered(422, str(error)) from None
        except ValueError as error:
            raise Unanswered(400, str(error)) from None
        sender, recipients = _of_query(request)
        envelope = self._envelope(
            composed.sender if sender is None else sender, recipients or composed.recipients, client, header=b""
        )
        if isinstance(envelope, Response):
            return envelope
        reader = ChunkReader(self._max_size)
        sink = self._receiver.open_content(envelope, client)
        async with _discarded_on_error(sink):
            await sink.write(_key_field(key) + reader.feed(composed.content) + reader.end())
        return await self._finish(sink, reader, envelope, client)

    async def _raw(self, request: Request, client: Client, key: str) -> Response:
        """Read up to the header's end, make the envelope, then hand on piece by piece."""
        reader = ChunkReader(self._max_size)
        held = bytearray()
        pieces = request.stream()
        look = 0
        async for piece in pieces:
            held += self._read(reader, piece)
            if len(held) < look:
                continue
            look = 2 * len(held)  # not at every octet of who sends them one by one
            if headers.header_end(bytes(held)) < len(held) or len(held) > headers.MAX_HEADER:
                break
        else:
            held += reader.end()
        first = bytes(held)
        envelope = self._envelope_of(request, first, client)
        if isinstance(envelope, Response):
            return envelope
        sink = self._receiver.open_content(envelope, client)
        async with _discarded_on_error(sink):
            await sink.write(_key_field(key) + first)
            async for piece in pieces:
                await sink.write(self._read(reader, piece))
            await sink.write(reader.end())
        return await self._finish(sink, reader, envelope, client)

    def _read(self, reader: ChunkReader, piece: bytes) -> bytes:
        octets = reader.feed(piece)
        if reader.refusal is not None:
            raise too_large(self._max_size)
        return octets

    async def _finish(self, sink: ContentSink, reader: ChunkReader, envelope: Envelope, client: Client) -> Response:
        if reader.refusal is not None:
            await sink.discard()
            return self._refused(reader.refusal, client, envelope.sender)
        async with _discarded_on_error(sink):
            reply = await sink.finish()
        queued = _QUEUED.match(reply.text) if reply.code == 250 else None
        if queued is None:
            return self._refused(reply, client, envelope.sender)
        return JSONResponse({"id": queued[1]}, 202)

    # -- the envelope -----------------------------------------------------------------------------------------------
    def _envelope_of(self, request: Request, held: bytes, client: Client) -> Envelope | Response:
        end = min(headers.header_end(held, whole=True), headers.MAX_HEADER)
        sender, recipients = _of_query(request)
        try:
            sender = _sender_of(held, end) if sender is None else sender
            recipients = recipients or _recipients_of(held, end)
        except NoAddress as error:
            raise Unanswered(422, str(error)) from None
        return self._envelope(sender, recipients, client, header=held[:end])

    def _envelope(
        self, sender: str, recipients: Sequence[str], client: Client, *, header: bytes
    ) -> Envelope | Response:
        """The envelope, each address in it one that SMTP takes; or the answer that says which is not."""
        if not recipients:
            raise Unanswered(422, "no recipients")
        if len(recipients) > self._max_recipients:
            raise Unanswered(422, f"more than {self._max_recipients} recipients")
        path = parse_path(f"<{sender}>", null=True)
        if isinstance(path, Reply):
            raise Unanswered(422, f"sender: {path.text.removeprefix('Error: ')}")
        taken: list[Recipient] = []
        refused: list[dict[str, str]] = []
        for address in recipients:
            to = parse_path(f"<{address}>")
            reply = to if isinstance(to, Reply) else self._receiver.check_recipient(to.address)
            if reply is not None:
                refused.append({"address": address, "reply": str(reply)})
                self._tell(reply, client, path.address, address)
            elif not isinstance(to, Reply):
                taken.append(Recipient(len(taken), to.address))
        if refused:
            return refusal(422, "recipients that are refused; nobody gets the message", refused=refused)
        utf8 = not header.isascii() or any(needs_smtputf8(each) for each in (path.address, *(r.address for r in taken)))
        return Envelope(path.address, tuple(taken), Body.EIGHT_BIT, utf8)

    # -- refusals ---------------------------------------------------------------------------------------------------
    def _refused(self, reply: Reply, client: Client, sender: str | None = None) -> Response:
        self._tell(reply, client, sender)
        status, wait = _status_of(reply)
        retry = {"Retry-After": wait} if wait else None
        return refusal(status, reply.text.removeprefix("Error: "), retry, reply=str(reply))

    def _tell(self, reply: Reply, client: Client, sender: str | None, recipient: str | None = None) -> None:
        self._emit(Rejected(self._now(), str(client), "POST", str(reply), sender, recipient, protocol=client.protocol))


@asynccontextmanager
async def _discarded_on_error(sink: ContentSink) -> AsyncIterator[None]:
    """Forget the message if it does not come to its end: the client left, sent too much, or we have a bug."""
    try:
        yield
    except Exception:
        await sink.discard()
        raise


def _client(request: Request) -> Client:
    address = request.client.host if request.client is not None else ""
    try:
        local = ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        local = False
    return Client("localhost" if local else "unknown", address, protocol="HTTP", listener=LISTENER)


def _of_query(request: Request) -> tuple[str | None, tuple[str, ...]]:
    """Sender and recipients that the query says; the null sender is "" or "<>"."""
    query = request.query_params
    sender = query.get("sender")
    recipients = tuple(dict.fromkeys(each.removeprefix("<").removesuffix(">") for each in query.getlist("recipient")))
    return None if sender is None else sender.removeprefix("<").removesuffix(">"), recipients


def _sender_of(octets: bytes, end: int) -> str:
    """RFC 5322 §3.6.2: who sent it, else the first of its authors; the newest Resent- field stands first."""
    found = headers.values_of(octets, end, _SENDERS)
    for name in _SENDERS:
        for value in found.get(name, ())[:1]:
            addresses = parse_list(value)
            if addresses:
                return addresses[0]
    raise NoAddress("no From field to take the sender from; say sender=")


def _recipients_of(octets: bytes, end: int) -> tuple[str, ...]:
    """Of To, Cc and Bcc; where there is any Resent- field of these, of those alone (RFC 5322 §3.6.6)."""
    for prefix in ("resent-", ""):
        names = [f"{prefix}{name}" for name in _RECIPIENTS]
        found = headers.values_of(octets, end, names)
        addresses = [each for name in names for value in found.get(name, ()) for each in parse_list(value)]
        if addresses:
            return tuple(dict.fromkeys(addresses))
    return ()


def _key_field(key: str) -> bytes:
    return f"Idempotency-Key: {key}\r\n".encode() if key else b""


def _status_of(reply: Reply) -> tuple[int, str]:
    """The HTTP status for a refusal, and the seconds of its Retry-After, "" for none."""
    if reply.code == 552:
        return 413, ""
    if reply.code // 100 == 5:
        return 422, ""
    waits = _WAIT.search(reply.text)
    if waits is not None:
        return 429, waits[1]
    return 503, _PATIENCE
