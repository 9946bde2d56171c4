"""What goes before a message's content on the wire: its signatures, as the upstream wants them.

They were made at the door for the upstream that most mail takes. What was not (a notification of ours, mail that
``relay-sendmail`` put into the spool, a message that goes to an upstream which wants other fields signed) is signed at
the attempt: meanwhile it keeps its place in the queue, and others may overtake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from relay.delivery.items import Item
from relay.dkim.choice import fitting
from relay.mail import UNSIGNED, Signatures
from relay.outcome import Outcome, Reply, Scope, Verdict
from relay.settings import UpstreamDkimSettings, UpstreamSettings
from relay.spool import Spool, SpoolError

_log = logging.getLogger(__name__)
_ANY: Final = UpstreamDkimSettings()
_AT_A_TIME: Final = 8
"""Messages signed at the same time here; each may be read from the spool for it, a part at a time."""


class Signer(Protocol):
    """Who signs; drafts are its own."""

    def open(self, octets: bytes, sender: str) -> Any:
        """Begin with a message's first octets; None where it is not ours to sign."""
        ...

    async def sign(self, draft: Any, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
        """Sign what was fed, or say why it must not go out unsigned."""
        ...


class Signing:
    """``signed`` gets an item that was signed for an upstream, ``unsent`` one that can't be sent and why. It may have
    left the queue meanwhile.
    """

    def __init__(
        self, spool: Spool, signed: Callable[[Item, str], None], unsent: Callable[[Item, Outcome], None]
    ) -> None:
        self._spool = spool
        self._signed = signed
        self._unsent = unsent
        self._signer: Signer | None = None
        self._wants: Mapping[str, UpstreamDkimSettings] = {}
        self._tasks: dict[Item, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    def configure(self, signer: Signer | None, upstreams: Sequence[UpstreamSettings]) -> None:
        """Sign by ``signer`` from now on, None: nothing more."""
        self._signer = signer
        self._wants = {each.name: each.dkim for each in upstreams}

    def prefix(self, item: Item, upstream: str) -> bytes | None:
        """What goes before its content; None where it must be signed first (:meth:`begin`)."""
        signatures = item.message.signatures
        wants = self._wants.get(upstream, _ANY)
        if signatures is not None and (found := fitting(signatures, wants)) is not None:
            return found
        return b"" if self._signer is None or wants.signatures == 0 else None

    def begin(self, item: Item, upstream: str) -> None:
        """Sign an item, unless that is under way."""
        if item not in self._tasks:
            self._tasks[item] = asyncio.get_running_loop().create_task(self._sign(item, upstream))

    def stop(self) -> None:
        """Sign nothing more."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _sign(self, item: Item, upstream: str) -> None:
        try:
            async with self._turns:
                signed = await self._signatures(item, upstream)
        except SpoolError as error:
            signed = Reply(451, f"the message can't be read: {error}", "4.3.0")
        except Exception as error:  # noqa: BLE001 - a bug of ours is an attempt of this message, not the end of all
            _log.error("message %s can't be signed: %s", item.message.queue_id, type(error).__name__)
            signed = Reply(451, "internal error", "4.3.0")
        self._tasks.pop(item, None)
        if isinstance(signed, Reply):
            verdict = Verdict.FAILED if signed.code >= 500 else Verdict.DEFERRED
            said = signed.text.removeprefix("Error: ")
            self._unsent(item, Outcome(verdict, Scope.MESSAGE, signed.enhanced or "4.3.0", said))
        else:
            item.message = replace(item.message, signatures=signed)
            self._signed(item, upstream)

    async def _signatures(self, item: Item, upstream: str) -> Signatures | Reply:
        signer, message = self._signer, item.message
        if signer is None:
            return UNSIGNED
        number = message.number
        head = item.content if item.content is not None else await self._spool.content(number, 0)
        draft = signer.open(head, message.envelope.sender)
        if draft is None:
            return UNSIGNED
        known = message.signatures.body_hash if message.signatures is not None else ""
        if not draft.recall(known) and item.content is None:
            for part in range(1, item.parts):
                draft.feed(await self._spool.content(number, part))
        return await signer.sign(draft, message.queue_id, upstream)
