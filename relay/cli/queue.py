"""``relay queue``: look at open messages and change what becomes of them, by id or by what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from relay.cli.access import CONTEXT, ask, ask_once, config_option, fail, json_option

F = TypeVar("F", bound=Callable[..., Any])


class DurationType(click.ParamType[float]):
    """A duration as relay.toml spells it; gives seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read ``value``, which is a text or seconds already."""
        from pathlib import Path

        from relay.config.values import read
        from relay.spelling import Spelling

        if isinstance(value, float):
            return value
        try:
            seconds = read(Spelling.PERIOD, value, Path())
        except ValueError:
            self.fail(f"{value!r} is no duration; allowed: a number and s, m, h or d, such as 90s or 4h", param, ctx)
        assert isinstance(seconds, float)
        return seconds


def selecting(command: F) -> F:
    """Give a command the ids and options that choose messages, as one argument ``chosen``."""
    for option in (
        click.option("--all", is_flag=True, help="All open messages."),
        click.option("--limit", type=click.IntRange(min=1), help="At most so many messages, the oldest."),
        click.option("--older-than", type=DurationType(), help="Arrived longer ago than this: 90s, 5m, 4h, 2d."),
        click.option(
            "--state",
            type=click.Choice(["waiting", "leased", "deferred", "held", "dead"]),
            help="In this state; dead: held, as a notification that could not be delivered.",
        ),
        click.option("--upstream", metavar="NAME", help="Last tried at this upstream."),
        click.option("--domain", metavar="DOMAIN", help="To a recipient in this domain."),
        click.option("--recipient", metavar="ADDRESS", help="To this recipient."),
        click.option("--sender", metavar="ADDRESS", help="From this sender; '' is the null one."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


def _arguments(chosen: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in chosen.items() if value is not None and value not in {(), False}}


@click.group(context_settings=CONTEXT)
@config_option
def queue() -> None:
    """Open messages: list, count, hold, release, retry, remove, bounce."""


@queue.command("list", context_settings=CONTEXT)
@config_option
@selecting
@json_option
@click.pass_context
def list_(context: click.Context, /, *, as_json: bool, **chosen: Any) -> None:
    """List messages, the oldest first; without ids or conditions all of them."""
    wanted = _arguments(chosen)
    if not _print(ask(context, "list", wanted), as_json=as_json) and not as_json and wanted.keys() <= {"all"}:
        click.echo("Mail queue is empty")  # mailq's words


@queue.command(context_settings=CONTEXT)
@config_option
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
@click.pass_context
def show(context: click.Context, ids: tuple[str, ...], *, as_json: bool) -> None:
    """Show messages, each with its recipients and the last reply; exit 1 where none of them is open."""
    if not _print(ask(context, "list", {"ids": ids}), as_json=as_json):
        fail("no such message in the queue (relay trace also finds those that are done)", 1)


@queue.command(context_settings=CONTEXT)
@config_option
@selecting
@json_option
@click.pass_context
def count(context: click.Context, /, *, as_json: bool, **chosen: Any) -> None:
    """Count messages by state."""
    counted = ask_once(context, "count", _arguments(chosen))
    if as_json:
        _print_json(counted)
    else:
        from relay.cli.text import columns

        click.echo(columns(list(counted.items()), right=(1,)))


def _changing(verb: str, done: str, sentence: str) -> click.Command:
    """The commands that change messages differ in nothing but their words."""

    def change(context: click.Context, /, *, as_json: bool, **chosen: Any) -> None:
        answer = ask_once(context, verb, _arguments(chosen))
        if as_json:
            _print_json(answer)
        else:
            changed, in_flight = answer["changed"], answer["in_flight"]
            busy = f"; {in_flight} being relayed at this moment" if in_flight else ""
            click.echo(f"{changed} message{'' if changed == 1 else 's'} {done}{busy}")
        if not answer["changed"]:
            raise click.exceptions.Exit(1)

    change.__doc__ = sentence
    decorated = config_option(selecting(json_option(click.pass_context(change))))
    return queue.command(verb, context_settings=CONTEXT)(decorated)


hold = _changing("hold", "held", "Keep messages from being relayed until they are released.")
release = _changing("release", "released", "Let held messages go; they are due at once.")
retry = _changing("retry", "due now", "Attempt deferred messages now.")
remove = _changing("remove", "removed", "Delete messages; their senders are not told.")
bounce = _changing("bounce", "bounced", "Return messages to their senders; needs the running relay.")


def _print(parts: Iterator[list[dict[str, Any]]], *, as_json: bool) -> int:
    """Print messages as they come, so that a long queue is nowhere in memory whole; how many they were."""
    import json

    from relay.cli.text import message

    printed = 0
    for part in parts:
        for record in part:
            if as_json:
                click.echo(("," if printed else "[") + "\n" + json.dumps(record, ensure_ascii=False), nl=False)
            else:
                click.echo(message(record))
            printed += 1
    if as_json:
        click.echo("\n]" if printed else "[]")
    return printed


def _print_json(answer: Any) -> None:
    import json

    click.echo(json.dumps(answer, ensure_ascii=False))
