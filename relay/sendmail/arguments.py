"""The command line of sendmail(1), as Postfix's reads it: a pure function from arguments to an :class:`Invocation`.

Options end at the first argument that is none, or at "--". What Postfix bears and ignores is borne and ignored here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from relay.sendmail.exits import Exit, Failure

MAX_ENVID: Final = 100
"""Characters of an envelope id in its encoded form (RFC 3461 §4.4)."""

_WITH_VALUE: Final = frozenset("ABCDFLNORVXbefhopr")
_IGNORED: Final = frozenset("GUcmnvx")
_IGNORED_WITH_VALUE: Final = frozenset("ADLOXehp")
_NO_XTEXT: Final = re.compile(rb"[^!-*,-<>-~]")
_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})


class Mode(StrEnum):
    """What the command is to do: ``-bm`` and so on."""

    SUBMIT = "m"
    LIST = "p"
    SESSION = "s"
    FLUSH = "q"
    ALIASES = "i"


@dataclass(slots=True)
class Invocation:
    """A command line understood.

    ``sender`` is None where -f and -r were not given; ``notify``, ``ret`` and ``envid`` are as MAIL and RCPT take them
    (RFC 3461 §4). ``ids`` and ``domain`` limit a flush.
    """

    mode: Mode = Mode.SUBMIT
    config: str | None = None
    sender: str | None = None
    full_name: str | None = None
    recipients: list[str] = field(default_factory=list)
    from_header: bool = False
    dot_ends: bool = True
    notify: str | None = None
    ret: str | None = None
    envid: str | None = None
    ids: tuple[str, ...] = ()
    domain: str | None = None


def parse(name: str, arguments: Sequence[str]) -> Invocation:
    """Read ``arguments`` as given to the program called ``name``. Raises :class:`Failure` (64)."""
    invocation = Invocation()
    if name == "mailq":
        invocation.mode = Mode.LIST
    elif name == "newaliases":
        invocation.mode = Mode.ALIASES
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        cluster = rest.pop(0)[1:]
        if cluster == "-":
            break
        while cluster:
            option, cluster = cluster[0], cluster[1:]
            if option in _WITH_VALUE:
                if not cluster and not rest:
                    raise _usage(f"option -{option} needs a value")
                value, cluster = cluster or rest.pop(0), ""
                if option == "o":
                    _old_option(invocation, value, rest)
                else:
                    _option(invocation, option, value)
            elif option in "qd":
                # Their value is optional and stands in the same argument.
                if option == "q":
                    _flush(invocation, cluster)
                cluster = ""
            elif option == "i":
                invocation.dot_ends = False
            elif option == "t":
                invocation.from_header = True
            elif option == "I":
                invocation.mode = Mode.ALIASES
            elif option not in _IGNORED:
                raise _usage(f"unknown option -{option}")
    else:
        dashed = next((argument for argument in rest if argument.startswith("-")), None)
        if dashed is not None:
            raise _usage(f"option {dashed} after the recipients (an address that begins so stands behind --)")
    invocation.recipients = rest
    return invocation


def _option(invocation: Invocation, option: str, value: str) -> None:
    match option:
        case "b":
            _mode(invocation, value)
        case "B":
            # What is declared in the end, the content says.
            if value.upper() not in {"7BIT", "8BITMIME"}:
                raise _usage(f"-B {value}: the body is 7BIT or 8BITMIME")
        case "C":
            invocation.config = value
        case "F":
            invocation.full_name = value
        case "f" | "r":
            invocation.sender = value
        case "N":
            words = value.upper().replace(" ", "").split(",")
            if words != ["NEVER"] and not (_NOTIFY.issuperset(words) and len(words) == len(set(words))):
                raise _usage(f"-N {value}: never, or of success, failure, delay, separated by commas")
            invocation.notify = ",".join(words)
        case "R":
            if value.upper() not in {"FULL", "HDRS"}:
                raise _usage(f"-R {value}: full or hdrs")
            invocation.ret = value.upper()
        case "V":
            invocation.envid = _xtext(value)
            if len(invocation.envid) > MAX_ENVID:
                raise _usage(f"-V: an envelope id has at most {MAX_ENVID} characters")
        case _:
            assert option in _IGNORED_WITH_VALUE


def _old_option(invocation: Invocation, value: str, rest: list[str]) -> None:
    """``-oi``, ``-oem``, ``-odq``: sendmail's old way to set an option; the value may be the next argument."""
    if value == "i":
        invocation.dot_ends = False
    elif len(value) == 1 and value not in "m78" and rest:
        rest.pop(0)


def _mode(invocation: Invocation, value: str) -> None:
    if value in {"d", "D", "l"}:
        raise _usage(f"-b{value}: the relay is started with: relay serve")
    try:
        invocation.mode = Mode(value)
    except ValueError:
        raise _usage(f"-b{value} is not offered; there are -bm, -bp, -bs and -bi") from None


def _flush(invocation: Invocation, value: str) -> None:
    match value[:1]:
        case "":
            pass
        case "I":
            invocation.ids = (value[1:],)
        case "R":
            invocation.domain = value[1:].removeprefix("@")
        case _:
            raise _usage(f"-q{value}: the relay attempts deferred mail by itself; there are -q, -qI ID and -qR DOMAIN")
    invocation.mode = Mode.FLUSH


def _xtext(text: str) -> str:
    """RFC 3461 §4: printable ASCII but "+" and "=", all else in hexadecimal."""
    octets = text.encode("utf-8", "surrogateescape")
    return _NO_XTEXT.sub(lambda found: b"+%02X" % found[0][0], octets).decode("ascii")


def _usage(text: str) -> Failure:
    return Failure(Exit.USAGE, text)
