"""``relay bench``: what this installation does, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli.access import CONTEXT, config_option, config_path, fail, json_option

if TYPE_CHECKING:
    from relay.daemon.bench import Figures

EX_TEMPFAIL: Final = 75

_HEAD: Final = (
    *("CLIENTS", "SIZE", "UPSTREAM", "ACCEPT P50", "ACCEPT P99", "ACCEPTED", "RELAYED"),
    *("ROUND TRIPS/MSG", "SYNCS/MSG", "CPU/MSG"),
)
MAX_CLIENTS: Final = 1000
MAX_SIZE: Final = 25_000_000
MAX_DELAY: Final = 10_000.0


def _counts(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    counts = [int(each) if each.isascii() and each.isdigit() and len(each) < 9 else 0 for each in text.split(",")]
    if not all(0 < count <= MAX_CLIENTS for count in counts):
        raise click.BadParameter(f"numbers from 1 to {MAX_CLIENTS} with commas between")
    return counts


def _sizes(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
    from relay.config.problems import Unreadable
    from relay.config.values import read
    from relay.spelling import Spelling

    try:
        sizes = [int(str(read(Spelling.SIZE, each, Path()))) for each in text.split(",")]
    except Unreadable as error:
        raise click.BadParameter(f"{error.allowed}, with commas between") from None
    if max(sizes) > MAX_SIZE:
        raise click.BadParameter(f"at most {MAX_SIZE} octets")
    return sizes


def _delays(_context: click.Context, _parameter: click.Parameter, text: str) -> list[float]:
    try:
        delays = [float(each) for each in text.split(",")]
    except ValueError:
        delays = [-1.0]
    if not all(0 <= delay <= MAX_DELAY for delay in delays):
        raise click.BadParameter(f"milliseconds from 0 to {MAX_DELAY:g} with commas between")
    return [delay / 1000 for delay in delays]


@click.command(context_settings=CONTEXT)
@config_option
@json_option
@click.option("--clients", default="1,20", callback=_counts, metavar="N,…", help="Clients at a time  [default: 1,20]")
@click.option("--sizes", default="2kB,100kB", callback=_sizes, metavar="SIZE,…", help="[default: 2kB,100kB]")
@click.option(
    "--delays", default="0,50", callback=_delays, metavar="MS,…", help="Milliseconds to the upstream  [default: 0,50]"
)
@click.option("--messages", default=2000, type=click.IntRange(10, 1_000_000), help="Of a run at the most.")
@click.option("--seconds", default=5.0, type=click.FloatRange(0.1, 3600), help="Of a run's submission at the most.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where the bench makes its spool  [default: beside the configured one]",
)
@click.pass_context
def bench(
    context: click.Context,
    clients: list[int],
    sizes: list[int],
    delays: list[float],
    messages: int,
    seconds: float,
    folder: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure this machine and disk: accept latency, messages a second, round trips and syncs a message.

    A relay of its own, with a spool of its own, takes messages from clients and relays them to an upstream, all within
    this machine; nothing else is touched, nothing is left behind. Each combination of clients, size and round trip is
    one run. Clients and upstream take processor time too: on few cores the figures are lower than with applications
    elsewhere.
    """
    import json

    from relay.cli.text import columns
    from relay.daemon.bench import Cell, NotMeasured, measure

    cells = [Cell(each, size, delay) for delay in delays for size in sizes for each in clients]
    done: list[Figures] = []

    def told(figures: Figures) -> None:
        done.append(figures)
        if not as_json:
            cell = figures.cell
            click.echo(f"{cell.clients} clients, {cell.size} octets, {cell.delay * 1000:g} ms: done", err=True)

    try:
        measure(cells, folder=folder or _beside_the_spool(context), messages=messages, seconds=seconds, told=told)
    except NotMeasured as error:
        fail(str(error), EX_TEMPFAIL)
    if as_json:
        click.echo(json.dumps([_object(figures) for figures in done], indent=2))
    else:
        click.echo(columns([_HEAD, *(_row(figures) for figures in done)]))


def _row(figures: Figures) -> tuple[str, ...]:
    cell = figures.cell
    return (
        f"{cell.clients}",
        f"{cell.size:,}",
        f"{cell.delay * 1000:g} ms",
        f"{figures.accept_p50 * 1000:.2f} ms",
        f"{figures.accept_p99 * 1000:.2f} ms",
        f"{figures.accepted:,.0f}/s",
        f"{figures.relayed:,.0f}/s",
        f"{figures.round_trips:.2f}",
        "-" if figures.syncs is None else f"{figures.syncs:.2f}",
        f"{figures.cpu * 1e6:,.0f} µs",
    )


def _object(figures: Figures) -> dict[str, Any]:
    cell = figures.cell
    return {
        "clients": cell.clients,
        "size": cell.size,
        "upstream_delay_seconds": cell.delay,
        "messages": figures.messages,
        "accept_p50_seconds": figures.accept_p50,
        "accept_p99_seconds": figures.accept_p99,
        "accepted_per_second": figures.accepted,
        "relayed_per_second": figures.relayed,
        "round_trips_per_message": figures.round_trips,
        "syncs_per_message": figures.syncs,
        "cpu_seconds_per_message": figures.cpu,
    }


def _beside_the_spool(context: click.Context) -> Path | None:
    """The folder of the configured spool, whose disk is the one that counts; None where there is none to write to."""
    import os

    from relay.config import ConfigError, load

    try:
        folder = Path(load(config_path(context), os.environ).spool.path).parent
    except ConfigError:
        return None
    return folder if os.access(folder, os.W_OK) else None
