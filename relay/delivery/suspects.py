"""Mail that may have killed the relay: what was on its way at a crash is tried one message at a time, and what was on
its way at MOST of them is held for an operator. Nothing is deleted, and no other message waits for it.

A bug in C, memory that runs out or a watchdog end a process without a word; the message behind it would be tried first
again after every restart. What was on its way stands in the flight recorder, which costs no transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from relay.delivery.doubt import HOLD
from relay.delivery.flightrecorder import FlightRecorder
from relay.delivery.items import Item
from relay.delivery.settle import Attempt, Ended
from relay.events import Emit, Notice
from relay.outcome import Outcome, Scope, Verdict
from relay.spool import Claimed, Selector, Spool

MOST: Final = 3
"""Crashes after which a message that was on its way at each is held."""
ALONE: Final = 30.0
"""Seconds that the other suspects wait for one at the most: an upstream that hangs is no crash."""


class Suspects:
    """``recorder`` is None where nothing is to be remembered."""

    def __init__(self, recorder: FlightRecorder | None = None) -> None:
        self._recorder = recorder
        self._flying: dict[int, int] = {}  # by number: in how many parts
        self._alone: tuple[int, float] | None = None
        found = {} if recorder is None else recorder.found
        crashes = {number: count + flying for number, (count, flying) in found.items()}
        self.convicted = tuple(sorted(number for number, count in crashes.items() if count >= MOST))
        """To be held, by queue number."""
        self._crashes = {number: count for number, count in crashes.items() if count < MOST}
        if recorder is not None:
            for number, count in self._crashes.items():
                recorder.note(number, count, flying=False)

    def __len__(self) -> int:
        return len(self._crashes)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All that anything is held against, by queue number."""
        return (*self._crashes, *self.convicted)

    def keep(self, numbers: Collection[int]) -> None:
        """Nothing is held against others: they are done, and their records were left standing."""
        self.convicted = tuple(number for number in self.convicted if number in numbers)
        for number in [number for number in self._crashes if number not in numbers]:
            del self._crashes[number]
            if self._recorder is not None:
                self._recorder.forget(number)

    def must_wait(self, number: int, now: float) -> bool:
        """Whether it is a suspect and another one is on its way, as of ``now`` monotonic seconds."""
        if number not in self._crashes or self._alone is None:
            return False
        other, since = self._alone
        return other != number and now - since < ALONE

    def begun(self, number: int, now: float) -> None:
        """It is handed to a session."""
        self._flying[number] = self._flying.get(number, 0) + 1
        crashes = self._crashes.get(number, 0)
        if crashes:
            self._alone = (number, now)
        if self._recorder is not None:
            self._recorder.note(number, crashes, flying=True)

    def recorded(self, number: int, *, survived: bool = True, over: bool = False) -> None:
        """Its outcome is in the spool, or it goes again and has not ``survived`` yet. ``over``: it was its last."""
        parts = self._flying.pop(number, 0)
        if parts != 1:
            if parts:
                self._flying[number] = parts - 1
            return  # else it was decided, not tried
        # Not before: what is relayed and not recorded yet would count as on its way at the next one's crash.
        if self._alone is not None and self._alone[0] == number:
            self._alone = None
        if survived:
            self._crashes.pop(number, None)
        if self._recorder is None:
            return
        if crashes := self._crashes.get(number):
            self._recorder.note(number, crashes, flying=False)
        else:
            self._recorder.forget(number, over=over)

    def close(self) -> None:
        """The process ends of its own will: nothing is held against what could not be recorded."""
        if self._recorder is not None:
            for number in tuple(self._flying):
                self._recorder.forget(number)
            self._recorder.close()


async def hold_convicted(
    suspects: Suspects, spool: Spool, leased: Callable[[Claimed], Item], emit: Emit, now: float
) -> list[Ended]:
    """Lease what is convicted, and is there still: to be settled as in doubt, which holds it for an operator."""
    ended = []
    if numbers := suspects.numbers:
        suspects.keep({found.message.number for found in await spool.find(Selector(numbers=numbers), now)})
    for claimed in await spool.lease(suspects.convicted) if suspects.convicted else ():
        item = leased(claimed)
        attempt = Attempt("", "none", 1, (item.waited, 0.0, 0.0, 0.0), HOLD)
        ended.append(Ended(item, [_CONVICTED] * len(item.message.envelope.recipients), attempt))
        text = f"{claimed.message.queue_id}: held: the relay ended {MOST} times while it was on its way"
        emit(Notice(now, "qmgr", text, warning=True))
    if suspects:
        emit(Notice(now, "qmgr", f"{len(suspects)} messages were on their way as the relay ended: one goes at a time"))
    return ended


_CONVICTED: Final = Outcome(
    Verdict.DEFERRED,
    Scope.MESSAGE,
    "4.3.0",
    f"in doubt: the relay ended {MOST} times while it was on its way",
    in_doubt=True,
)
