"""The command ``relay``: one command each, thin. What a command does not need it does not import."""

from __future__ import annotations

import click

from relay import IS_COMPILED, __version__
from relay.cli.access import CONTEXT, config_option
from relay.cli.backup import backup
from relay.cli.bench import bench
from relay.cli.brake import brake
from relay.cli.dashboard import dashboard
from relay.cli.dkim import dkim
from relay.cli.logs import log
from relay.cli.planning import plan
from relay.cli.presets import presets
from relay.cli.queue import queue
from relay.cli.sending import send
from relay.cli.serving import check, serve, simulator
from relay.cli.showing import status, trace
from relay.cli.suppress import feedback, suppress
from relay.cli.top import top
from relay.cli.users import user


@click.group(context_settings=CONTEXT)
@config_option
@click.version_option(
    __version__, prog_name="relay", message="%(prog)s %(version)s" + (", compiled" if IS_COMPILED else "")
)
def main() -> None:
    """A local mail relay: takes mail on localhost, keeps it safe, gets it out.

    Every command exits with 0 where it is done, 1 where the answer is no, 2 on wrong usage, 69 where the relay or its
    spool can't be reached, 74 where the spool is damaged, 75 on temporary trouble, 78 on a wrong configuration.
    """


for _command in (
    serve,
    check,
    send,
    status,
    plan,
    top,
    queue,
    trace,
    brake,
    suppress,
    feedback,
    presets,
    user,
    dkim,
    backup,
    dashboard,
    log,
    simulator,
    bench,
):
    main.add_command(_command)

__all__ = ["main"]
