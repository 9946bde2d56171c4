"""All figures by name, with their rounds in the tests and at night; those with ``control`` must find something."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.torture import days, death, floods, kills, powercut, restarts, storage
from tests.torture.defective import program
from tests.torture.finding import Figure


@dataclass(frozen=True)
class Choice:
    """A figure, and how often its fault is done."""

    run: Figure
    quick: int
    nightly: int
    control: bool = False


_EARLY = partial(kills.kill_at_random, program=program("answers-before-the-commit"))
_NORMAL = partial(powercut.cut_power, program=program("synchronous-normal"))
_UNSYNCED = partial(powercut.cut_power, environment=powercut.EATMYDATA)
_FORGETFUL = partial(death.message_of_death, command=program("forgets-what-killed-it"))
_FROM_NOTHING = partial(days.two_days, remembers=False)
_STOCK = partial(storage.disk_full, program=program("errors-as-the-library-answers-them"))

FIGURES = {
    "R1": Choice(kills.kill_at_random, 20, 2000),
    "R1-control": Choice(_EARLY, 5, 20, control=True),
    "R2": Choice(kills.kill_at_each_call, 2, 300),
    "R3": Choice(powercut.cut_power, 4, 200),
    "R3-control-normal": Choice(_NORMAL, 2, 20, control=True),
    "R3-control-eatmydata": Choice(_UNSYNCED, 2, 20, control=True),
    "R4-full": Choice(storage.disk_full, 1, 20),
    "R4-fsync": Choice(storage.io_error, 2, 50),
    "R4-write": Choice(partial(storage.io_error, call="pwrite64,write"), 2, 50),
    "R4-readonly-write": Choice(partial(storage.io_error, call="pwrite64,write", error="EROFS"), 1, 10),
    "R4-large": Choice(storage.file_too_large, 1, 10),
    "R4-slow": Choice(storage.slow_disk, 1, 5),
    "R4-reader": Choice(partial(storage.long_reader, seconds=3.0), 1, 3),
    "R4-reader-60": Choice(partial(storage.long_reader, seconds=60.0), 1, 1),
    "R4-files": Choice(storage.descriptors_used_up, 1, 10),
    "R4-readonly": Choice(storage.read_only, 1, 5),
    "R4-locked": Choice(partial(storage.locked_by_another, seconds=5.0), 1, 3),
    "R4-locked-30": Choice(storage.locked_by_another, 1, 3),
    "R4-damaged": Choice(storage.damaged, 12, 500),
    "R4-control": Choice(_STOCK, 1, 3, control=True),
    "R10": Choice(partial(floods.flooded, many=500), 1, 1),
    "R10-2000": Choice(floods.flooded, 1, 3),
    "R10-5000": Choice(floods.many_connections, 1, 3),
    "R10-large": Choice(partial(floods.large_at_once, count=30), 1, 1),
    "R10-large-100": Choice(floods.large_at_once, 1, 3),
    "R10-control": Choice(partial(floods.flooded, caps=False), 1, 1, control=True),
    "R11": Choice(death.message_of_death, 1, 6),
    "R11-control": Choice(_FORGETFUL, 1, 1, control=True),
    "R12": Choice(days.two_days, 1, 20),
    "R12-control": Choice(_FROM_NOTHING, 1, 1, control=True),
    "R15": Choice(restarts.restart_under_load, 10, 100),
}
