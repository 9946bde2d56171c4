"""A message within JSON: as base64 or as text, whole or part by part, in bounded memory.

A large message is read twice: once for the length and the hash that stand in front of it, once to be sent.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from json.encoder import encode_basestring
from typing import Protocol

from relay.upstream import DeliveryRequest
from relay.upstream.http.request import Body


class NotText(Exception):
    """Content that is no UTF-8 can't stand in a JSON string (RFC 8259 §8.1)."""


class Encoder(Protocol):
    """Octets in, JSON string characters out, wherever they are cut."""

    def feed(self, octets: bytes) -> bytes:
        """What is certain so far."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


class Base64Text:
    """Base64 without line breaks (RFC 4648 §4)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, octets: bytes) -> bytes:
        """All that fills groups of three."""
        octets = self._rest + octets
        whole = len(octets) - len(octets) % 3
        self._rest = octets[whole:]
        return base64.b64encode(octets[:whole])

    def finish(self) -> bytes:
        """The last group with its padding."""
        rest, self._rest = self._rest, b""
        return base64.b64encode(rest)


class JsonText:
    """The inside of a JSON string; raises :class:`NotText`."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, octets: bytes) -> bytes:
        """The characters that are whole."""
        return self._escaped(octets, final=False)

    def finish(self) -> bytes:
        """Nothing, unless a character was begun: then it raises."""
        return self._escaped(b"", final=True)

    def _escaped(self, octets: bytes, *, final: bool) -> bytes:
        try:
            text = self._decoder.decode(octets, final)
        except UnicodeDecodeError:
            raise NotText from None
        return encode_basestring(text)[1:-1].encode()


async def body_of(request: DeliveryRequest, head: bytes, encoder: Callable[[], Encoder], tail: bytes) -> Body:
    """``head``, the message in that encoding, ``tail``. Raises :class:`NotText` and what reading a part raises."""
    if request.content is not None:
        text = encoder()
        whole = b"".join((head, text.feed(request.prefix + request.content), text.finish(), tail))
        return Body(len(whole), hashlib.sha256(whole).hexdigest(), partial(_whole, whole))
    pieces = partial(_pieces, request, head, encoder, tail)
    length, digest = 0, hashlib.sha256()
    async for piece in pieces():
        length += len(piece)
        digest.update(piece)
    return Body(length, digest.hexdigest(), pieces)


def plain_body(octets: bytes) -> Body:
    """A body that is at hand."""
    return Body(len(octets), hashlib.sha256(octets).hexdigest(), partial(_whole, octets))


async def _whole(octets: bytes) -> AsyncIterator[bytes]:
    yield octets


async def _pieces(
    request: DeliveryRequest, head: bytes, encoder: Callable[[], Encoder], tail: bytes
) -> AsyncIterator[bytes]:
    assert request.read_part is not None
    text = encoder()
    yield head + text.feed(request.prefix)
    for part in range(request.parts):
        yield text.feed(await request.read_part(part))
    yield text.finish() + tail
