"""Signature Version 4 and AWS credentials, through botocore: the one module that imports it.

Credentials are the configuration's two keys or AWS' default chain: environment, profiles, web identity, container and
instance metadata. The chain reads files and asks servers: in a thread, and again well before what it gave ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as StaticCredentials
from botocore.exceptions import BotoCoreError

from relay.settings import Secret
from relay.upstream.http.request import HttpRequest, Origin

LOOK_AGAIN: Final = 60.0
"""Seconds until the chain is asked whether it has newer credentials: botocore renews 15 minutes before their end."""
_EMPTY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_log: Final = logging.getLogger(__name__)


class NoCredentials(Exception):
    """Neither keys nor anything in the default chain; or it failed."""


class Signer:
    """Signs requests to SES in ``region``; without keys by the default chain. ``now`` is monotonic seconds."""

    def __init__(self, region: str, keys: tuple[Secret, Secret] | None, now: Callable[[], float]) -> None:
        self._region = region
        self._now = now
        self._chain: Any = None
        self._current: Any = None
        self._asked = 0.0
        self._expired_at = float("-inf")
        self._asking = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._is_fixed = keys is not None
        if keys is not None:
            self._current = StaticCredentials(keys[0].value, keys[1].value)

    def __repr__(self) -> str:
        return f"<Signer {self._region}>"

    async def ready(self) -> None:
        """See to it that there are credentials; raises :class:`NoCredentials`."""
        if self._current is None:
            async with self._asking:
                if self._current is None:
                    await self._ask()
        elif not self._is_fixed and self._now() >= self._asked + LOOK_AGAIN and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    def expired(self) -> bool:
        """AWS called the credentials expired: the chain is asked before the next request. Whether that may help."""
        if self._is_fixed:
            return False
        self._current = self._chain = None
        now, before = self._now(), self._expired_at
        self._expired_at = now
        return now >= before + LOOK_AGAIN

    async def signed(self, origin: Origin, request: HttpRequest) -> HttpRequest:
        """``request`` with its signature; raises :class:`NoCredentials`."""
        await self.ready()
        return HttpRequest(request.method, request.path, self._fields(origin, request), request.body)

    def _fields(self, origin: Origin, request: HttpRequest) -> Mapping[str, str]:
        digest = request.body.sha256 if request.body is not None else _EMPTY
        # The hash is made while the content is read, part by part: botocore takes this field's word for it.
        fields = {**request.fields, "Host": origin.authority, "X-Amz-Content-SHA256": digest}
        signing: Any = AWSRequest(request.method, origin.url(request.path), headers=fields)
        SigV4Auth(self._current, "ses", self._region).add_auth(signing)
        return dict(signing.headers.items())

    async def _ask(self) -> None:
        self._asked = self._now()
        try:
            found = await asyncio.to_thread(self._look)
        except BotoCoreError as error:
            raise NoCredentials(f"AWS credentials can't be had ({type(error).__name__})") from None
        if found is None:
            raise NoCredentials("no AWS credentials: neither access_key_id nor anything in AWS' default chain")
        self._current = found

    def _look(self) -> Any:
        if self._chain is None:
            self._chain = botocore.session.get_session().get_credentials()
        return self._chain.get_frozen_credentials() if self._chain is not None else None

    async def _renew(self) -> None:
        """Beside the mail: what is at hand is good for some minutes still."""
        try:
            async with self._asking:
                await self._ask()
        except NoCredentials as error:
            _log.warning("%s; the earlier ones are used on", error)
        finally:
            self._renewing = None
