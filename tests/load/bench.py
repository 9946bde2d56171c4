"""The relay beside Debian's Postfix in the same run: ``scripts/bench [--quick] [--rows a,b]``.

Both run at the same time on the same disk, each idle while the other is measured, A B A B; medians are reported with
all runs beside them. Both sync to disk before their 250 (counted by strace in a run of its own). Load comes from
Debian's smtp-source and goes to its smtp-sink; a round trip is simulated by a sink that holds its replies back.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from relay.spool.library import sqlite3
from tests.load.services import SMTP_SOURCE, Bench, DelaySink, Service, fsyncs
from tests.peers.postfix import unavailable

CONNECTIONS = 10
ROUND_TRIP = 0.05
PATIENCE = 180.0
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
    far: bool = False


ROWS = (
    Row("accept1", "accepted, 1 session kept open", 1, 1500),
    Row("accept10", "accepted, 10 sessions kept open", 10, 5000),
    Row("reconnect10", "accepted, 10 clients, a connection for each message", 10, 3000),
    Row("relayed20", "accepted and relayed, 20 sessions", 20, 6000, relayed=True),
    Row("far", "relayed through 50 ms round trips, 10 connections", 20, 600, relayed=True, far=True),
    Row("relayed20-20k", "accepted and relayed, 20 sessions, 20 KB", 20, 3000, 20_000, relayed=True),
    Row("relayed20-100k", "accepted and relayed, 20 sessions, 100 KB", 20, 1500, 100_000, relayed=True),
)


@dataclass
class Measured:
    """The runs of one row by one service."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)

    def cell(self) -> str:
        if not self.rates:
            return "-"
        runs = " ".join(f"{rate:,.0f}" for rate in self.rates)
        return f"**{statistics.median(self.rates):,.0f}**/s ({runs})"

    def cost(self) -> str:
        return f"{statistics.median(self.cpu) * 1e6:,.0f}" if self.cpu else "-"


def submit(service: Service, row: Row, messages: int) -> float:
    """Have smtp-source send ``messages``; the seconds it took."""
    began = time.monotonic()
    load = ("-s", str(row.sessions), "-m", str(messages), "-l", str(row.size), *(() if row.reconnect else ("-d",)))
    envelope = ("-f", "a@x.test", "-t", "b@y.test")
    subprocess.run([SMTP_SOURCE, *load, *envelope, f"127.0.0.1:{service.port}"], check=True, timeout=PATIENCE)
    return time.monotonic() - began


def run(service: Service, row: Row, messages: int, sink: DelaySink | None, measured: Measured) -> None:
    """One run: submit, wait until all is sent, note rate and cost."""
    sent, cpu = service.log.look(), service.cpu()
    if sink is not None:
        sink.count_anew()
    began = time.monotonic()
    accepted = submit(service, row, messages)
    relayed = service.log.wait(sent + messages, PATIENCE) - began
    # Removing what was sent belongs to the cost.
    time.sleep(0.3)
    measured.rates.append(messages / (relayed if row.relayed else accepted))
    measured.cpu.append((service.cpu() - cpu) / messages)
    if sink is not None:
        measured.round_trips.append(sink.counters()["round_trips"] / messages)


def measure(rows: Sequence[Row], rounds: int, share: float, command: list[str]) -> str:
    """Run all rows; the report."""
    results: dict[str, dict[str, Measured]] = {}
    syncs: dict[str, float] = {}
    with Bench() as bench:
        near = bench.smtp_sink()
        services = [bench.postfix(near, CONNECTIONS), bench.relay(near, CONNECTIONS, command)]
        far_sink = bench.delay_sink(ROUND_TRIP)
        far: list[Service] = []
        if any(row.far for row in rows):
            far = [bench.postfix(far_sink.port, CONNECTIONS), bench.relay(far_sink.port, CONNECTIONS, command)]
        for service in [*services, *far]:
            # Processes start, caches fill.
            warm = Row("warm", "", 20, 200, relayed=True)
            run(service, warm, warm.messages, None, Measured())
        for row in rows:
            messages = max(100, int(row.messages * share))
            for turn in range(rounds):
                for service in far if row.far else services:
                    name = service.name.split()[0]
                    measured = results.setdefault(row.key, {}).setdefault(name, Measured())
                    run(service, row, messages, far_sink if row.far else None, measured)
                    print(f"{row.key} {turn + 1}/{rounds} {name}: {measured.rates[-1]:,.0f}/s", flush=True)
        for service in services:
            row = Row("fsyncs", "", 10, 300, relayed=True)
            sent = service.log.look()

            def work(service: Service = service, row: Row = row, sent: int = sent) -> None:
                submit(service, row, row.messages)
                service.log.wait(sent + row.messages, PATIENCE)
                time.sleep(0.3)

            syncs[service.name.split()[0]] = fsyncs(service, work) / row.messages
        configurations = dict(bench.configurations)
        names = [service.name for service in services]
    return report(rows, rounds, share, results, syncs, names, configurations)


def report(
    rows: Sequence[Row],
    rounds: int,
    share: float,
    results: dict[str, dict[str, Measured]],
    syncs: dict[str, float],
    names: list[str],
    configurations: dict[str, str],
) -> str:
    """The page that docs/benchmarks.md is."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `scripts/bench`; run it again rather than believe it. Both relays run beside each other on one",
        "machine and share its cores with load generator (`smtp-source`) and sink (`smtp-sink`); runs alternate",
        f"(A B A B), {rounds} each; shown is the median and, in parentheses, every run. Messages of 2 KB where",
        "nothing else is said. Both sync to disk before their 250.",
        "",
        f"* {machine()}",
        f"* {', '.join(names)}; {versions()}",
        f"* {time.strftime('%Y-%m-%d')}, commit {commit()}{'' if share == 1 else f', a short run ({share:.0%})'}",
        "",
        "| | messages | Postfix | relay | ratio | CPU µs/message: Postfix | relay |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        postfix, relay = results[row.key]["Postfix"], results[row.key]["relay"]
        ratio = statistics.median(relay.rates) / statistics.median(postfix.rates)
        lines.append(
            f"| {row.what} | {max(100, int(row.messages * share)):,} | {postfix.cell()} | {relay.cell()} "
            f"| **{ratio:.1f} x** | {postfix.cost()} | {relay.cost()} |"
        )
    lines.append("")
    if "far" in results:
        trips = {name: statistics.median(found.round_trips) for name, found in results["far"].items()}
        lines += [
            "Round trips per message at 50 ms, counted by the sink, connecting included: "
            + ", ".join(f"{name} {count:.2f}" for name, count in trips.items())
            + ".",
            "",
        ]
    lines += [
        "Calls of fsync and its kin per message, 10 sessions, counted by strace in a run of its own: "
        + ", ".join(f"{name} {count:.2f}" for name, count in syncs.items())
        + ".",
        "",
        "CPU is of all processes of a service, from the first submission until the last message has left, client and",
        'sink not included. The rows "accepted" stop the clock at the last 250, while relaying goes on meanwhile.',
        "",
    ]
    for name, text in configurations.items():
        shown = "\n".join(line for line in text.strip().splitlines() if line)
        lines += [f"Configuration of {name}, all else default:", "", "```", anonymous(shown), "```", ""]
    return "\n".join(lines)


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="the relay beside Debian's Postfix")
    parser.add_argument("--quick", action="store_true", help="a quarter of the messages, two rounds, nothing written")
    parser.add_argument("--rows", default=",".join(row.key for row in ROWS), help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each row by each service")
    parser.add_argument("--output", type=Path, help="where the report goes; default docs/benchmarks.md for all rows")
    chosen = parser.parse_args()
    if reason := unavailable():
        print(f"no bench: {reason}", file=sys.stderr)
        return 69
    keys = chosen.rows.split(",")
    rows = [row for row in ROWS if row.key in keys]
    if len(rows) != len(keys):
        parser.error(f"rows are {', '.join(row.key for row in ROWS)}")
    text = measure(
        rows, chosen.rounds or (2 if chosen.quick else 3), 0.25 if chosen.quick else 1, [sys.executable, "-m", "relay"]
    )
    print(text)
    whole = not chosen.quick and len(rows) == len(ROWS)
    if output := chosen.output or (ROOT / "docs" / "benchmarks.md" if whole else None):
        output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
