"""``relay brake``: bulk mail that was stopped because too much of it failed."""

from __future__ import annotations

import click

from relay.cli.access import CONTEXT, ask_once, config_option, fail, json_option


@click.group(context_settings=CONTEXT)
@config_option
def brake() -> None:
    """Bulk mail of an upstream, a sender or a tag that [brake] has stopped."""


@brake.command("list", context_settings=CONTEXT)
@config_option
@json_option
@click.pass_context
def list_(context: click.Context, *, as_json: bool) -> None:
    """Show what is stopped, since when and why.

    As JSON: a list of objects with source, since and reason.
    """
    import json

    from relay.cli import text

    found = ask_once(context, "brakes", {})
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif found:
        rows = [("SOURCE", "SINCE", "REASON")]
        click.echo(text.columns([*rows, *((x["source"], text.local(x["since"]), x["reason"]) for x in found)]))


@brake.command(context_settings=CONTEXT)
@config_option
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that is stopped.")
@json_option
@click.pass_context
def release(context: click.Context, *, sources: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Let bulk mail go again: what was held for it is due now, and what fails is counted anew.

    A SOURCE is upstream:NAME, sender:ADDRESS or tag:NAME, as the list shows it.
    """
    import json

    if bool(sources) == everything:
        raise click.UsageError("name the sources, or say --all")
    answer = ask_once(context, "unbrake", {"sources": list(sources), "all": everything})
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    elif answer["released"]:
        click.echo(f"{', '.join(answer['released'])}: {answer['messages']} messages released")
    if not answer["released"]:
        fail("nothing of it is stopped", 1)
