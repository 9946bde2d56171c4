"""Permits at a learned pace: the configured limits, and between their permits the time that the upstream wants.

Stands in the place of the configured permits while something is learned, and is never faster than these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from relay.delivery.learning import Tempo
from relay.delivery.permits import Permit, Permits
from relay.delivery.quota.ledger import Use


class Paced:
    """``configured`` is None where no limits are; ``by_recipient`` counts recipients and not messages."""

    def __init__(self, configured: Permits | None, tempo: Tempo, *, by_recipient: bool) -> None:
        self.configured = configured
        self.by_recipient = by_recipient
        self._tempo = tempo
        self._loop = asyncio.get_running_loop()

    def recipients(self, wanted: int, *, urgent: bool = False) -> int:
        """How many of ``wanted`` recipients a transaction may have now: none, all, or what a limit has left of them.

        One transaction that has its turn goes whole: the next one waits the longer for it.
        """
        if not self._tempo.room(self._loop.time()):
            return 0
        return wanted if self.configured is None else self.configured.recipients(wanted, urgent=urgent)

    def connections(self, wanted: int, *, urgent: bool = False) -> int:
        """How many of ``wanted`` transactions might start now, each with one recipient."""
        most = min(wanted, self._tempo.room(self._loop.time()))
        return most if self.configured is None else self.configured.connections(most, urgent=urgent)

    @property
    def is_spent(self) -> bool:
        """Whether the pace, a limit or a pause forbids another transaction now, but for what is reserved."""
        return self.forbids()

    def forbids(self, *, urgent: bool = False) -> bool:
        """Whether the pace, a limit or a pause forbids another transaction now."""
        if not self._tempo.room(self._loop.time()):
            return True
        return self.configured is not None and self.configured.forbids(urgent=urgent)

    @property
    def free(self) -> float:
        """The share of the quota nearest to its end that is left now."""
        return 1.0 if self.configured is None else self.configured.free

    @property
    def is_behind_disk(self) -> bool:
        """Whether only a write that is under way keeps the next transaction back."""
        return self.configured is not None and self.configured.is_behind_disk

    def free_at(self, *, urgent: bool = False) -> float:
        """When the next one may start, in loop time; infinity: not before one in flight is answered."""
        when = max(self._tempo.free_at, self._loop.time())
        return when if self.configured is None else max(when, self.configured.free_at(urgent=urgent))

    def take(self, recipients: int) -> Permit | None:
        """A transaction with so many recipients starts."""
        self._tempo.take(recipients if self.by_recipient else 1, self._loop.time())
        return None if self.configured is None else self.configured.take(recipients)

    def uses(self) -> Iterable[tuple[Use, float]]:
        """Each configured limit with its use."""
        return () if self.configured is None else self.configured.uses()

    @property
    def explanation(self) -> str:
        """What forbids another transaction now."""
        if self.configured is not None and self.configured.is_spent:
            return self.configured.explanation
        return "the pace that the upstream bears"
