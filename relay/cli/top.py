"""``relay top``: the status as a live view; a single frame where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import click

from relay.cli.access import CONTEXT, ask_once, config_option, fail, load_settings

if TYPE_CHECKING:
    from rich.console import Group

INTERVAL: Final = 1.0
PATIENCE: Final = 10.0
"""Seconds that a relay has for its answer before it counts as silent."""
_COLOURS: Final = {"up": "green", "backoff": "yellow", "paused": "yellow", "down": "red"}


@click.command(context_settings=CONTEXT)
@config_option
@click.pass_context
def top(context: click.Context) -> None:
    """Watch upstreams, limits and the queue, each second anew; q or Ctrl-C leaves.

    Where the output is no terminal it is one frame.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
        console.print(frame(ask_once(context, "status", {}), None, None))
        return
    _watch(console, load_settings(context).control.path)


def _watch(console: Any, path: str) -> None:
    from contextlib import suppress

    from rich.live import Live

    from relay.control.client import ask
    from relay.control.errors import Exit, Refused, Unreachable

    def answer() -> Mapping[str, Any]:
        (found,) = ask(path, "status", {}, timeout=PATIENCE)
        return dict(found)

    try:
        first = answer()
    except (Refused, Unreachable) as error:
        fail(f"no relay answers at {error}", Exit.UNAVAILABLE)
    before, asked, trouble = first, time.monotonic(), None
    shown = frame(first, None, None)
    with (
        suppress(KeyboardInterrupt),
        _Keys() as keys,
        Live(shown, console=console, screen=True, auto_refresh=False) as live,
    ):
        live.refresh()
        while not keys.left(INTERVAL):
            now = time.monotonic()
            try:
                latest, trouble = answer(), None
            except (Refused, Unreachable) as error:
                # It may be on its way back: what was last known stays in sight.
                latest, trouble = before, f"no relay answers: {error}"
            gone = latest["accepted_total"] - before["accepted_total"]
            accepted = None if trouble or gone < 0 else gone / (now - asked)
            live.update(frame(latest, accepted, trouble), refresh=True)
            before, asked = latest, now


class _Keys:
    """Looks for a "q" at the terminal while it waits; where standard input is none it just waits."""

    def __enter__(self) -> Self:
        import os
        import sys

        self._descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._restore: Callable[[], None] = lambda: None
        if self._descriptor is not None:
            import termios
            import tty

            found, descriptor = termios.tcgetattr(self._descriptor), self._descriptor
            self._restore = lambda: termios.tcsetattr(descriptor, termios.TCSADRAIN, found)
            tty.setcbreak(self._descriptor)
        self._read = os.read
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def left(self, seconds: float) -> bool:
        """Wait so long; whether somebody wants to leave."""
        import select

        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0:
            if self._descriptor is None:
                time.sleep(rest)
            elif select.select([self._descriptor], [], [], rest)[0]:
                pressed = self._read(self._descriptor, 64)
                if not pressed or b"q" in pressed.lower():
                    return True
        return False


def frame(answer: Mapping[str, Any], accepted: float | None, trouble: str | None) -> Group:
    """One picture of the status; ``accepted`` is messages a second, None: not known yet."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from relay.cli.text import shown, span

    queue = answer["queue"]
    head = Text(", ".join(f"{count:,} {state}" for state, count in queue.items()))
    if any(queue.values()):
        head.append(f"; the oldest arrived {span(answer['oldest_seconds'])} ago")
    leaving = sum(upstream["rate"] for upstream in answer["upstreams"].values())
    rates = f"in {'-' if accepted is None else f'{accepted:,.1f}/s'}   out {leaving:,.1f}/s"
    upstreams = Table(box=None, pad_edge=False)
    for column in ("UPSTREAM", "STATE"):
        upstreams.add_column(column, no_wrap=True)
    for column in ("CONN", "IN FLIGHT", "RATE", "WAITING", "DEFERRED", "SENT"):
        upstreams.add_column(column, justify="right", no_wrap=True)
    upstreams.add_column("LIMITS USED/LEFT")
    errors: list[Text] = []
    for name, upstream in answer["upstreams"].items():
        limits = ", ".join(f"{limit['limit']}: {limit['used']:,}/{limit['left']:,}" for limit in upstream["limits"])
        counts = [f"{upstream[key]:,}" for key in ("waiting", "deferred", "sent_total")]
        upstreams.add_row(
            Text(name),
            Text(upstream["state"], style=_COLOURS[upstream["state"]]),
            str(upstream["connections"]),
            str(upstream["in_flight"]),
            f"{upstream['rate']:,.1f}/s",
            *counts,
            Text(limits or "-"),
        )
        if upstream["last_error"]:
            errors.append(Text(f"{name}: {shown(upstream['last_error'])}", style="yellow"))
    parts: list[Any] = [Text(f"relay   {time.strftime('%H:%M:%S')}   {rates}"), head, Text(), upstreams]
    if errors:
        parts += [Text(), *errors]
    if trouble is not None:
        parts += [Text(), Text(shown(trouble), style="red")]
    return Group(*parts)
