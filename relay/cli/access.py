"""How a command comes by its configuration, and by the relay that it asks: over the socket, else from the spool."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from pathlib import Path

    from relay.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

_CONFIG: Final = f"{__name__}.config"


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with ``message`` on standard error and an exit code of the contract."""
    click.echo(f"relay: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


def config_option(command: F) -> F:
    """Give a command ``-c FILE``; also ``relay -c FILE COMMAND``, the command's own one goes first."""

    def remember(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.meta[_CONFIG] = value

    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        callback=remember,
        expose_value=False,
        help="The configuration  [default: $RELAY_CONFIG, else /etc/relay/relay.toml]",
    )(command)


json_option: Final = click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")


def config_path(context: click.Context) -> Path:
    """The configuration file that this command means."""
    import os
    from pathlib import Path

    from relay.config import default_path

    given = context.meta.get(_CONFIG)
    return default_path(os.environ) if given is None else Path(given)


def load_settings(context: click.Context) -> Settings:
    """Read the configuration; all that is wrong with it goes to standard error, and the command ends with 78."""
    import os

    from relay.config import ConfigError, load

    try:
        return load(config_path(context), os.environ)
    except ConfigError as error:
        reject_config(error.problems)


def reject_config(problems: Iterable[object]) -> NoReturn:
    """Print every problem of a configuration and end with 78."""
    from relay.control.errors import Exit

    for problem in problems:
        click.echo(str(problem), err=True)
    raise click.exceptions.Exit(Exit.CONFIG)


def ask(context: click.Context, verb: str, arguments: Mapping[str, Any]) -> Iterator[Any]:
    """Ask the running relay; where none runs, do the same on its spool.

    Yields what :func:`relay.control.verbs.perform` yields. Ends the command where neither can be reached.
    """
    from relay.control.client import ask as ask_relay
    from relay.control.errors import Exit, Refused, Unreachable

    settings = load_settings(context)
    answered = False
    try:
        for part in ask_relay(settings.control.path, verb, arguments):
            answered = True
            yield part
    except Refused as refusal:
        fail(str(refusal), refusal.exit)
    except Unreachable as unreachable:
        if answered:
            fail(str(unreachable), Exit.UNAVAILABLE)
        yield from _ask_spool(settings, verb, arguments, str(unreachable))


def ask_once(context: click.Context, verb: str, arguments: Mapping[str, Any]) -> Any:
    """The one answer to a verb that has one."""
    (answer,) = ask(context, verb, arguments)
    return answer


def _ask_spool(settings: Settings, verb: str, arguments: Mapping[str, Any], unreachable: str) -> Iterator[Any]:
    import asyncio
    import os

    from relay.control.errors import Exit, Refused
    from relay.control.verbs import exit_of
    from relay.spool import SpoolError, SpoolLocked

    if not os.path.lexists(settings.spool.path):
        fail(
            f"no relay answers at {unreachable}; and no spool is to be seen at {settings.spool.path}", Exit.UNAVAILABLE
        )
    with asyncio.Runner() as runner:
        parts = _on_spool(settings, verb, arguments)
        try:
            while (part := runner.run(_next(parts))) is not None:
                yield part
        except Refused as refusal:
            fail(str(refusal), refusal.exit)
        except SpoolLocked:
            fail(f"a relay runs on {settings.spool.path}, but does not answer at {unreachable}", Exit.TEMPORARY)
        except SpoolError as error:
            fail(f"the spool: {error}", exit_of(error))
        except OSError as error:
            fail(f"{settings.spool.path}: {error.strerror or error}", Exit.UNAVAILABLE)
        finally:
            runner.run(_end(parts))


async def _next(parts: AsyncGenerator[Any, None]) -> Any:
    return await anext(parts, None)


async def _end(parts: AsyncGenerator[Any, None]) -> None:
    await parts.aclose()


async def _on_spool(settings: Settings, verb: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
    from relay.clock import SystemBootClock, SystemClock
    from relay.control.services import Services
    from relay.control.verbs import perform
    from relay.spool.sqlite import open_spool

    clock = SystemClock()
    forecaster = None
    spool = await open_spool(settings.spool, clock=clock)
    try:
        if verb == "plan":
            from relay.daemon.outlook import ColdOutlook

            forecaster = ColdOutlook(settings, spool, clock, SystemBootClock())
        names = [upstream.name for upstream in settings.upstreams]
        services = Services(spool, clock, upstreams=names, forecaster=forecaster)
        async for part in perform(services, verb, arguments):
            yield part
    finally:
        await spool.close()
