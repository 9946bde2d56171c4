"""``relay backup``: a copy of the spool to put back after an accident."""

from __future__ import annotations

from pathlib import Path

import click

from relay.cli.access import CONTEXT, config_option, fail, json_option, load_settings


@click.command(context_settings=CONTEXT)
@config_option
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
@json_option
@click.pass_context
def backup(context: click.Context, file: Path, *, force: bool, as_json: bool) -> None:
    """Copy the spool to FILE, also while the relay runs: consistent, checked, mode 0600.

    To restore it see docs/operations.md: what was relayed after the copy was made would be relayed again.
    """
    import json
    from dataclasses import asdict

    from relay.control.errors import Exit
    from relay.control.verbs import exit_of
    from relay.spool import SpoolError
    from relay.spool.copying import copy_spool

    spool = Path(load_settings(context).spool.path)
    try:
        copied = copy_spool(spool, file, replace=force)
    except FileExistsError as error:
        fail(f"{file}: {error.strerror}" + ("" if force else "; --force replaces it"), Exit.USAGE)
    except SpoolError as error:
        fail(f"the spool: {error}", exit_of(error))
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}", Exit.UNAVAILABLE)
    if as_json:
        click.echo(json.dumps({"file": str(file), **asdict(copied)}, ensure_ascii=False))
    else:
        click.echo(f"{file}: {copied.messages} open messages, {copied.octets} octets of content; checked")
