"""What a bench found, as the page docs/benchmarks.md and its picture."""

from __future__ import annotations

import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from relay.spool.library import sqlite3
from tests.load.depth import Depth
from tests.load.lone import share
from tests.load.picture import picture

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One kind of load. ``relayed``: the clock runs until the last message is sent, not only accepted."""

    key: str
    what: str
    sessions: int
    messages: int
    size: int = 2048
    relayed: bool = False
    reconnect: bool = False
    place: str = "near"
    """Where its mail goes, and how: "near" smtp-sink; "far" a sink with a round trip; "chunked" the same with CHUNKING;
    "signed": near, with DKIM signatures by the relay and none by Postfix.
    """


@dataclass
class Measured:
    """The runs of one row by one service."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    messages: int = 0

    def cell(self) -> str:
        if not self.rates:
            return "-"
        runs = " ".join(f"{rate:,.0f}" for rate in self.rates)
        return f"**{statistics.median(self.rates):,.0f}**/s ({runs})"

    def cost(self) -> str:
        return f"{statistics.median(self.cpu) * 1e6:,.0f}" if self.cpu else "-"


@dataclass
class Report:
    """All that was measured."""

    rows: Sequence[Row]
    rounds: int
    part: float
    results: dict[str, dict[str, Measured]] = field(default_factory=dict)
    syncs: dict[str, float] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    backlog: int = 0
    depths: list[Depth] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    configurations: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The page."""
        lines = [
            "# Benchmarks",
            "",
            "Written by `scripts/bench`; run it again rather than believe it. Both relays run beside each other on one",
            "machine and share its cores with load generator (`smtp-source`) and sink (`smtp-sink`); runs alternate",
            f"(A B A B), {self.rounds} each; shown is the median and, in parentheses, every run. Messages of 2 KB",
            "where nothing else is said. Both sync to disk before their 250.",
            "",
            f"* {machine()}",
            f"* {', '.join(self.names)}; {versions()}",
            f"* {time.strftime('%Y-%m-%d')}, commit {commit()}"
            + ("" if self.part == 1 else f", a short run ({self.part:.0%})"),
            "",
            "![Rates and latencies](benchmarks.svg)",
            "",
            *self._table(),
            *self._latencies(),
            *self._depths(),
        ]
        if "far" in self.results:
            trips = {name: statistics.median(found.round_trips) for name, found in self.results["far"].items()}
            lines += [
                "Round trips per message at 50 ms, counted by the sink, connecting included: "
                + ", ".join(f"{name} {count:.2f}" for name, count in trips.items())
                + ".",
                "",
            ]
        lines += [
            "Calls of fsync and its kin per message, 10 sessions, counted by strace in a run of its own: "
            + ", ".join(f"{name} {count:.2f}" for name, count in self.syncs.items())
            + ".",
            "",
            "CPU is of all processes of a service, from the first submission until the last message has left, client",
            'and sink not included. The rows "accepted" stop the clock at the last 250, while relaying goes on.',
            "",
        ]
        for name, text in self.configurations.items():
            shown = "\n".join(line for line in text.strip().splitlines() if line)
            lines += [f"Configuration of {name}, all else default:", "", "```", anonymous(shown), "```", ""]
        return "\n".join(lines)

    def picture(self) -> str:
        """Bars and curves as SVG."""
        rates = [
            (row.what, {name: statistics.median(found.rates) for name, found in self.results[row.key].items()})
            for row in self.rows
        ]
        return picture(rates, self.latencies)

    def _table(self) -> list[str]:
        lines = [
            "| | messages | Postfix | relay | ratio | CPU µs/message: Postfix | relay |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            postfix, relay = self.results[row.key]["Postfix"], self.results[row.key]["relay"]
            ratio = statistics.median(relay.rates) / statistics.median(postfix.rates)
            lines.append(
                f"| {row.what} | {relay.messages:,} | {postfix.cell()} | {relay.cell()} "
                f"| **{ratio:.1f} x** | {postfix.cost()} | {relay.cost()} |"
            )
        return [*lines, ""]

    def _latencies(self) -> list[str]:
        if not self.latencies:
            return []
        return [
            f"Accept latency of a lone client, one message every 10 ms, while a backlog of {self.backlog:,} messages",
            "drains to a sink that answers at once:",
            "",
            "| | p50 | p90 | p99 | worst |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | "
                + " | ".join(f"{share(found, part) * 1000:.2f} ms" for part in (0.5, 0.9, 0.99, 1))
                + " |"
                for name, found in self.latencies.items()
            ),
            "",
        ]

    def _depths(self) -> list[str]:
        if not self.depths:
            return []
        lines = [
            "The relay with a full spool (messages of 2 KB that fall due tomorrow), accepted and relayed, 20 sessions:",
            "",
            "| queued | rate | start until it listens | memory after the start | after the runs |",
            "|---|---|---|---|---|",
        ]
        for depth in self.depths:
            runs = " ".join(f"{rate:,.0f}" for rate in depth.rates)
            lines.append(
                f"| {depth.queued:,} | **{statistics.median(depth.rates):,.0f}**/s ({runs}) | {depth.start:.2f} s "
                f"| {depth.resident:.0f} MB | {depth.resident_after:.0f} MB |"
            )
        return [*lines, ""]


def anonymous(text: str) -> str:
    """Without the ports and folders of this run."""
    text = re.sub(r"/tmp/(?:bench|postfix)-\w+", "FOLDER", text)
    return re.sub(r"\b[23]\d{4}\b(?=[\"\s]|$)", "PORT", text)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kind = subprocess.run(["df", "--output=fstype", "/tmp"], capture_output=True, text=True, check=False)
    system = f"{platform.system()} {platform.release()}"
    model = models[0] if models else platform.machine()
    return f"{len(models)} cores of {model}, {system}, spools on {kind.stdout.split()[-1]}"


def versions() -> str:
    packages = " ".join(f"{name} {version(name)}" for name in ("uvloop", "aiosmtpd", "aiosmtplib"))
    python = platform.python_version()
    return f"relay {version('relay')} on Python {python}, SQLite {sqlite3.sqlite_version}, {packages}"


def commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return f"{git('rev-parse', '--short', 'HEAD')}{' with changes' if git('status', '--porcelain', 'relay') else ''}"
