"""What a scribe's two processes say to each other over a stream socket: all keys first, then orders and signatures.

Numbers are of two octets, big-endian. Keys: how many; each as its length and PKCS#8 in PEM. Order: the key's place
among them, and a SHA-256 digest. The answers are the bare signatures, in the order of the orders:
the length of each is its key's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from relay.signing.keys import PrivateKey, known_key

MOST_KEYS: Final = 0xFFFF
ORDER: Final = 2 + 32
"""Octets of an order."""


def introduction(keys: Sequence[PrivateKey]) -> bytes:
    """The keys, as the stream begins."""
    pems = [key.pem() for key in keys]
    return _number(len(pems)) + b"".join(_number(len(pem)) + pem for pem in pems)


def introduced(read: Callable[[int], bytes]) -> list[PrivateKey]:
    """The keys again; ``read`` gives as many octets as it is asked for. Raises ValueError where they are none."""
    return [known_key(read(_read_number(read(2)))) for _ in range(_read_number(read(2)))]


def order(place: int, digest: bytes) -> bytes:
    """To sign that digest by the key in that place."""
    return _number(place) + digest


def ordered(octets: bytes) -> tuple[int, bytes]:
    """Place and digest of an order."""
    return _read_number(octets[:2]), octets[2:]


def _number(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _read_number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")
