"""Where to submit, out of relay.toml: the few keys that a submission needs, and no others.

That is the first listener that takes mail as we bring it: without TLS from the first octet, without a password, without
the PROXY protocol.

The whole configuration is not read: it names secrets that this user may not open, and checking it takes longer than
submitting. Where one of these few keys is wrong, the whole is read after all, to say so as ``relay check`` does.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from relay.sendmail.exits import Exit, Failure
from relay.settings import ListenerSettings

_DEFAULT_PATH: Final = "/etc/relay/relay.toml"
_OVERLAY: Final = "RELAY__"
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens everywhere is reached nearby


@dataclass(frozen=True, slots=True)
class Door:
    """The listener that takes our mail: ``target`` is a host and a port, or the path of a Unix socket.

    ``config`` is the file that says so, ``domain`` is what addresses without one get.
    """

    config: Path
    target: tuple[str, int] | str
    domain: str
    max_recipients: int

    def __str__(self) -> str:
        return self.target if isinstance(self.target, str) else "{}:{}".format(*self.target)


def find(given: str | None, environ: Mapping[str, str]) -> Door:
    """The first fitting listener of ``given``, else of $RELAY_CONFIG, else of /etc/relay/relay.toml.

    Raises :class:`Failure` (78) with all that is wrong, or where no listener fits.
    """
    defaults = ListenerSettings()
    path = Path(given or environ.get("RELAY_CONFIG") or _DEFAULT_PATH)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        if any(name.startswith(_OVERLAY) for name in environ):
            _lay_over(document, environ)
        listeners = document.get("listener") or {"app": {}}
        listener = next(filter(_fits, listeners.values()), None)
        if listener is None:
            text = "no listener without implicit TLS, required AUTH and PROXY protocol, which relay-sendmail needs"
            raise Failure(Exit.CONFIG, f"{path}: {text}")
        target = _target(listener.get("address", defaults.address), path)
        max_recipients = int(listener.get("max_recipients", defaults.max_recipients))
        domain = document.get("rewrite", {}).get("default_domain") or document.get("hostname", "")
        if not isinstance(domain, str):
            raise TypeError  # noqa: TRY301 - the same trouble as those above
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        explain(path, environ, error)
    return Door(path, target, domain or _machine(), max_recipients)


def explain(path: Path, environ: Mapping[str, str], cause: Exception) -> NoReturn:
    """Raise :class:`Failure` (78) with every problem of the configuration; ``cause`` where it shows none."""
    from relay.config import ConfigError, load

    try:
        load(path, environ)
    except ConfigError as error:
        raise Failure(Exit.CONFIG, str(error)) from None
    raise Failure(Exit.CONFIG, f"{path}: {cause}")


def _lay_over(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put the environment's values over the file's, as ``relay.config`` does."""
    from relay.config.environment import Variable, overlay

    overlay(document, environ)
    tables = (document, document.get("rewrite", {}), *document.get("listener", {}).values())
    for table in tables:
        for key, value in table.items():
            if isinstance(value, Variable):
                table[key] = value.text


def _fits(listener: Mapping[str, Any]) -> bool:
    return (
        listener.get("tls") != "implicit" and listener.get("auth") != "required" and not listener.get("proxy_networks")
    )


def _target(address: str, config: Path) -> tuple[str, int] | str:
    path = address.removeprefix("unix:")
    if path != address:
        return os.path.normpath(config.absolute().parent / path)
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return _LOOPBACK.get(host, host), int(port)


def _machine() -> str:
    name = socket.getfqdn()
    return name if "." in name or name.isalnum() else "localhost"
