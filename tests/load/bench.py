"""The relay beside Debian's Postfix in the same run: ``scripts/bench [--quick] [--rows a,b]``.

Both run at the same time on the same disk, each idle while the other is measured, A B A B; medians are reported with
all runs beside them. Both sync to disk before their 250 (counted by strace in a run of its own). Load comes from
Debian's smtp-source and goes to its smtp-sink; a round trip is simulated by a sink that holds its replies back.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.load.depth import Depth, resident
from tests.load.lone import latencies
from tests.load.report import Measured, Report, Row
from tests.load.services import SMTP_SOURCE, Bench, DelaySink, Service, fsyncs
from tests.peers.postfix import unavailable

CONNECTIONS = 10
ROUND_TRIP = 0.05
PATIENCE = 180.0
ROOT = Path(__file__).parents[2]


ROWS = (
    Row("accept1", "accepted, 1 session kept open", 1, 1500),
    Row("accept10", "accepted, 10 sessions kept open", 10, 5000),
    Row("reconnect10", "accepted, 10 clients, a connection for each message", 10, 3000),
    Row("relayed20", "accepted and relayed, 20 sessions", 20, 6000, relayed=True),
    Row("signed20", "the same, RSA-2048 DKIM signatures (Postfix: none)", 20, 4000, relayed=True, place="signed"),
    Row("far", "relayed through 50 ms round trips, 10 connections", 20, 600, relayed=True, place="far"),
    Row("chunked", "the same, upstream with CHUNKING", 20, 600, relayed=True, place="chunked"),
    Row("relayed20-20k", "accepted and relayed, 20 sessions, 20 KB", 20, 3000, 20_000, relayed=True),
    Row("relayed20-100k", "accepted and relayed, 20 sessions, 100 KB", 20, 1500, 100_000, relayed=True),
    Row("relayed4-5m", "accepted and relayed, 4 sessions, 5 MB", 4, 40, 5_000_000, relayed=True),
)
BACKLOG = 100_000
DEPTHS = (1_000, 100_000, 1_000_000)
EXTRAS = ("lone", "depth")


def submit(service: Service, row: Row, messages: int, *, within: float = PATIENCE) -> float:
    """Have smtp-source send ``messages``; the seconds it took."""
    began = time.monotonic()
    load = ("-s", str(row.sessions), "-m", str(messages), "-l", str(row.size), *(() if row.reconnect else ("-d",)))
    envelope = ("-f", "a@x.test", "-t", "b@y.test")
    subprocess.run([SMTP_SOURCE, *load, *envelope, f"127.0.0.1:{service.port}"], check=True, timeout=within)
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
    measured.messages = messages
    measured.rates.append(messages / (relayed if row.relayed else accepted))
    measured.cpu.append((service.cpu() - cpu) / messages)
    if sink is not None:
        measured.round_trips.append(sink.counters()["round_trips"] / messages)


def measure(rows: Sequence[Row], extras: Sequence[str], rounds: int, share: float, command: list[str]) -> Report:
    """Run all rows."""
    found = Report(rows, rounds, share)
    with Bench() as bench:
        near = bench.smtp_sink()
        services = [bench.postfix(near, CONNECTIONS), bench.relay(near, CONNECTIONS, command)]
        found.names = [service.name for service in services]
        places: dict[str, tuple[list[Service], DelaySink | None]] = {"near": (services, None)}
        wanted = {row.place for row in rows}
        for place in sorted(wanted - {"near"}):
            places[place] = at(bench, place, services, near, command)
        for others, _ in places.values():
            for service in others:
                # Processes start, caches fill.
                run(service, Row("warm", "", 20, 200, relayed=True), 200, None, Measured())
        for row in rows:
            messages = max(4 * row.sessions if row.size > 1_000_000 else 100, int(row.messages * share))
            for turn in range(rounds):
                for service in places[row.place][0]:
                    name = service.name.split()[0]
                    measured = found.results.setdefault(row.key, {}).setdefault(name, Measured())
                    run(service, row, messages, places[row.place][1], measured)
                    print(f"{row.key} {turn + 1}/{rounds} {name}: {measured.rates[-1]:,.0f}/s", flush=True)
        for service in services:
            row = Row("fsyncs", "", 10, 300, relayed=True)
            sent = service.log.look()

            def work(service: Service = service, row: Row = row, sent: int = sent) -> None:
                submit(service, row, row.messages)
                service.log.wait(sent + row.messages, PATIENCE)
                time.sleep(0.3)

            found.syncs[service.name.split()[0]] = fsyncs(service, work) / row.messages
        if "lone" in extras:
            found.backlog = max(20_000, int(BACKLOG * share))
            sink = bench.smtp_sink()
            for service in (bench.postfix(sink, CONNECTIONS), bench.relay(sink, CONNECTIONS, command)):
                found.latencies[service.name.split()[0]] = lone(bench, service, sink, found.backlog)
        if "depth" in extras:
            for queued in DEPTHS:
                found.depths.append(deep(bench, near, command, queued, rounds, share))
        found.configurations = dict(bench.configurations)
    return found


def at(
    bench: Bench, place: str, services: list[Service], near: int, command: list[str]
) -> tuple[list[Service], DelaySink | None]:
    """The services whose mail goes to ``place``, and its sink where that counts."""
    if place == "signed":
        return [services[0], bench.relay(near, CONNECTIONS, command, signed=True)], None
    sink = bench.delay_sink(ROUND_TRIP, chunking=place == "chunked")
    return [bench.postfix(sink.port, CONNECTIONS), bench.relay(sink.port, CONNECTIONS, command)], sink


def lone(bench: Bench, service: Service, sink: int, backlog: int) -> list[float]:
    """The latencies of a lone client's submissions while ``backlog`` messages drain, as fast as they go."""
    sent = service.log.look()
    with bench.held(sink):
        submit(service, Row("backlog", "", 20, backlog), backlog, within=10 * PATIENCE)
    found = latencies(service.port, 500, 0.01)
    left = backlog - (service.log.look() - sent)
    print(f"lone {service.name.split()[0]}: {left:,} of the backlog left at the end", flush=True)
    if left <= 0:
        raise RuntimeError("the backlog was gone before the lone client had finished")
    return found


def deep(bench: Bench, sink: int, command: list[str], queued: int, rounds: int, share: float) -> Depth:
    """The relay with ``queued`` messages in its spool: its start, its rates, its memory."""
    service, start = bench.deep_relay(sink, CONNECTIONS, command, queued)
    memory = resident(service.root())
    measured = Measured()
    row = Row("depth", "", 20, 6000, relayed=True)
    run(service, Row("warm", "", 20, 200, relayed=True), 200, None, Measured())
    for _ in range(rounds):
        run(service, row, max(100, int(row.messages * share)), None, measured)
    found = Depth(queued, start, memory, tuple(measured.rates), resident(service.root()))
    bench.end(service)
    print(
        f"depth {queued:,}: {statistics.median(found.rates):,.0f}/s, start {start:.2f} s, {memory:.0f} MB", flush=True
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="the relay beside Debian's Postfix")
    parser.add_argument("--quick", action="store_true", help="a quarter of the messages, two rounds, nothing written")
    known = [*(row.key for row in ROWS), *EXTRAS]
    parser.add_argument("--rows", default=",".join(known), help=f"which, with commas between: {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each row by each service")
    parser.add_argument("--output", type=Path, help="where the report goes; default docs/benchmarks.md for all rows")
    chosen = parser.parse_args()
    if reason := unavailable():
        print(f"no bench: {reason}", file=sys.stderr)
        return 69
    keys = chosen.rows.split(",")
    rows = [row for row in ROWS if row.key in keys]
    if not set(keys) <= set(known):
        parser.error(f"rows are {', '.join(known)}")
    rounds, share = chosen.rounds or (2 if chosen.quick else 3), 0.25 if chosen.quick else 1
    extras = [key for key in EXTRAS if key in keys]
    found = measure(rows, extras, rounds, share, [sys.executable, "-m", "relay"])
    print(found.text())
    whole = not chosen.quick and set(keys) == set(known)
    if output := chosen.output or (ROOT / "docs" / "benchmarks.md" if whole else None):
        output.write_text(found.text())
        output.with_suffix(".svg").write_text(found.picture())
    return 0


if __name__ == "__main__":
    sys.exit(main())
