"""Where the log's lines go: a descriptor (standard error, a file) or journald's socket. For the writer's thread.

A target spells and writes: what it makes of an event is its own business, the writer only hands it back in batches.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from relay.events import Event
from relay.maillog.grammar import Grammar
from relay.maillog.objects import Objects, facts, level, name_of

JOURNAL: Final = "/run/systemd/journal/socket"
"""Where journald takes datagrams (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

_STDERR: Final = 2
_WARNING: Final = 4  # LOG_WARNING, LOG_INFO and LOG_MAIL of syslog(3)
_INFO: Final = 6
_MAIL: Final = 2


class Target(Protocol):
    """A place for the log."""

    def spell(self, event: Event) -> Any:
        """``event`` as :meth:`write` takes it."""
        ...

    def write(self, spelled: Sequence[Any]) -> bool:
        """Write it all, unbuffered; whether that could be done."""
        ...

    def reopen(self) -> str | None:
        """Go on in a new file of the same name; why that can't be."""
        ...

    def close(self) -> None:
        """Let it go."""
        ...


class Lines:
    """Lines of text to ``path``, which is appended to and created with mode 0640, less the umask; None: to stderr.

    Where standard error is journald's stream, warnings begin with their priority (sd-daemon(3)).
    """

    def __init__(self, path: str | None, spelling: Callable[[Event], str], environ: Mapping[str, str]) -> None:
        self._path = path
        self._descriptor = _STDERR if path is None else open_log(path)
        self._spelling = spelling
        self._prefixed = path is None and is_journal(_STDERR, environ)
        self._torn = False

    def spell(self, event: Event) -> str:
        """The lines of ``event``."""
        lines = self._spelling(event)
        return f"<{_WARNING}>{lines}" if self._prefixed and level(event) == "warning" else lines

    def write(self, spelled: Sequence[str]) -> bool:
        """Write all lines; a reader that is slow is waited for."""
        text = "".join(spelled)
        # A line cut off by a full disk is ended before the next one begins.
        rest = memoryview(("\n" + text if self._torn else text).encode(errors="replace"))
        try:
            while rest:
                try:
                    written = os.write(self._descriptor, rest)
                except BlockingIOError:  # somebody made our standard error non-blocking
                    select.select([], [self._descriptor], [])
                    continue
                rest = rest[written:]
                self._torn = bool(rest)
        except OSError:
            return False
        return True

    def reopen(self) -> str | None:
        """Only a file is opened anew; the old one goes on where that can't be."""
        if self._path is None:
            return None
        try:
            opened = open_log(self._path)
        except OSError as error:
            return error.strerror
        os.close(self._descriptor)
        self._descriptor = opened
        self._torn = False
        return None

    def close(self) -> None:
        """Close a file; standard error stays."""
        if self._path is not None:
            os.close(self._descriptor)


class Journal:
    """Entries to journald, each with its event's facts as fields: ``journalctl RELAY_QUEUE_ID=8889D160292``.

    ``MESSAGE`` is the line without its head: time, machine and program are fields of the journal's own. OSError where
    no journald is.
    """

    def __init__(self, tag: str, pid: int, objects: Objects | None, path: str = JOURNAL) -> None:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - a plain string
            raise ConnectionRefusedError(f"{path} is no socket")
        self._path = path
        self._tag = tag
        self._origin = f"SYSLOG_PID={pid}\nSYSLOG_FACILITY={_MAIL}\n".encode("ascii")
        self._grammar = _Headless("localhost", tag, pid)
        self._objects = objects
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def spell(self, event: Event) -> list[bytes]:
        """The entries of ``event``: one for each of its lines."""
        priority = _WARNING if level(event) == "warning" else _INFO
        known = {f"RELAY_{key.upper()}": value for key, value in facts(event).items() if value or value == 0}
        fields = b"".join(_field(key, value) for key, value in known.items())
        fields += self._origin + f"PRIORITY={priority}\nRELAY_EVENT={name_of(event)}\n".encode("ascii")
        if self._objects is not None:
            lines = [("", self._objects.lines(event).rstrip("\n"))]
        else:
            lines = [(p, m) for p, _, m in (line.partition("\0") for line in self._grammar.lines(event).splitlines())]
        return [
            _field("MESSAGE", message)
            + _field("SYSLOG_IDENTIFIER", f"{self._tag}/{program}" if program else self._tag)
            + fields
            for program, message in lines
        ]

    def write(self, spelled: Sequence[Sequence[bytes]]) -> bool:
        """Send all entries; a journald that is slow is waited for, one that is away is not."""
        sent = True
        for entries in spelled:
            for entry in entries:
                try:
                    self._socket.sendto(entry, self._path)
                except OSError:
                    sent = False
        return sent

    def reopen(self) -> str | None:
        """Nothing to do: journald rotates its files itself."""
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _Headless(Grammar):
    """The grammar where time, machine and process stand elsewhere: a line is its program, NUL, and the message."""

    def _head(self, at: float, program: str) -> str:  # noqa: ARG002
        return f"{program}\0"


def _field(key: str, value: object) -> bytes:
    """One field; a value of several lines is sent with its length before it."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    octets = text.encode(errors="replace")
    if b"\n" in octets:
        return key.encode("ascii") + b"\n" + len(octets).to_bytes(8, "little") + octets + b"\n"
    return f"{key}=".encode("ascii") + octets + b"\n"


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether ``descriptor`` is the stream to journald that $JOURNAL_STREAM names (systemd.exec(5))."""
    named = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def open_log(path: str) -> int:
    """A descriptor that appends to ``path``. Raises OSError, also of a FIFO that nobody reads: it is not waited for."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o640)
    os.set_blocking(descriptor, True)
    return descriptor
