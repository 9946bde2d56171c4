"""``relay-sendmail``: from its command line to its exit code."""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Sequence
from typing import Final

from relay.mail import Body, Envelope, Recipient, has_domain
from relay.sendmail import addresses, arguments, door, message, submission
from relay.sendmail.arguments import Invocation, Mode
from relay.sendmail.door import Door
from relay.sendmail.exits import Exit, Failure

PATIENCE: Final = 10.0
"""Seconds for a relay that starts, stops or is full of sessions, before the caller hears 75."""
_BETWEEN_ATTEMPTS: Final = 0.2
_CLICK_USAGE: Final = 2
"""What ``relay`` exits with on wrong usage: no code of sysexits(3)."""


def main() -> int:
    """The command, from ``sys.argv``; its exit code."""
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 - of a text; pathlib takes a while to load
    try:
        return _run(arguments.parse(name, sys.argv[1:]))
    except Failure as failure:
        sys.stderr.write(f"{name}: {failure}\n")
        return failure.exit
    except Exception as error:  # noqa: BLE001 - a bug of ours, never a lasting refusal
        import traceback

        traceback.print_exception(error)
        return Exit.TEMPORARY


def _run(invocation: Invocation) -> int:
    match invocation.mode:
        case Mode.ALIASES:
            # There is no alias database to be made.
            return Exit.OK
        case Mode.LIST:
            return _queue(invocation, "list")
        case Mode.FLUSH:
            which = ["--domain", invocation.domain] if invocation.domain else ["--all"]
            return _queue(invocation, "retry", *(invocation.ids or which))
        case Mode.SESSION:
            return _session(door.find(invocation.config, os.environ))
    _submit(invocation, door.find(invocation.config, os.environ))
    return Exit.OK


def _submit(invocation: Invocation, where: Door) -> None:
    """Read the message and see to it that it is kept. Raises :class:`Failure`."""
    user = _user()
    sender = user if invocation.sender is None else addresses.parse_one(invocation.sender)
    to = [each for text in invocation.recipients for each in addresses.parse_list(text)]
    if not to and not invocation.from_header:
        raise Failure(Exit.USAGE, "no recipients: they stand on the command line, or in the header with -t")
    content = message.read(sys.stdin.buffer, dot_ends=invocation.dot_ends)
    if invocation.from_header:
        to += message.recipients(content)
        if not to:
            raise Failure(Exit.USAGE, "no recipients in the header")
    author = sender or user
    if not has_domain(author):
        author = f"{author}@{where.domain}"
    content = message.with_from(content, author, _full_name(invocation))
    to = list(dict.fromkeys(to))
    envelope = Envelope(
        sender,
        tuple(Recipient(n, address, invocation.notify) for n, address in enumerate(to)),
        Body.SEVEN_BIT if content.isascii() else Body.EIGHT_BIT,
        not all(address.isascii() for address in (sender, *to)),
        invocation.ret,
        invocation.envid,
    )
    _keep(where, envelope, content)


def _keep(where: Door, envelope: Envelope, content: bytes) -> None:
    """By SMTP, else straight into the spool; for as long as neither is possible, each again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            submission.submit(where, envelope, content)
            return
        except submission.Busy as busy:
            why = str(busy)
        except submission.NobodyThere as nobody:
            from relay.sendmail import spooling

            try:
                spooling.keep(where.config, os.environ, envelope, content)
                return
            except spooling.Locked as locked:
                why = f"{nobody}; {locked}"
        if time.monotonic() >= deadline:
            raise Failure(Exit.TEMPORARY, why)
        time.sleep(_BETWEEN_ATTEMPTS)


def _session(where: Door) -> int:
    """``-bs``."""
    from relay.sendmail import proxy

    try:
        with submission.connect(where) as connection:
            ended = proxy.run(connection, sys.stdin.fileno(), sys.stdout.fileno())
    except (submission.NobodyThere, submission.Busy) as nobody:
        # RFC 5321 §3.8: how a server says that there is none.
        sys.stdout.write(f"421 4.3.2 {where.domain} Service not available\r\n")
        raise Failure(Exit.TEMPORARY, str(nobody)) from None
    except OSError as error:
        raise Failure(Exit.TEMPORARY, f"{where}: {error.strerror or error}") from None
    return Exit.OK if ended else Exit.TEMPORARY


def _queue(invocation: Invocation, *command: str) -> int:
    """``relay queue``: what it prints for a list, and its exit code. Nothing to retry is nothing wrong."""
    import contextlib
    import io

    from relay.cli import main as relay

    config: Sequence[str] = ("-c", invocation.config) if invocation.config else ()
    quiet = contextlib.redirect_stdout(io.StringIO()) if command[0] == "retry" else contextlib.nullcontext()
    try:
        with quiet:
            relay([*config, "queue", *command], prog_name="relay")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(Exit.OK)
    if (command[0], code) == ("retry", 1):
        return Exit.OK
    return Exit.USAGE if code == _CLICK_USAGE else code


def _full_name(invocation: Invocation) -> str:
    """-F, else $NAME, else what the user database says before the first comma, "&" being the login name."""
    if invocation.full_name is not None:
        return invocation.full_name
    if name := os.environ.get("NAME"):
        return name
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return ""
    return entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())


def _user() -> str:
    """The login name of who called, else the number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
