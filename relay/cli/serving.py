"""``relay serve``, ``relay check``, ``relay simulator``: what runs, and whether it could."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli.access import CONTEXT, config_option, config_path, json_option, load_settings, reject_config

if TYPE_CHECKING:
    from relay.settings import Settings


@click.command(context_settings=CONTEXT)
@config_option
@click.pass_context
def serve(context: click.Context) -> None:
    """Run the relay in the foreground: SIGTERM ends it, SIGHUP reads the configuration again."""
    import os

    from relay import daemon
    from relay.config import ConfigError, load

    path = config_path(context)

    def read() -> Settings:
        return load(path, os.environ)

    try:
        code = daemon.serve(read)
    except ConfigError as error:
        reject_config(error.problems)
    raise click.exceptions.Exit(code)


@click.command(context_settings=CONTEXT)
@config_option
@click.option("--connect", is_flag=True, help="Connect to each upstream: greeting, TLS, AUTH, extensions.")
@click.option("--dns", is_flag=True, help="Ask DNS: SPF, DKIM, DMARC and MX of the domains in use, PTR of addresses.")
@click.option("--name-server", metavar="ADDRESS[:PORT]", help="Whom --dns asks, instead of /etc/resolv.conf's.")
@click.option("--spool", is_flag=True, help="Read all of the spool (integrity_check), also while the relay runs.")
@json_option
@click.pass_context
def check(
    context: click.Context, *, connect: bool, dns: bool, name_server: str | None, spool: bool, as_json: bool
) -> None:
    """Read the configuration and say what is wrong with it, or what it means; exits with 1 where a check fails, with 74
    where the spool is damaged.
    """
    from relay.cli.text import columns
    from relay.config import warnings

    settings = load_settings(context)
    found = warnings(settings)
    if connect or dns or spool or as_json:
        from relay.cli import checks

        findings = checks.findings(settings, connect=connect, dns=dns, name_server=name_server)
        if spool:
            findings += checks.spool_findings(settings)
        if as_json:
            click.echo(checks.document(found, findings))
        else:
            for warning in found:
                click.echo(f"warning: {warning}", err=True)
            click.echo(checks.lines(findings))
        raise click.exceptions.Exit(checks.failed(findings))
    for warning in found:
        click.echo(f"warning: {warning}", err=True)
    rows = [("hostname", settings.hostname), ("spool", settings.spool.path), ("control", settings.control.path)]
    rows += [(f"listener {listener.name}", listener.address) for listener in settings.listeners]
    for upstream in settings.upstreams:
        where = f"{upstream.host}:{upstream.port}, tls {upstream.tls}" if upstream.kind == "smtp" else upstream.kind
        rows.append((f"upstream {upstream.name}", where))
    click.echo(columns(rows))
    click.echo(f"{config_path(context)}: the configuration is fine")


@click.command(context_settings=CONTEXT)
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:2599", show_default=True, help="Where to listen.")
@click.option(
    "--maildir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what arrives in this maildir.",
)
def simulator(listen: str, maildir: Path | None) -> None:
    """Run a mailbox simulator: success@, bounce@, defer@, throttle@, slow@, drop@… answer like a provider's."""
    from relay import daemon

    raise click.exceptions.Exit(daemon.simulate(listen, maildir))
