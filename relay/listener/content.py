"""The content of a message: DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030), read in pieces, answered once it is kept.

One transaction has the one or the other. After a chunk that was refused the transaction's other chunks are read and
refused too: a client that pipelines has sent them already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from aiosmtpd.smtp import MISSING, syntax

from relay.listener.authentication import AUTH_FIRST, Authenticating
from relay.listener.inbox import MAX_LINE
from relay.listener.transaction import Chunks, ContentSink, Receiver
from relay.outcome import Reply
from relay.smtp.bdat import Chunk, ChunkReader, parse_bdat
from relay.smtp.datareader import DataReader

_GO_AHEAD: Final = "354 End data with <CR><LF>.<CR><LF>"
# Commands that wait for nothing, where nobody's hooks do.
_PROMPT: Final = frozenset({b"MAIL ", b"RCPT ", b"RSET\r", b"NOOP\r"})
_NEED_MAIL: Final = Reply(503, "Error: need MAIL command", "5.5.1")
_NEED_RCPT: Final = Reply(503, "Error: need RCPT command", "5.5.1")
_NO_RECIPIENTS: Final = Reply(554, "Error: no valid recipients", "5.5.1")
_CHUNK_FAILED: Final = Reply(503, "Error: a chunk before this one was refused", "5.5.1")


class UnforeseenWaitError(Exception):
    """A command that was to wait for nothing did."""


class Reading(Authenticating):
    """A session that takes content. ``reject_line_ends`` refuses bare CR and LF instead of normalising them."""

    def __init__(self, handler: Any, *, reject_line_ends: bool = False, **keywords: Any) -> None:
        super().__init__(handler, **keywords)
        self._reject_line_ends = reject_line_ends
        self._receiver: Receiver | None = handler if hasattr(handler, "open_content") else None
        self._gone_ahead = False

    @property
    def _unready(self) -> bool:
        """Whether HELO or AUTH may still be wanting; spares most commands two coroutines."""
        return (
            self.session is None
            or not self.session.host_name
            or (self._auth_required and not self.session.authenticated)
        )

    @property
    def _limit(self) -> int:
        return self.data_size_limit or 1 << 62

    @property
    def _is_chunked(self) -> bool:
        """Whether the transaction's content comes by BDAT."""
        return self.envelope.chunks is not None or self.envelope.chunk_refused

    def _answered_at_once(self, data: bytes) -> bool:
        """To wake the session's task costs more than most commands do: a lone one that waits for nothing is run right
        here. DATA gets its 354, and is run by the task once its content comes.
        """
        if self._unready or self._handle_hooks or self._clogged or self._stopping:
            return False
        if len(data) > MAX_LINE or data.find(b"\n") != len(data) - 1:
            return False
        verb = data[:5].upper()
        if verb in _PROMPT:
            self._run_at_once(self._command(data))
        elif data.upper() == b"DATA\r\n" and not self._is_chunked and self._content_refusal() is None:
            self._gone_ahead = True
            self._inbox.put_back(data)
            self.say(_GO_AHEAD)
        else:
            return False
        self._since = self.loop.time() - self._slowness
        self._write()
        if self._ended:
            self._inbox.wake()
        return True

    def _run_at_once(self, command: Coroutine[Any, Any, None]) -> None:
        """A coroutine that awaits nothing ends at its first step."""
        try:
            command.send(None)
        except StopIteration:
            return
        # A bug of ours: nobody would ever go on with it, nor answer the client.
        command.close()
        self._set_rset_state()
        self.refuse(Reply(451, f"Error: internal error {self._report(UnforeseenWaitError())}", "4.3.0"))

    async def _abandon(self) -> None:
        self._gone_ahead = False
        chunks = self.envelope.chunks
        await super()._abandon()
        if chunks is not None:
            await chunks.sink.discard()

    def _content_refusal(self) -> Reply | None:
        """Why no content is due."""
        transaction = self.envelope
        if transaction.mail is None:
            return _NEED_MAIL
        if not transaction.recipients:
            # RFC 5321 §4.2.4 and §3.3: 554 where all were refused, 503 where none was given.
            return _NO_RECIPIENTS if transaction.refused else _NEED_RCPT
        return None

    # -- DATA -------------------------------------------------------------------------------------------------------
    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's names
        """RFC 5321 §4.1.1.4."""
        if self._unready and (await self.check_helo_needed() or await self.check_auth_needed("DATA")):
            return
        refusal = self._content_refusal()
        if refusal is not None:
            self.refuse(refusal)
        elif self._is_chunked:
            self.refuse(Reply(503, "Error: DATA after BDAT", "5.5.1"))
        elif arg:
            self.refuse(Reply(501, "Syntax: DATA", "5.5.4"))
        else:
            if not self._gone_ahead:
                self.say(_GO_AHEAD)
            self._gone_ahead = False
            sink = self._open_content()
            try:
                reply = await self._content(sink)
            except Exception:
                await sink.discard()
                raise
            if reply is not None:
                self._answer_content(reply, "END-OF-MESSAGE")

    def _open_content(self) -> ContentSink:
        if self._receiver is not None:
            return self._receiver.open_content(self.envelope.as_envelope(), self.client)
        return _HookedContent(self._ask_data_hook)

    async def _ask_data_hook(self, content: bytes) -> Reply:
        """The handler's ``handle_DATA``, which finds the content in the session's envelope."""
        self.envelope.original_content = content
        self.envelope.content = content.decode("utf-8", "surrogateescape") if self._decode_data else content
        status = await self._call_handler_hook("DATA")
        return Reply(250, "Ok", "2.0.0") if status is MISSING else Reply(int(status[:3]), status[4:])

    async def _content(self, sink: ContentSink) -> Reply | None:
        """Read to the end of the content; the reply to it, or None where the session ended before."""
        reader = DataReader(self._limit, reject=self._reject_line_ends)
        trouble: Exception | None = None
        self._slowness = 0.0
        while not reader.done:
            octets = self._inbox.take()
            if not octets:
                await self._flush()
                if not await self._receive_content():
                    await sink.discard()
                    self._end()
                    return None
                continue
            piece = reader.feed(octets)
            if piece and trouble is None:
                try:
                    await sink.write(piece)
                except Exception as error:  # noqa: BLE001 - what follows is content still, not commands
                    trouble = error
            if reader.hopeless and not reader.done:
                await sink.discard()
                self._dismiss(f"421 4.3.0 {self.hostname} Error: no end of data in sight")
                return None
            self._inbox.resume()
        if reader.rest:
            self._inbox.put_back(reader.rest)
        if trouble is not None:
            raise trouble
        if reader.refusal is not None:
            await sink.discard()
            return reader.refusal
        return await sink.finish()

    def _answer_content(self, reply: Reply, stage: str) -> None:
        sender = self.envelope.mail.address if self.envelope.mail is not None else ""
        self._set_post_data_state()
        if reply.code < 400:
            self._accepted()
            self.say(str(reply))
        else:
            self.reject(stage, reply, sender=sender)

    # -- BDAT -------------------------------------------------------------------------------------------------------
    @syntax("BDAT chunk-size [LAST]")
    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 3030 §2. Its octets follow unasked, so they are read whatever becomes of them."""
        chunk = parse_bdat(arg or "")
        if chunk is None:
            # Nobody knows where the next command begins.
            self._errors += 1
            self._dismiss(str(Reply(501, "Syntax: BDAT chunk-size [LAST]", "5.5.4")))
            return
        if chunk.size > 2 * self._limit:
            await self._abandon()
            self._dismiss(str(Reply(552, "Error: chunk exceeds the maximum size", "5.3.4")))
            return
        refusal = self._chunk_refusal()
        if refusal is not None:
            if await self._skip(chunk.size):
                await self._refuse_chunk(refusal, last=chunk.last)
            return
        chunks = self.envelope.chunks
        if chunks is None:
            reader = ChunkReader(self._limit, reject=self._reject_line_ends)
            chunks = self.envelope.chunks = Chunks(self._open_content(), reader)
        try:
            await self._chunk(chunk, chunks)
        except Exception:
            await chunks.sink.discard()
            raise

    def _chunk_refusal(self) -> Reply | None:
        """Why this chunk isn't taken."""
        if self.session is None or not self.session.host_name:
            return Reply(503, "Error: send EHLO first", "5.5.1")
        if self._unready:
            return AUTH_FIRST
        return _CHUNK_FAILED if self.envelope.chunk_refused else self._content_refusal()

    async def _chunk(self, chunk: Chunk, chunks: Chunks) -> None:
        """Read one chunk into the transaction's sink, and answer it."""
        reader, sink = chunks.reader, chunks.sink
        reader.announce(chunk.size)
        trouble: Exception | None = None
        left = chunk.size
        while left:
            octets = await self._octets(left)
            if not octets:
                return
            left -= len(octets)
            piece = reader.feed(octets)
            if piece and trouble is None:
                try:
                    await sink.write(piece)
                except Exception as error:  # noqa: BLE001 - what follows are the chunk's octets still
                    trouble = error
        if trouble is not None:
            raise trouble
        if chunk.last and reader.refusal is None and (rest := reader.end()):
            await sink.write(rest)
        if reader.refusal is not None:
            await self._refuse_chunk(reader.refusal, last=chunk.last)
        elif chunk.last:
            reply = await sink.finish()
            self._answer_content(reply, "BDAT")
        else:
            if not chunk.size:
                self._count_junk()
            self.say(f"250 2.0.0 Ok: {chunk.size} octets")

    async def _refuse_chunk(self, reply: Reply, *, last: bool) -> None:
        """The transaction is spoilt; its last chunk ends it, so that the next one can follow in the same group."""
        sender = self.envelope.mail.address if self.envelope.mail is not None else None
        if last:
            await self._abandon()
        elif self.envelope.mail is not None:
            chunks, self.envelope.chunks = self.envelope.chunks, None
            self.envelope.chunk_refused = True
            if chunks is not None:
                await chunks.sink.discard()
        if reply.code == 503:
            # Out of order: of no interest to the log.
            self.refuse(reply)
        else:
            self.reject("BDAT", reply, sender=sender)

    async def _skip(self, size: int) -> bool:
        """Read a chunk for nothing; False where the client left before its end."""
        while size:
            octets = await self._octets(size)
            if not octets:
                return False
            size -= len(octets)
        return True

    async def _octets(self, most: int) -> bytes:
        """The next octets of a chunk; none where the client left."""
        while not (octets := self._inbox.take(most)):
            await self._flush()
            if not await self._receive_content():
                self._end()
                return b""
        self._inbox.resume()
        return octets


class _HookedContent:
    """A sink for a handler that wants content whole; ``hook`` gets it and gives the reply."""

    def __init__(self, hook: Callable[[bytes], Awaitable[Reply]]) -> None:
        self._hook = hook
        self._pieces: list[bytes] = []

    async def write(self, octets: bytes) -> None:
        """See :class:`~relay.listener.transaction.ContentSink`."""
        self._pieces.append(octets)

    async def finish(self) -> Reply:
        """Ask the hook."""
        return await self._hook(b"".join(self._pieces))

    async def discard(self) -> None:
        """Forget it."""
        self._pieces.clear()
