"""AUTH (RFC 4954): PLAIN and LOGIN against the configuration's users.

Until somebody proved who they are, three tries are all a session has. Nothing that was sent for AUTH is ever in a
reply, an event or an exception.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from aiosmtpd.smtp import login_always_fail, syntax

from relay.listener.inbox import MAX_AUTH_LINE, LineTooLong
from relay.listener.starttls import Securing
from relay.listener.users import Users, Verdict
from relay.outcome import Reply
from relay.smtp import sasl
from relay.smtp.address import has_control

_TRIES: Final = 3
"""Wrong guesses in a session before it is ended."""

AUTH_FIRST: Final = Reply(530, "Authentication required", "5.7.0")
_WRONG: Final = Reply(535, "Error: authentication failed", "5.7.8")
_BUSY: Final = Reply(454, "Error: too many logins at a time", "4.7.0")
_TLS_FIRST: Final = Reply(538, "Error: encryption required for requested authentication mechanism", "5.7.11")


class Authenticating(Securing):
    """A session that knows AUTH where it has ``users``, or a handler that aiosmtpd's own AUTH is for.

    aiosmtpd's ``auth_require_tls`` and ``auth_required`` hold for both.
    """

    def __init__(
        self, handler: Any, *, users: Users | None = None, auth_required: bool = False, **keywords: Any
    ) -> None:
        # aiosmtpd warns of AUTH without TLS; ours is configured so on loopback addresses and Unix sockets only.
        super().__init__(handler, auth_required=auth_required and users is None, **keywords)
        self._auth_required = auth_required
        self._users = users
        self._wrong = 0
        self._auth_offered = (
            users is not None
            or self._auth_required
            or self._authenticator is not None
            or self._auth_callback is not login_always_fail
            or "AUTH" in self._handle_hooks
        )
        if not self._auth_offered:
            self._smtp_methods.pop("AUTH", None)

    @property
    def _mechanisms(self) -> str:
        """What EHLO says of AUTH; empty where it can't be used now."""
        if not self._auth_offered or (self._auth_require_tls and not self.is_secure):
            return ""
        return " ".join(sasl.MECHANISMS if self._users is not None else sorted(self._auth_methods))

    @property
    def _is_authenticated(self) -> bool:
        return self.session is not None and bool(self.session.authenticated)

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Refuse a command that only those may give who logged in (RFC 4954 §6)."""
        if not self._auth_required or self._is_authenticated:
            return False
        self.reject(caller_method, AUTH_FIRST)
        return True

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """RFC 4954 §4."""
        if self._users is None:
            await super().smtp_AUTH(arg)
            return
        refusal = self._auth_refusal(arg)
        if refusal is not None:
            self.refuse(refusal)
            return
        mechanism, _, initial = (arg or "").partition(" ")
        mechanism = mechanism.upper()
        read = await (self._plain(initial) if mechanism == "PLAIN" else self._login(initial))
        if isinstance(read, Reply):
            self.refuse(read)
        elif read is not None:
            await self._prove(self._users, mechanism, read)

    def _auth_refusal(self, arg: str | None) -> Reply | None:
        """Why AUTH can't be had now, or not so."""
        mechanism, _, initial = (arg or "").partition(" ")
        if self.session is None or not self.session.extended_smtp or not self.session.host_name:
            return Reply(503, "Error: send EHLO first", "5.5.1")
        if self._is_authenticated:
            return Reply(503, "Error: already authenticated", "5.5.1")
        if self.in_transaction:
            return Reply(503, "Error: AUTH not permitted in a mail transaction", "5.5.1")
        if not mechanism or " " in initial:
            return Reply(501, "Syntax: AUTH mechanism [initial-response]", "5.5.4")
        if mechanism.upper() not in sasl.MECHANISMS:
            return Reply(504, "Error: unrecognized authentication mechanism", "5.5.4")
        if self._auth_require_tls and not self.is_secure:
            return _TLS_FIRST
        return None

    async def _plain(self, initial: str) -> sasl.Credentials | Reply | None:
        message = sasl.decode_initial(initial) if initial else await self._ask("")
        return sasl.plain(message) if isinstance(message, bytes) else message

    async def _login(self, initial: str) -> sasl.Credentials | Reply | None:
        user_prompt, password_prompt = sasl.CHALLENGES
        user = sasl.decode_initial(initial) if initial else await self._ask(user_prompt)
        if not isinstance(user, bytes):
            return user
        password = await self._ask(password_prompt)
        return sasl.login(user, password) if isinstance(password, bytes) else password

    async def _ask(self, challenge: str) -> bytes | Reply | None:
        """Send a challenge; the decoded answer, a refusal of it, or None where the client left."""
        self.say(f"334 {challenge}")
        while (line := self._inbox.line(MAX_AUTH_LINE)) is None:
            await self._flush()
            if not await self._receive():
                self._end()
                return None
        self._since = self.loop.time()
        if isinstance(line, LineTooLong):
            # RFC 4954 §4: 5.5.6.
            return Reply(500, "Error: authentication exchange line is too long", "5.5.6")
        response = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
        if not line.endswith(b"\r\n") or has_control(response):
            return Reply(501, "Error: malformed authentication response", "5.5.2")
        return sasl.decode(response)

    async def _prove(self, users: Users, mechanism: str, credentials: sasl.Credentials) -> None:
        verdict = await users.prove(credentials, self.client.address)
        if verdict is Verdict.PROVED:
            assert self.session is not None
            self.session.authenticated = True
            # RFC 3848: the A of ESMTPA and ESMTPSA.
            protocol = f"{self.client.protocol}A"
            self.client = dataclasses.replace(
                self.client, protocol=protocol, user=credentials.user, mechanism=mechanism
            )
            self.say("235 2.7.0 Authentication successful")
            return
        if verdict is Verdict.BUSY:
            self.refuse(_BUSY)
            return
        # Another name may be a password typed in the wrong place.
        named = f", sasl_username={credentials.user}" if users.knows(credentials.user) else ""
        reason = f"SASL {mechanism} authentication failed: authentication failure{named}"
        self._tell(f"{self.client.peer}: {reason}", warning=True)
        self.refuse(_WRONG)
        self._wrong += 1
        if self._wrong >= _TRIES:
            self._dismiss(f"421 4.7.0 {self.hostname} Error: too many failed logins")
