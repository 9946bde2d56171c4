"""What a figure found: one line, one row of docs/reliability.md."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.peers.ledger import Verdict


@dataclass
class Finding:
    """The counts of one fault's rounds; ``wrong`` says what must not be, and is empty where all went as it should."""

    fault: str
    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    behaviour: str = ""
    wrong: list[str] = field(default_factory=list)

    def count(self, verdict: Verdict) -> None:
        """Add a ledger's verdict; loss, alteration and phantoms are wrong, duplicates only by who counts them."""
        self.acknowledged += verdict.acknowledged
        self.lost += len(verdict.lost)
        self.duplicated += sum(len(times) - 1 for times in verdict.repeated.values())
        for what, names in (("lost", verdict.lost), ("altered", verdict.altered), ("phantom", verdict.phantom)):
            if names:
                self.wrong.append(f"{len(names)} {what} ({', '.join(sorted(names)[:3])})")

    def expect(self, what: str, *, holds: bool) -> None:
        """Note ``what`` as wrong unless it ``holds``."""
        if not holds:
            self.wrong.append(what)

    def line(self) -> str:
        """For a person at a terminal."""
        verdict = "FAILED: " + "; ".join(self.wrong) if self.wrong else "ok"
        counted = f"{self.rounds} rounds, {self.acknowledged} acknowledged, {self.lost} lost, {self.duplicated} twice"
        return f"{self.fault}: {counted}; {self.behaviour or '-'} -- {verdict}"

    def row(self) -> str:
        """For the table."""
        cells = (self.fault, self.rounds, self.acknowledged, self.lost, self.duplicated, self.behaviour)
        return "".join(f"| {cell} " for cell in cells) + "|"


Figure = Callable[[Path, int], Awaitable[Finding]]


def need_root() -> None:
    """Skip where file systems can't be mounted."""
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount a disk of its own")


def need_program(name: str) -> str:
    """The path of a program, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def run(*command: str | Path) -> None:
    """Run a program of the system that has nothing to say; AssertionError where it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, f"{command}: {said.decode('utf-8', 'replace')}"


async def at_a_time(width: int, works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, ``width`` at a time."""
    gate = asyncio.Semaphore(width)

    async def one(work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await work()

    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(one(work))
