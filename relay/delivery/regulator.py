"""What one upstream has taught its lane: its pace, its number of connections, and why; kept on disk when it changes.

Signals of rate and of crowding are kept apart from the upstream's health: as long as anything goes, they slow it down
and open no circuit. What nothing of goes is left to the lane, which pauses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from relay.delivery.learning import UNLIMITED, Crowd, Pace, Refusal, Tempo, crowded
from relay.delivery.pacing import Paced
from relay.delivery.permits import RATE_WINDOW, Permits
from relay.lessons import LearnedRecord
from relay.outcome import Outcome
from relay.settings import Limit
from relay.value import dataclass

UNTRIED: Final = 16
"""Messages until whose replies an upstream is new to us;"""
CAUTIOUS: Final = 3
"""and has no more connections than these: all that is under way is refused where it turns out to have been too fast."""
_AFTER_ALL: Final = 1.0
"""Seconds since it was slowed down after which a refusal that nobody knows the beginning of is a new one."""
_TOLD: Final = 0.2
"""A working rate that differs by less than this share from the last one told of is not worth a line."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What people see of it: ``text`` says it in words ("working at 14/s since 10:31: 454 Throttling failure")."""

    rate: float | None
    connections: int | None
    since: float
    reason: str
    text: str


def _keep(record: LearnedRecord) -> None:
    """Nobody keeps it."""


class Regulator:
    """``limits`` are those that hold anyway; ``keep`` is told what is to outlive us."""

    def __init__(
        self,
        upstream: str = "",
        *,
        limits: Sequence[Limit] = (),
        by_recipient: bool = False,
        kept: LearnedRecord | None = None,
        keep: Callable[[LearnedRecord], None] = _keep,
        wall: Callable[[], float] = time.time,
        now: float = 0.0,
    ) -> None:
        self.tempo = Tempo()
        self._crowd: Crowd | None = None
        self._upstream = upstream
        self.bounded(limits)
        self._by_recipient = by_recipient
        self._keep = keep
        self._wall = wall
        self._untried = UNTRIED
        self._slowed_at = float("-inf")
        self._told = 0.0
        self._record = kept or LearnedRecord(upstream)
        if self._record.rate is not None and self._is_news(self._record.rate):
            self.tempo.pace = Pace(self._record.rate, self._record.span)
            self._told = self._record.rate
        if self._record.connections is not None:
            # The one more that is tried is tried a while after the start, as after any other refusal.
            self._crowd = Crowd(self._record.connections, now + self._record.patience, self._record.patience)

    # -- what it is told --------------------------------------------------------------------------------------------
    def bounded(self, limits: Sequence[Limit]) -> None:
        """These hold anyway, from now on: what is learned counts below the slowest rate of them."""
        rates = [limit for limit in limits if limit.window <= RATE_WINDOW]
        slowest = min(rates, key=lambda limit: limit.count / limit.window, default=None)
        self._configured = "" if slowest is None else slowest.text
        self._fastest = None if slowest is None else slowest.count / slowest.window

    def took(self, units: int, now: float) -> None:
        """The upstream took a message."""
        if self._untried:
            self._untried -= 1
        before = self.tempo.pace
        self.tempo.took(units if self._by_recipient else 1, now)
        pace = self.tempo.pace
        if pace is not before and pace is not None:
            self._note(rate=pace.bad, span=pace.span)

    def too_fast(self, outcome: Outcome, begun: float | None, now: float) -> Refusal:
        """It refused for its rate what was ``begun`` then (None: nobody knows)."""
        if begun is None:
            begun = now if now > self._slowed_at + _AFTER_ALL else self._slowed_at
        refusal = self.tempo.refused(begun, now)
        pace = self.tempo.pace
        if refusal is Refusal.LOWERED and pace is not None:
            self._slowed_at = now
            self._note(rate=pace.bad, span=pace.span, since=self._wall(), reason=_said(outcome))
        return refusal

    def too_many(self, outcome: Outcome, others: int, now: float) -> bool:
        """One connection more than ``others`` was too many; whether that is new."""
        before, self._crowd = self._crowd, crowded(self._crowd, others, now)
        if self._crowd == before:
            return False
        self._note(
            connections=self._crowd.most,
            patience=self._crowd.patience,
            crowded=self._wall(),
            crowded_reason=_said(outcome),
        )
        return before is None or before.most != self._crowd.most

    def opened(self, connections: int, maximum: int, now: float) -> None:
        """So many connections are open."""
        if self._crowd is None:
            return
        crowd = self._crowd.joined(connections, now)
        if crowd is not self._crowd:
            self._crowd = None if crowd.most >= maximum else crowd
            self._note(connections=None if self._crowd is None else crowd.most, patience=crowd.patience)

    # -- what it allows ---------------------------------------------------------------------------------------------
    def most(self, maximum: int, now: float) -> int:
        """How many connections there may be."""
        return maximum if self._crowd is None else min(maximum, self._crowd.allowed(now))

    def openable(self, present: int) -> int:
        """How many connections may be opened beside those ``present``: few as long as the upstream is new to us."""
        return max(0, CAUTIOUS - present) if self._untried else UNLIMITED

    def permits(self, present: Permits | Paced | None) -> Permits | Paced | None:
        """What is to be asked before something is begun, from now on; ``present`` is what was asked so far."""
        configured = present.configured if isinstance(present, Paced) else present
        pace = self.tempo.pace
        if pace is not None and not self._is_news(pace.rate):
            self.tempo.pace = pace = None  # the configured limit is no faster
        if pace is None:
            if self._record.rate is not None:
                self._note(rate=None)
                self._told = 0.0
            return configured
        return present if isinstance(present, Paced) else Paced(configured, self.tempo, by_recipient=self._by_recipient)

    # -- what people see --------------------------------------------------------------------------------------------
    @property
    def is_slowed(self) -> bool:
        """Whether less goes than the configuration allows."""
        return self.tempo.pace is not None or self._crowd is not None

    @property
    def is_crowded(self) -> bool:
        """Whether there may be fewer connections than the configuration allows."""
        return self._crowd is not None

    @property
    def condition(self) -> str:
        """The state in words, for the log."""
        parts = [] if self.tempo.pace is None else [rate_text(self.tempo.pace.rate)]
        if self._crowd is not None:
            parts.append(f"no more than {self._crowd.most} connections")
        return f"slowed down to {' and '.join(parts)}"

    def is_worth_telling(self, now: float) -> bool:
        """Whether the rate is found and is another one than the last that was told of, which it is from now on."""
        pace = self.tempo.pace
        if pace is None or now < self.tempo.free_at - 1 / pace.rate or abs(pace.bad - self._told) <= _TOLD * self._told:
            return False
        self._told = pace.bad
        return True

    @property
    def learned(self) -> Learned | None:
        """What is in force now; None: nothing but the configuration."""
        pace, crowd, record = self.tempo.pace, self._crowd, self._record
        if pace is None and crowd is None:
            return None
        parts = []
        if pace is not None:
            configured = f"configured {self._configured}, " if self._configured else ""
            parts.append(f"{configured}working at {rate_text(pace.rate)} since {_at(record.since)}: {record.reason}")
        if crowd is not None:
            parts.append(f"{crowd.most} connections since {_at(record.crowded)}: {record.crowded_reason}")
        return Learned(
            None if pace is None else pace.rate,
            None if crowd is None else crowd.most,
            record.since if pace is not None else record.crowded,
            record.reason if pace is not None else record.crowded_reason,
            "; ".join(parts),
        )

    # -- inside -----------------------------------------------------------------------------------------------------
    def _is_news(self, rate: float) -> bool:
        return self._fastest is None or rate < self._fastest

    def _note(self, **changes: Any) -> None:
        self._record = replace(self._record, **changes)
        self._keep(self._record)


def rate_text(rate: float) -> str:
    """Units a second, a minute or an hour, as people say it: "14/s"."""
    for per, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * per >= 1 or unit == "h":
            break
    value = rate * per
    return f"{value:.3g}/{unit}" if value < 1000 else f"{value:.0f}/{unit}"


def _said(outcome: Outcome) -> str:
    return str(outcome.reply) if outcome.reply is not None else outcome.detail


def _at(wall: float) -> str:
    return datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S")
