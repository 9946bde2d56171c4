"""Addresses that get no mail from us: the words, and who keeps the list.

An address is known by a digest of its lower case form: a receiver that tells ``Ops@`` from ``ops@`` is hardly found,
and an address that bounced is the same however an application spells it next time. Labels ("+news") belong to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol

from relay.value import dataclass


class Cause(StrEnum):
    """Why an address is suppressed."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Suppression:
    """``address`` gets nothing since ``at`` and before ``until`` (Unix seconds; None: until it is removed).

    ``detail`` is what was said: the reply, the report, the operator's own words.
    """

    address: str
    cause: Cause
    at: float
    until: float | None = None
    detail: str = ""

    @property
    def digest(self) -> int:
        """By what its address is known."""
        return digest_of(self.address)


@dataclass(frozen=True, slots=True)
class Entry:
    """A suppression as memory holds it: the address's digest, why, and until when."""

    digest: int
    cause: Cause
    until: float | None


@dataclass(frozen=True, slots=True)
class SuppressionQuery:
    """Which suppressions are meant: all conditions hold; ``after`` leaves out rows up to that one, ``since`` what was
    suppressed before (Unix seconds).
    """

    addresses: tuple[str, ...] = ()
    domain: str | None = None
    cause: Cause | None = None
    since: float | None = None
    after: int = 0


def digest_of(address: str) -> int:
    """63 bits, so that SQLite takes it for an integer: among a million addresses a stranger's is met by mistake once in
    nine million million questions.
    """
    return int.from_bytes(blake2b(address.lower().encode("utf-8", "surrogateescape"), digest_size=8).digest()) >> 1


def outlasts(new: float | None, old: float | None) -> bool:
    """Whether a suppression that ends at ``new`` takes the place of one that ends at ``old``; None: it does not end."""
    return new is None or (old is not None and new >= old)


class SuppressionKeeper(Protocol):
    """Who keeps the list over a restart: the spool."""

    async def suppressed(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries with their row, above row ``after``, in the order they came."""
        ...

    async def suppressions(self, query: SuppressionQuery, limit: int) -> list[tuple[int, Suppression]]:
        """What ``query`` means, with their rows, in the order they came."""
        ...

    async def suppress(self, found: Sequence[Suppression]) -> int:
        """Durable on return; how many addresses were not suppressed before. What would end earlier than what stands
        changes nothing.
        """
        ...

    async def unsuppress(self, digests: Sequence[int]) -> int:
        """Durable on return: these addresses get mail again; how many were suppressed."""
        ...

    async def forget_suppressions(self, now: float) -> int:
        """Forget those that are over at ``now``; how many went."""
        ...
