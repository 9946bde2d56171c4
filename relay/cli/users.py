"""``relay user``: who may log in."""

from __future__ import annotations

import click

from relay.cli.access import CONTEXT, config_option


@click.group(context_settings=CONTEXT)
@config_option
def user() -> None:
    """Users of listeners with AUTH: [user.NAME] in the configuration."""


@user.command("hash", context_settings=CONTEXT)
@config_option
def hash_() -> None:
    """Print the hash of a password, for password_hash.

    The password is asked for at a terminal, else read as one line of standard input; it is shown nowhere.
    """
    import os
    import sys

    from relay.listener.passwords import SALT_SIZE, hash_password

    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = _one_line(sys.stdin.buffer.read())
    if not password or "\0" in password:
        raise click.UsageError("no password: one that is not empty and holds no NUL is wanted")
    click.echo(hash_password(password, os.urandom(SALT_SIZE)))


def _one_line(given: bytes) -> str:
    line = given.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line:
        raise click.UsageError("a password is one line of standard input, and there are more")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise click.UsageError("a password is UTF-8, and this one is not") from None
