"""One upstream on a simulated clock: its very ledger, from where it stands, and what its connections bear. Pure.

Time goes in steps that grow with the time gone by, so that a year is as many steps as some minutes. A limit whose
window is short against a step is no longer counted permit by permit but by the rate that it comes to; until then
dozens of its windows were counted. Times are seconds of the ledger's clock.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from relay.delivery.quota.ledger import Ledger, share
from relay.delivery.quota.window import GRAINS
from relay.settings import Limit, Pause, Warmup

COARSE: Final = 30.0
"""A window shorter than so many steps is taken for a rate;"""
COARSE_PAUSE: Final = 5.0
"""and so is a round of pauses."""
DAY: Final = 86400.0
MOST: Final = 10**12
"""Messages in a day that no warm-up exceeds: it is over long before."""
CONNECTIONS: Final = "connections"
RELAY: Final = "relay"
WARMUP: Final = "warmup"


@dataclass(frozen=True, slots=True)
class Standing:
    """An upstream as it stands.

    ``busy`` is seconds that one of its ``connections`` needs for a message, ``latency`` seconds from the start of a
    transaction to its reply; both are assumed unless ``measured``. ``ledger`` is None where it has no limits; it is not
    touched. ``usable_in`` is seconds until it is tried again after the trouble named ``state``. ``learned`` is the rate
    that it has taught us, in the units of its limits. ``warmup`` was ``held`` up for so many days; ``day`` is the
    configured limit of a day.
    """

    name: str
    connections: int
    busy: float
    latency: float
    measured: bool
    state: str = "up"
    ledger: Ledger | None = None
    by_recipient: bool = False
    max_recipients: int = 100
    usable_in: float = 0.0
    learned: float | None = None
    warmup: Warmup | None = None
    held: int = 0
    day: int = MOST
    cycle: int = 50

    def fresh(self) -> Standing:
        """The same with nothing used, and in no trouble."""
        ledger = None if self.ledger is None else self.ledger.copy(unused=True)
        return replace(self, ledger=ledger, usable_in=0.0, state="up")


@dataclass(slots=True)
class _Cap:
    """A rate, and why; ``left`` is what it allows in this step, with the fraction that the last one left."""

    rate: float
    why: tuple[str, str]
    left: float = 0.0
    before: float = 0.0

    def begin(self, idle: float, seconds: float) -> None:
        self.before = self.left
        self.left = min(1.0, self.left + self.rate * idle) + self.rate * seconds


@dataclass(slots=True)
class Rehearsed:
    """What became of an upstream: messages sent, when the last one was answered, and seconds by what held it up: a
    kind ("limit", "reserve", "pause", "pacing", "warmup", "learned", "connections", "relay" or a state) and its text.
    """

    sent: int = 0
    last: float = -math.inf
    held: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    @property
    def binding(self) -> tuple[str, str] | None:
        """What held it up longest."""
        return max(self.held, key=lambda why: self.held[why], default=None)


class RehearsedLane:
    """``recipients`` is how many a message has on the average; ``wall`` Unix seconds at ``now``; ``fastest`` messages a
    second are what the relay itself can do.
    """

    def __init__(
        self, standing: Standing, now: float, wall: float, recipients: float = 1.0, fastest: float = math.inf
    ) -> None:
        self.standing = standing
        self.done = Rehearsed()
        transactions = max(1.0, recipients / standing.max_recipients)
        self._units = recipients if standing.by_recipient else transactions
        if standing.by_recipient and standing.ledger is not None:
            # What is larger than a limit goes in parts, whose count nobody knows: as if it just fitted.
            limits, _, _, reserve = standing.ledger.terms
            self._units = min([self._units, *(max(1, share(limit.count, reserve)) for limit in limits)])
        self._transactions = transactions
        self.latency = standing.latency
        capacity = standing.connections / max(standing.busy, 1e-6) / transactions
        why = (
            (CONNECTIONS, f"{standing.connections} connections") if capacity < fastest else (RELAY, "the relay itself")
        )
        self.capacity = _Cap(min(capacity, fastest), why)
        self._caps: list[_Cap] = []
        self._usable_at = now + standing.usable_in
        self._until = self._before = now
        self._answers: deque[tuple[float, int]] = deque()
        self._over = 0.0
        self._wall = wall - now
        self._midnight = math.inf
        self._is_even = False
        self._used = 0
        self.ledger = None if standing.ledger is None else standing.ledger.copy()
        if self.ledger is None and standing.warmup is not None:
            self.ledger = Ledger(())
        if self.ledger is not None and self.ledger.in_flight:
            self._answers.append((now + self.latency, self.ledger.in_flight))
        if standing.learned is not None:
            self._caps.append(_Cap(standing.learned / self._units, ("learned", "what the upstream bears"), 1.0))
        if self.ledger is not None:
            self._even(self.ledger, now)
        self._warm_up(now)

    # -- one step ---------------------------------------------------------------------------------------------------
    def begin(self, now: float, seconds: float) -> None:
        """A step of so many seconds begins."""
        ledger = self.ledger
        while self._answers and self._answers[0][0] <= now:
            at, units = self._answers.popleft()
            if ledger is not None:
                ledger.answered(units, at)
        if now >= self._midnight:
            self._warm_up(now)
        if ledger is not None:
            self._coarsen(ledger, now, seconds)
        idle = max(0.0, now - self._until)
        for cap in (self.capacity, *self._caps):
            cap.begin(idle, seconds)
        self._before, self._until = self._until, now + seconds
        self._used = 0

    def rewind(self) -> None:
        """Nothing was had of this step: it did not take place."""
        self._until = self._before
        for cap in (self.capacity, *self._caps):
            cap.left = cap.before

    def is_usable(self, now: float) -> bool:
        """Whether it is up."""
        return now >= self._usable_at

    def is_spent(self, now: float) -> bool:
        """Whether it may not have another message, whatever its connections bear."""
        if any(cap.left < 1.0 for cap in self._caps):
            return True
        return self.ledger is not None and not self._room(self.ledger, now)

    def take(self, wanted: int, now: float, seconds: float, part: float = 1.0) -> int:
        """So many of ``wanted`` messages start in this step, of whose time it has a ``part``."""
        most = self.capacity.left - (1.0 - part) * self.capacity.rate * seconds
        begun = 0
        while begun < wanted:
            count = min(wanted - begun, int(most - begun), *(int(cap.left) for cap in self._caps))
            if self.ledger is not None:
                count = min(count, self._room(self.ledger, now))
            if count <= 0:
                break
            self._start(count, now)
            begun += count
        return begun

    def _start(self, count: int, now: float) -> None:
        for cap in (self.capacity, *self._caps):
            cap.left -= count
        self.done.sent += count
        spread = count / self.capacity.rate
        now += self._used / self.capacity.rate
        self._used += count
        self.done.last = max(self.done.last, now + spread + self.latency)
        if self.ledger is not None:
            units = int(count * self._units + self._over)
            self._over += count * self._units - units
            self.ledger.take(units, now + spread, math.ceil(count * self._transactions))
            self._answers.append((now + spread / 2 + self.latency, units))

    def _room(self, ledger: Ledger, now: float) -> int:
        """Messages that the ledger lets go at once; a pause comes between."""
        room = max(0, int((ledger.room(now) - self._over) / self._units))
        if room and ledger.until_pause < math.inf:
            room = min(room, max(1, int(ledger.until_pause / self._transactions)))
        return room

    # -- between steps ----------------------------------------------------------------------------------------------
    def held(self, now: float, seconds: float) -> None:
        """For so many seconds mail waited that it might have had."""
        self.done.held[self.obstacle(now)] += seconds

    def obstacle(self, now: float) -> tuple[str, str]:
        """What keeps it from having more now."""
        if not self.is_usable(now):
            return self.standing.state, self.standing.state
        if self.ledger is not None and not self._room(self.ledger, now):
            found = self.ledger.obstacle(now)
            return self._why(found) if found is not None else self.capacity.why
        cap = min((cap for cap in self._caps if cap.left < 1.0), key=lambda cap: cap.rate, default=self.capacity)
        return cap.why

    def wakes_at(self, now: float) -> float:
        """When it may have something that it may not have now; infinity: never."""
        when = max(now, self._usable_at)
        for cap in (self.capacity, *self._caps):
            if cap.left < 1.0:
                when = max(when, self._until + (1.0 - cap.left) / cap.rate)
        if self.ledger is not None and not self._room(self.ledger, now):
            free = self.ledger.free_at(now)
            if free is None or free <= now:  # there is room, but for less than a message's recipients
                free = self._answers[0][0] if self._answers else now + self.latency
            when = max(when, free)
        return min(when, max(self._midnight, now))

    # -- terms ------------------------------------------------------------------------------------------------------
    def _why(self, found: Limit | Pause) -> tuple[str, str]:
        if isinstance(found, Pause):
            return "pause", f"pause after {found.after} for {found.seconds:g} s"
        if found.text == WARMUP:
            return WARMUP, "warm-up"
        if self._is_even:
            return "pacing", f"{found.text} evenly"
        assert self.ledger is not None
        reserve = self.ledger.terms[3]
        return ("limit", f"{found.text} less {reserve:.0%} reserve") if reserve else ("limit", found.text)

    def _even(self, ledger: Ledger, now: float) -> None:
        """Where it spreads mail evenly that is a rate, from the next turn on."""
        limits, even, pause, reserve = ledger.terms
        if not even or not limits:
            return
        self._is_even = True
        intervals = {limit: ledger.interval(limit, self.latency) for limit in limits}
        tightest = max(limits, key=lambda limit: intervals[limit])
        turn = ledger.free_at(now)
        self._usable_at = max(self._usable_at, now if turn is None else turn)
        ledger.configure(limits, now=now, pause=pause, reserve=reserve)
        self._caps.append(_Cap(1.0 / (intervals[tightest] * self._units), self._why(tightest), 1.0))

    def _coarsen(self, ledger: Ledger, now: float, seconds: float) -> None:
        limits, _, pause, reserve = ledger.terms
        if pause is not None:
            # A pause and a limit wait for each other in turns: as long as one counts, so does the other.
            if self._round(pause, limits) >= COARSE_PAUSE * seconds:
                return
            rate = pause.after / self._transactions / self._round(pause, limits)
            self._caps.append(_Cap(rate, self._why(pause)))
        short = [limit for limit in limits if limit.window < COARSE * seconds]
        if not short and pause is None:
            return
        for limit in short:
            count = share(limit.count, reserve) / self._units
            rate = count / (limit.window * (1 + 1.5 / GRAINS) + self.latency)
            self._caps.append(_Cap(rate, self._why(limit)))
        ledger.configure([limit for limit in limits if limit not in short], now=now, reserve=reserve)

    def _round(self, pause: Pause, limits: Sequence[Limit]) -> float:
        """Seconds from one pause to the next."""
        messages = pause.after / self._transactions
        waits = [
            (math.ceil(messages * self._units / limit.count) - 1) * (limit.window + self.latency) for limit in limits
        ]
        return pause.seconds + max(messages / self.capacity.rate, *waits, 0.0)

    def _warm_up(self, now: float) -> None:
        """The day's share of the calendar, until the machine's next midnight."""
        warmup, ledger = self.standing.warmup, self.ledger
        if warmup is None or ledger is None:
            return
        today = datetime.fromtimestamp(self._wall + now).astimezone()
        tomorrow = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        self._midnight = now + max(1.0, tomorrow.timestamp() - today.timestamp())
        limits, _, pause, reserve = ledger.terms
        others = [limit for limit in limits if limit.text != WARMUP]
        day = next((limit.count for limit in others if limit.window == DAY), self.standing.day)
        count = warmed_up(warmup, max(0, (today.date() - warmup.start).days) - self.standing.held)
        others = [limit for limit in others if limit.window != DAY]
        if count < day:
            others.append(Limit(count, DAY, WARMUP))
        elif day < MOST:
            others.append(Limit(day, DAY, f"{day}/day"))
        if count >= day:
            self._midnight = math.inf
        ledger.configure(others, now=now, pause=pause, reserve=reserve)


def warmed_up(warmup: Warmup, day: int) -> int:
    """Messages on that day of the calendar, the first being 0."""
    try:
        return min(MOST, int(warmup.first_day * warmup.growth ** max(0, day)))
    except OverflowError:
        return MOST
