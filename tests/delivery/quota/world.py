"""A relay's clock, disk and crashes, and a receiver that counts by a clock of its own: what a ledger has to bear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relay.delivery.quota.ledger import Kept, Ledger, Writing
from relay.settings import Limit

MakeLedger = Callable[[Sequence[Limit]], Ledger]


@dataclass
class Flight:
    """A transaction: when it started, in true time, and what it counts."""

    began: float
    units: int


class World:
    """True time runs in seconds; the machine's clock since boot starts anew with each boot, the wall clock steps."""

    def __init__(self, limits: Sequence[Limit], make: MakeLedger = Ledger) -> None:
        self.limits = limits
        self.make = make
        self.time = 10_000.0
        self.booted = 9_000.0
        self.boot = "boot 1"
        self.wall_ahead = 1_800_000_000.0
        self.wall_ahead_written = self.wall_ahead
        self.disk: Kept | None = None
        self.flights: list[Flight] = []
        self.arrivals: list[tuple[float, int]] = []
        self.pending: Writing | None = None
        self.ledger = make(limits)

    @property
    def now(self) -> float:
        return self.time - self.booted

    # -- what may happen --------------------------------------------------------------------------------------------
    def elapse(self, seconds: float) -> None:
        self.time += seconds

    def send(self, units: int) -> bool:
        """Begin one transaction, if the ledger lets it."""
        units = min(units, self.ledger.room(self.now), self.ledger.allowance)
        if units <= 0:
            return False
        self.ledger.take(units, self.now)
        self.flights.append(Flight(self.time, units))
        return True

    def answer(self, which: int, when: float) -> None:
        """The receiver counted it at some moment between start and reply."""
        if self.flights:
            flight = self.flights.pop(which % len(self.flights))
            self.arrivals.append((flight.began + when * (self.time - flight.began), flight.units))
            self.ledger.answered(flight.units, self.now)

    def give_back(self, which: int) -> None:
        """It ended before its content."""
        if self.flights:
            flight = self.flights.pop(which % len(self.flights))
            self.ledger.given_back(flight.units)

    def begin_write(self, need: int) -> None:
        if self.pending is None:
            self.pending = self.ledger.write(self.now, need)

    def commit(self) -> None:
        """The disk has it, of which the ledger does not know yet."""
        if self.pending is not None:
            self.disk = kept(self.disk, self.pending, self.boot, self.now, self.time + self.wall_ahead)
            self.wall_ahead_written = self.wall_ahead

    def end_write(self) -> None:
        if self.pending is not None:
            self.commit()
            self.ledger.written(self.pending)
            self.pending = None

    def fail_write(self) -> None:
        if self.pending is not None:
            self.ledger.not_written()
            self.pending = None

    def crash(self, seconds: float, when: float) -> None:
        """The process is gone, and comes back: what was in flight may have arrived until then."""
        self.time += seconds
        self._arrive(when)
        self._restart()

    def reboot(self, seconds: float, when: float, wall_back: float) -> None:
        """The machine is gone too. Its wall clock may be behind afterwards: only a battery keeps it."""
        self._arrive(when)
        self.time += seconds
        self.boot += "'"
        self.booted = self.time - seconds / 2
        self.wall_ahead = min(self.wall_ahead, self.wall_ahead_written) - wall_back
        self._restart()

    def step_wall(self, seconds: float) -> None:
        self.wall_ahead += seconds

    def _arrive(self, when: float) -> None:
        for flight in self.flights:
            self.arrivals.append((flight.began + when * (self.time - flight.began), flight.units))
        self.flights.clear()

    def _restart(self) -> None:
        self.pending = None
        self.ledger = self.make(self.limits)
        if self.disk is not None:
            self.ledger.restore(self.disk, self.boot, self.now, self.time + self.wall_ahead)

    # -- what must hold ---------------------------------------------------------------------------------------------
    def most_in_a_window(self, seconds: float, rate: float) -> int:
        """The most that the receiver finds in a window, whose clock runs at ``rate``."""
        arrivals = sorted((at * rate, units) for at, units in self.arrivals)
        most = count = first = 0
        for at, units in arrivals:
            count += units
            while arrivals[first][0] < at - seconds:
                count -= arrivals[first][1]
                first += 1
            most = max(most, count)
        return most

    def check(self, rate: float) -> None:
        for limit in self.limits:
            most = self.most_in_a_window(limit.window, rate)
            assert most <= limit.count, f"{most} in a window of {limit.text}"


def kept(before: Kept | None, writing: Writing, boot: str, at: float, wall: float) -> Kept:
    """What stands on disk after ``writing``."""
    windows: dict[float, dict[int, int]] = {}
    if before is not None and not writing.anew:
        windows = {seconds: dict(uses) for seconds, uses in before.windows.items()}
    for seconds, uses in writing.windows.items():
        windows.setdefault(seconds, {}).update(uses)
    for seconds, oldest in writing.oldest.items():
        windows[seconds] = {number: used for number, used in windows[seconds].items() if number >= oldest}
    found = {seconds: tuple(sorted(uses.items())) for seconds, uses in windows.items() if uses}
    return replace(Kept(0, boot, at, wall, found), granted=writing.granted)
