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
from relay.delivery.senders import Leaving, Senders
from relay.dkim.choice import fitting
from relay.headers.scanning import header_end
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
        self._senders: Mapping[str, Senders] = {}
        self._tasks: dict[Item, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    def configure(self, signer: Signer | None, upstreams: Sequence[UpstreamSettings]) -> None:
        """Sign by ``signer`` from now on, None: nothing more."""
        self._signer = signer
        self._wants = {each.name: each.dkim for each in upstreams}
        self._senders = {each.name: Senders(each.sender_rewrite) for each in upstreams if each.sender_rewrite}

    def prefix(self, item: Item, upstream: str) -> bytes | None:
        """What goes before its content; None where it must be signed or given other senders first (:meth:`begin`)."""
        if upstream in self._senders:
            leaving = item.leaving
            return leaving.prefix if leaving is not None and leaving.upstream == upstream else None
        return self._known(item, upstream)

    def _known(self, item: Item, upstream: str) -> bytes | None:
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
                signed: Signatures | Leaving | Reply
                if upstream in self._senders:
                    signed = await self._leaving(item, upstream, self._senders[upstream])
                else:
                    signed = await self._signatures(item, upstream, await self._head(item))
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
            return
        if isinstance(signed, Leaving):
            item.leaving = signed
        else:
            item.message = replace(item.message, signatures=signed)
        self._signed(item, upstream)

    async def _head(self, item: Item) -> bytes:
        return item.content if item.content is not None else await self._spool.content(item.number, 0)

    async def _leaving(self, item: Item, upstream: str, senders: Senders) -> Leaving | Reply:
        """Its senders as they become, and the signatures of that."""
        head = await self._head(item)
        envelope, end = item.message.envelope, header_end(head, whole=True)
        header, sender = senders.header(head[:end]), senders.address(envelope.sender)
        changed = header != head[:end]
        told = [f"sender {envelope.sender} -> {sender}"] if sender != envelope.sender else []
        told += ["header"] if changed else []
        known = None if changed else self._known(item, upstream)
        if known is None:
            rewritten = header + head[end:] if changed else head
            signed = await self._signatures(item, upstream, rewritten)
            if isinstance(signed, Reply):
                return signed
            known = fitting(signed, self._wants.get(upstream, _ANY)) or b""
        return Leaving(upstream, known, sender, header, end, ", ".join(told))

    async def _signatures(self, item: Item, upstream: str, head: bytes) -> Signatures | Reply:
        """Signatures of a message that begins with ``head``, whose author they are of."""
        signer, message = self._signer, item.message
        if signer is None:
            return UNSIGNED
        number = message.number
        draft = signer.open(head, message.envelope.sender)
        if draft is None:
            return UNSIGNED
        known = message.signatures.body_hash if message.signatures is not None else ""
        if not draft.recall(known) and item.content is None:
            for part in range(1, item.parts):
                draft.feed(await self._spool.content(number, part))
        return await signer.sign(draft, message.queue_id, upstream)
