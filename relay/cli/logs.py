"""``relay log``: how to find somebody in a log without addresses."""

from __future__ import annotations

import click

from relay.cli.access import CONTEXT, config_option, fail, load_settings


@click.group(context_settings=CONTEXT)
@config_option
def log() -> None:
    """The mail log."""


@log.command("hash", context_settings=CONTEXT)
@config_option
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.pass_context
def hash_(context: click.Context, addresses: tuple[str, ...]) -> None:
    """Print what stands for an address in the log with [log] recipients = "hash"."""
    from relay.control.errors import Exit
    from relay.maillog.key import read_key
    from relay.maillog.pseudonyms import Pseudonyms

    settings = load_settings(context)
    try:
        pseudonyms = Pseudonyms(read_key(settings.log.key_file))
    except FileNotFoundError:
        fail(f'{settings.log.key_file}: no key yet; the relay makes it where recipients = "hash"', Exit.NO)
    except OSError as error:
        fail(f"{settings.log.key_file}: {error.strerror}", Exit.UNAVAILABLE)
    for address in addresses:
        click.echo(pseudonyms.of(address))
