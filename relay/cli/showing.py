"""``relay status`` and ``relay trace``: where the relay stands, and where one message does."""

from __future__ import annotations

import click

from relay.cli.access import CONTEXT, ask_once, config_option, fail, json_option


@click.command(context_settings=CONTEXT)
@config_option
@json_option
@click.pass_context
def status(context: click.Context, *, as_json: bool) -> None:
    """Show every upstream's state and the queue."""
    import json

    from relay.cli import text

    answer = ask_once(context, "status", {})
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2) if as_json else text.status(answer))


@click.command(context_settings=CONTEXT)
@config_option
@click.argument("message", metavar="ID|MESSAGE-ID")
@json_option
@click.pass_context
def trace(context: click.Context, message: str, *, as_json: bool) -> None:
    """Tell a message's whole story: each attempt with the replies, and what it waits for now.

    A Message-ID may belong to several messages: all are told. As JSON: a list of messages.
    """
    import json

    from relay.cli import text

    stories = ask_once(context, "trace", {"text": message})
    if as_json:
        click.echo(json.dumps(stories, ensure_ascii=False, indent=2))
    else:
        click.echo("\n\n".join(map(text.story, stories)), nl=bool(stories))
    if not stories:
        fail("no such message: it was never accepted here, or its history is over", 1)
