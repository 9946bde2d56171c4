"""STARTTLS (RFC 3207): the session goes on over TLS as if it were a new one.

The event loop's own TLS is used, not aiosmtpd's, which drives asyncio's private one in Python whatever the loop is.
What came in clear behind the command is forgotten, and so is all that was said before (RFC 3207 §4.2).
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast

from aiosmtpd.smtp import syntax

from relay.listener.conversation import Conversation
from relay.listener.tls import HANDSHAKE_TIMEOUT, words_of
from relay.outcome import Reply


class Securing(Conversation):
    """A session that knows STARTTLS where it has a ``tls_context``; the keywords are :class:`Conversation`'s."""

    def __init__(self, handler: Any, **keywords: Any) -> None:
        super().__init__(handler, **keywords)
        if self.tls_context is None:
            self._smtp_methods.pop("STARTTLS", None)

    @property
    def is_secure(self) -> bool:
        """Whether TLS is up."""
        return self._tls_protocol is not None

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """RFC 3207 §4; nothing may be pipelined behind it (RFC 2920 §3.1), so nothing of that is obeyed."""
        if arg:
            self.refuse(Reply(501, "Syntax: STARTTLS", "5.5.4"))
        elif self.is_secure:
            self.refuse(Reply(503, "Error: TLS already active", "5.5.1"))
        else:
            await self._abandon()
            self.say("220 2.0.0 Ready to start TLS")
            await self._flush()
            if self.transport is not None and not self._ended:
                await self._handshake(cast("asyncio.Transport", self.transport))

    async def _handshake(self, clear: asyncio.Transport) -> None:
        assert self.tls_context is not None
        # With nothing awaited from here to the loop's taking over, what is read from now on is TLS's.
        self._inbox.discard()
        try:
            secure = await self.loop.start_tls(
                clear, self, self.tls_context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are such
            self._tell(f"SSL_accept error from {self.client.peer}: {words_of(error)}")
            secure = None
        if secure is None or self.transport is None:
            # The client left, or speaks no TLS: in clear nothing more is said to it. asyncio tells nobody of the loss.
            self._end()
            clear.abort()
            self.transport = None
            return
        self._inbox.move(secure, self._writer)
        self.transport = secure
        self._over_ssl = True
        self.session = self._create_session()
        self.session.peer = secure.get_extra_info("peername")
        self.client = dataclasses.replace(self.client, helo="", protocol="SMTP")
        self._secured(secure.get_extra_info("ssl_object"))
        hook = self._handle_hooks.get("STARTTLS")
        if hook is not None:
            self._tls_handshake_okay = hook(self, self.session, self.envelope)
