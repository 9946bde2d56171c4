"""``relay plan``: how fast mail leaves, and when it will all be out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from relay.cli.access import CONTEXT, ask_once, config_option, json_option


@click.command(context_settings=CONTEXT)
@config_option
@click.option(
    "--messages",
    type=click.IntRange(0, 10**9),
    default=0,
    metavar="N",
    help="Ask ahead: N messages more than wait now.",
)
@json_option
@click.pass_context
def plan(context: click.Context, messages: int, *, as_json: bool) -> None:
    """Estimate sending speeds, when the backlog clears and what holds it up.

    Delivery is rehearsed on a simulated clock: with the limits as they are used now, pauses, warm-up, routes, and the
    time that each upstream was seen to take. No further mail is reckoned with, nor that upstreams defer any.
    """
    import json

    answer = ask_once(context, "plan", {"messages": messages})
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2) if as_json else shown(answer))


def shown(answer: Mapping[str, Any]) -> str:
    """The answer for people."""
    from relay.cli.text import columns

    rows: list[tuple[object, ...]] = [
        ("UPSTREAM", "STATE", "SECOND", "MINUTE", "HOUR", "DAY", "TAKES", "HELD UP BY"),
    ]
    guessed = False
    for name, upstream in answer["upstreams"].items():
        bound = upstream["bound_by"]
        why = "-" if bound is None else bound["what"]
        if bound is not None and bound["kind"] == "connections":
            mark = "" if upstream["measured"] else ", assumed"
            why = f"{why} at {upstream['seconds_per_message'] * 1000:.3g} ms a message{mark}"
        guessed |= not upstream["measured"]
        rows.append((name, upstream["state"], *_speeds(upstream["speed"]), _count(upstream["messages"]), why))
    taken = sum(upstream["messages"] for upstream in answer["upstreams"].values())
    rows.append(("together", "", *_speeds(answer["together"]), _count(taken), ""))
    lines = [columns(rows, right=range(2, 7)), "", _waiting(answer), _end(answer)]
    if answer["clears_in_seconds"] is None or answer["clears_in_seconds"] > answer["lifetime_seconds"]:
        lines.append(f"what waits longer than [queue] lifetime, {span(answer['lifetime_seconds'])}, expires before")
    if guessed:
        lines.append("an upstream that was not measured since the start is assumed to take 100 ms for a message")
    return "\n".join(lines)


def _waiting(answer: Mapping[str, Any]) -> str:
    text = f"{_count(answer['messages'])} messages wait"
    if answer["deferred"]:
        text += f", {_count(answer['deferred'])} of them deferred"
    return f"{text}; asked ahead for {_count(answer['ahead'])} more" if answer["ahead"] else text


def _end(answer: Mapping[str, Any]) -> str:
    from relay.cli.text import local

    if not answer["messages"] + answer["ahead"]:
        return "nothing to clear"
    if answer["clears_at"] is None:
        return "clears not within a year"
    text = f"clears at {local(answer['clears_at'])}, in {span(answer['clears_in_seconds'])}"
    bound = answer["bound_by"]
    return text if bound is None else f"{text}; held up by {bound['what']} of {bound['upstream']}"


def _speeds(speed: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(_count(speed[period]) for period in ("second", "minute", "hour", "day"))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def span(seconds: float) -> str:
    """Seconds as people say it: "2 h 13 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    rest = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))
