"""Where a secret comes from: the key itself, a file, a variable or a systemd credential; never more than one.

What was found is never shown. A file that others can read is refused, as ssh refuses such keys.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relay.config.environment import Variable
from relay.config.problems import Unreadable, kind_of
from relay.settings import FeedbackSettings, OAuth2Settings, Secret, UpstreamSettings

SECRETS: Final[dict[type, tuple[str, ...]]] = {
    UpstreamSettings: ("password", "access_key_id", "secret_access_key", "api_key"),
    OAuth2Settings: ("client_secret", "refresh_token"),
    FeedbackSettings: ("password", "token"),
}
"""The keys of each table that are secrets."""
_SECRET_MAX: Final = 64 * 1024


def sources_of(secret: str) -> tuple[str, ...]:
    """The keys that a secret may come from: ``password`` has ``password_file`` and others beside it."""
    return tuple(f"{secret}{source}" for source in _READERS)


def take_secret(
    secret: str, table: dict[str, Any], environ: Mapping[str, str], folder: Path
) -> tuple[Secret | None, list[tuple[str, Unreadable]]]:
    """Take the keys of one secret out of ``table`` and read the one there is; with each key that is wrong and why."""
    sources = sources_of(secret)
    given = {key: table.pop(key) for key in sources if key in table}
    if len(given) > 1:
        keys = list(given)
        why = Unreadable(f"{' and '.join(keys)} together", f"one of {', '.join(sources)}")
        return None, [(keys[-1], why)]
    for key, raw in given.items():
        value = raw.text if isinstance(raw, Variable) else raw
        if not isinstance(value, str) or not value:
            found = "an empty string" if value == "" else f"{kind_of(value)} (not shown)"
            return None, [(key, Unreadable(found, "a string that is not empty"))]
        try:
            return _READERS[key.removeprefix(secret)](value, environ, folder), []
        except Unreadable as why:
            return None, [(key, why)]
    return None, []


def _itself(value: str, _environ: Mapping[str, str], _folder: Path) -> Secret:
    return Secret(value)


def _from_file(value: str, _environ: Mapping[str, str], folder: Path) -> Secret:
    return _read(folder / value, "a file that only its owner can read (chmod 600)", private=True)


def _from_variable(value: str, environ: Mapping[str, str], _folder: Path) -> Secret:
    secret = environ.get(value, "")
    if not secret:
        raise Unreadable("a variable that is not set or empty", "the name of a set environment variable")
    return Secret(secret)


def _from_credential(value: str, environ: Mapping[str, str], _folder: Path) -> Secret:
    allowed = "a credential of the service (LoadCredential= of systemd.exec(5)), named without a slash"
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        raise Unreadable("no $CREDENTIALS_DIRECTORY in the environment", allowed)
    if "/" in value:
        raise Unreadable("a name with a slash", allowed)
    # systemd sees to the mode; some runtimes mount credentials readable by a group.
    return _read(Path(folder) / value, allowed, private=False)


_READERS: Final = {
    "": _itself,
    "_file": _from_file,
    "_env": _from_variable,
    "_credential": _from_credential,
}


def _read(path: Path, allowed: str, *, private: bool) -> Secret:
    try:
        # Without waiting: a FIFO would keep the relay from starting.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable(f"{path}, which is no regular file", allowed)
            if private and status.st_mode & 0o077:
                raise Unreadable(f"{path} with mode {stat.S_IMODE(status.st_mode):04o}", allowed)
            octets = file.read(_SECRET_MAX + 1)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or 'unreadable'}", allowed) from None
    except ValueError as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("a path that can't be", allowed) from None
    try:
        secret = octets.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unreadable(f"{path}, which is not UTF-8", allowed) from None
    if not secret or len(octets) > _SECRET_MAX or "\n" in secret:
        raise Unreadable(f"{path}, which does not hold one line", allowed)
    return Secret(secret)
