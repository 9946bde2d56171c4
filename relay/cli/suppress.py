"""``relay suppress``: addresses that get no mail; ``relay feedback``: abuse reports that came by mail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli.access import CONTEXT, ask, ask_once, config_option, fail, json_option, load_settings
from relay.cli.queue import DurationType

if TYPE_CHECKING:
    from relay.feedback import Feedback
    from relay.feedback.lists import Listed

_BATCH: Final = 1000
_CAUSES: Final = click.Choice(["bounce", "complaint", "operator"])


@click.group(context_settings=CONTEXT)
@config_option
def suppress() -> None:
    """Addresses that get no mail: hard bounces, complaints, and what you add."""


@suppress.command("list", context_settings=CONTEXT)
@config_option
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@click.option("--domain", metavar="DOMAIN", help="Of this domain.")
@click.option("--cause", type=_CAUSES, help="For this cause.")
@click.option("--newer-than", type=DurationType(), help="Suppressed within this time: 90s, 5m, 4h, 2d.")
@json_option
@click.pass_context
def list_(context: click.Context, /, *, as_json: bool, **chosen: Any) -> None:
    """Show them, in the order they came; with addresses whether these are suppressed (exit 1: none is).

    As JSON: a list of objects with address, cause, since, until (null: until it is removed) and detail.
    """
    import json

    from relay.cli import text

    found = [each for part in ask(context, "suppressions", _arguments(chosen)) for each in part]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif found:
        rows = [("ADDRESS", "CAUSE", "SINCE", "UNTIL", "DETAIL")]
        keys = ("address", "cause")
        for each in found:
            shown = [*(each[key] for key in keys), text.local(each["since"]), text.local(each["until"]), each["detail"]]
            rows.append(tuple(shown))
        click.echo(text.columns(rows))
    if chosen["addresses"] and not found:
        fail("not suppressed", 1)


@suppress.command(context_settings=CONTEXT)
@config_option
@click.argument("addresses", nargs=-1, metavar="ADDRESS...", required=True)
@click.option("--ttl", type=DurationType(), help="For so long: 30d.  [default: until it is removed]")
@click.option("--reason", default="added by hand", show_default=True, help="What the list says of it.")
@json_option
@click.pass_context
def add(context: click.Context, *, addresses: tuple[str, ...], ttl: float | None, reason: str, as_json: bool) -> None:
    """Send these addresses no mail from now on."""
    from relay.feedback.lists import Listed
    from relay.suppression import Cause

    _suppress(context, (Listed(each, Cause.OPERATOR, reason) for each in addresses), ttl, as_json=as_json)


@suppress.command("import", context_settings=CONTEXT)
@config_option
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"), metavar="FILE")
@click.option("--ttl", type=DurationType(), help="For so long: 30d.  [default: until it is removed]")
@json_option
@click.pass_context
def import_(context: click.Context, *, file: Any, ttl: float | None, as_json: bool) -> None:
    """Take a list over: one address a line, CSV with a column "email", or what SES gives out. "-" is standard input.

    What is no address is left out, and told on standard error.
    """
    from relay.cli.text import shown
    from relay.control.suppressing import is_address
    from relay.feedback.lists import NoList, read_list

    odd: list[str] = []

    def addresses() -> Iterator[Listed]:
        for each in read_list(file.read()):
            if is_address(each.address):
                yield each
            else:
                odd.append(each.address)

    try:
        _suppress(context, addresses(), ttl, as_json=as_json)
    except NoList as error:
        fail(f"{file.name}: {error}", 1)
    if odd:
        click.echo(f"relay: {len(odd)} left out as no address, the first: {shown(odd[0])}", err=True)


@suppress.command(context_settings=CONTEXT)
@config_option
@click.argument("addresses", nargs=-1, metavar="[ADDRESS]...")
@click.option("--domain", metavar="DOMAIN", help="Of this domain.")
@click.option("--cause", type=_CAUSES, help="For this cause.")
@click.option("--newer-than", type=DurationType(), help="Suppressed within this time: 90s, 5m, 4h, 2d.")
@click.option("--all", is_flag=True, help="All there are.")
@json_option
@click.pass_context
def remove(context: click.Context, /, *, as_json: bool, **chosen: Any) -> None:
    """Send these addresses mail again. Exit 1: none of them was suppressed."""
    import json

    answer = ask_once(context, "unsuppress", _arguments(chosen))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif answer["removed"]:
        click.echo(f"{answer['removed']} removed")
    if not answer["removed"]:
        fail("none of them was suppressed", 1)


@click.command(context_settings=CONTEXT)
@config_option
@click.argument("files", nargs=-1, type=click.File("rb"), metavar="[FILE]...")
@click.option("--upstream", default="", metavar="NAME", help="Whose mail it is about, where the report does not show.")
@json_option
@click.pass_context
def feedback(context: click.Context, *, files: tuple[Any, ...], upstream: str, as_json: bool) -> None:
    """Hand abuse reports (ARF, RFC 5965) that came by mail to the running relay; without FILE from standard input.

    Who complained is suppressed, and complaints feed the brake. Exit 1: a file is no report.
    """
    import json
    import sys

    from relay.feedback import Unbelievable
    from relay.feedback.arf import REPORT_MOST, read_report

    said: list[Feedback] = []
    sources: tuple[Any, ...] = files or (sys.stdin.buffer,)
    for file in sources:
        try:
            said += read_report(file.read(REPORT_MOST + 1))
        except Unbelievable as error:
            fail(f"{getattr(file, 'name', 'standard input')}: {error}", 1)
    for batch in _batches(said):
        ask_once(context, "feedback", {"upstream": upstream, "feedback": [_plain(each) for each in batch]})
    if as_json:
        click.echo(json.dumps({"taken": len(said)}, indent=2))
    else:
        click.echo(f"{len(said)} {'complaint' if len(said) == 1 else 'complaints'} taken")


def _suppress(context: click.Context, listed: Iterable[Listed], ttl: float | None, *, as_json: bool) -> None:
    import json

    done = {"suppressed": 0, "new": 0}
    for batch in _batches(listed):
        entries = [{"address": each.address, "cause": each.cause.value, "detail": each.detail} for each in batch]
        answer = ask_once(context, "suppress", {"entries": entries, "ttl": ttl})
        done = {key: count + answer[key] for key, count in done.items()}
    if load_settings(context).suppression is None:
        click.echo("relay: without [suppression] in the configuration the list is kept and not used", err=True)
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        click.echo(f"{done['suppressed']} suppressed, {done['new']} of them new")


def _arguments(chosen: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in chosen.items() if value is not None and value not in {(), False}}
    return given | ({"addresses": list(given["addresses"])} if "addresses" in given else {})


def _batches(found: Iterable[Any]) -> Iterator[list[Any]]:
    each = iter(found)
    while batch := list(islice(each, _BATCH)):
        yield batch


def _plain(said: Feedback) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(said)
