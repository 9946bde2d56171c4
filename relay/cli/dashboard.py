"""``relay dashboard``: the address of the dashboard, with the token that opens it."""

from __future__ import annotations

import click

from relay.cli.access import CONTEXT, config_option, fail, json_option, load_settings


@click.command(context_settings=CONTEXT)
@config_option
@json_option
@click.pass_context
def dashboard(context: click.Context, *, as_json: bool) -> None:
    """Print the dashboard's address; whoever opens it in a browser is let in for 30 days.

    The token in it opens everything that the HTTP interface does: keep it to yourself.
    """
    import json
    from urllib.parse import quote

    from relay.control.errors import Exit
    from relay.http.token import read_token

    settings = load_settings(context).http
    if settings is None:
        fail("there is no dashboard: no [http] stands in the configuration", Exit.NO)
    host, _, port = settings.address.rpartition(":")
    # An address that means all of this machine's is none to open.
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - it is compared with
    address = f"http://{host}:{port}/"
    if settings.auth == "token":
        try:
            address += f"?token={quote(read_token(settings.token_file), safe='')}"
        except FileNotFoundError:
            fail(f"{settings.token_file}: no such file; the relay makes it when it starts", Exit.UNAVAILABLE)
        except OSError as error:
            fail(f"{settings.token_file}: {error.strerror or error}", Exit.UNAVAILABLE)
    click.echo(json.dumps({"address": address}) if as_json else address)
