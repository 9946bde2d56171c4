"""How a command reaches a running relay: the client's end of the control socket, on plain blocking sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.control.address import short_name
from relay.control.errors import Exit, Refused, Unreachable

PATIENCE: Final = 120.0
"""Seconds for each line of an answer: a change of a million messages takes its time."""


def ask(path: str, verb: str, arguments: Mapping[str, Any], *, timeout: float = PATIENCE) -> Iterator[Any]:
    """Ask the relay at the socket ``path``; yields what :func:`relay.control.verbs.perform` does there.

    Raises :class:`Unreachable` where nobody answers, :class:`Refused` where it can't be done.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            with short_name(path) as name:
                connection.connect(name)
            connection.sendall(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                yield from _parts(lines)
    except OSError as error:
        raise Unreachable(f"{path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError):
        raise Unreachable(f"{path}: what answers there is no relay") from None


def _parts(lines: Iterator[bytes]) -> Iterator[Any]:
    for line in lines:
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], Exit(answer["exit"]))
        if "part" in answer:
            yield answer["part"]
            continue
        if answer["result"] is not None:  # a list was in its parts
            yield answer["result"]
        return
    raise ConnectionResetError("the relay hung up")
