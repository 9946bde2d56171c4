"""Senders as an upstream's ``sender_rewrite`` wants them: MAIL FROM, and From and Sender of the header, as mail leaves.

Providers that know senders by verification look at all three (SES: "the following identities failed the check"). What
the spool keeps stays as it was given: notifications of ours go to whom the application named, the log shows both. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

from relay.smtp.senders import may_send
from relay.upstream import DeliveryRequest
from relay.value import dataclass

_FIELD: Final = re.compile(rb"^(?:from|sender)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+", re.MULTILINE | re.IGNORECASE)
# RFC 5322 §3.4: an address between what may hold an "@" without being one: quoted strings, comments.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|\((?:[^()\\]|\\.)*+\)|[^\s<>,;:"()@]++@[^\s<>,;:"()@]++', re.DOTALL)


class Senders:
    """Rewrites by ``pairs`` of a pattern and an address; the first pattern that fits counts."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = tuple(pairs)

    def address(self, address: str) -> str:
        """What an address becomes; the null path stays."""
        return next((to for pattern, to in self._pairs if address and may_send(address, (pattern,))), address)

    def header(self, header: bytes) -> bytes:
        """A header block (CR LF ended fields) with the addresses of its From and Sender fields as they become."""
        return _FIELD.sub(self._field, header)

    def _field(self, found: re.Match[bytes]) -> bytes:
        name, colon, value = found[0].partition(b":")
        return name + colon + _TOKEN.sub(self._replaced, value)

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        token = found[0]
        if token[:1] in {b'"', b"("}:
            return token
        text = token.decode("utf-8", "surrogateescape")
        return self.address(text).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Leaving:
    """How a message leaves for ``upstream``: ``prefix`` before it, ``sender`` as its reverse-path, ``header`` in the
    place of its first ``replaced`` octets. ``told`` is what the log says of it, "" where nothing changes.
    """

    upstream: str
    prefix: bytes
    sender: str
    header: bytes
    replaced: int
    told: str = ""

    def apply(self, request: DeliveryRequest, upstream: str) -> DeliveryRequest:
        """The request as it leaves, where it is for this upstream."""
        if upstream != self.upstream or not self.told:
            return request
        message, content, read_part = request.message, request.content, request.read_part
        envelope = replace(message.envelope, sender=self.sender)
        size = message.size + len(self.header) - self.replaced
        return replace(
            request,
            message=replace(message, envelope=envelope, size=size),
            content=None if content is None else self.header + content[self.replaced :],
            read_part=None if read_part is None else self._reader(read_part),
        )

    def _reader(self, read_part: Callable[[int], Awaitable[bytes]]) -> Callable[[int], Awaitable[bytes]]:
        async def read(part: int) -> bytes:
            octets = await read_part(part)
            return octets if part else self.header + octets[self.replaced :]

        return read
