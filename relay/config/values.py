"""Texts of relay.toml into values: durations, sizes, addresses, networks, paths. No silent conversion.

Each :class:`~relay.settings.Spelling` has one sentence that says what is allowed and one function that reads it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from relay.config.aliases import read_aliases, read_senders
from relay.config.limits import LIMIT_ALLOWED, read_limit, read_pause, read_period
from relay.config.matching import SHARE_ALLOWED, read_limits, read_match, read_share, read_warmup
from relay.config.problems import Unreadable, describe, kind_of
from relay.config.signing import read_keys, read_upstream_dkim
from relay.listener.passwords import flaw_of_hash
from relay.settings import Secret
from relay.smtp.senders import is_pattern
from relay.spelling import Spelling

SOCKET_PATH_MAX: Final = 107
"""Octets of a Unix socket's path: sun_path of unix(7) without its final NUL."""

_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,3})?)\s?(B|[kK]B|[MGT]B|[KMGT]iB)", re.ASCII)
_OCTETS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>\d{1,5})", re.ASCII)
# RFC 1123 §2.1, and the underscore that some machines have in theirs.
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")
_MODE: Final = re.compile(r"0?[0-7]{3}", re.ASCII)
_UNIX: Final = "unix:"
_TAG: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")

_RANGES: Final = {Spelling.COUNT: (1, 1_000_000), Spelling.PORT: (1, 65535)}


def read(spelling: Spelling, value: object, folder: Path) -> object:
    """Read one value; ``folder`` is where relative paths start. Raises :class:`Unreadable`."""
    if spelling in _RANGES:
        least, most = _RANGES[spelling]
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise Unreadable(describe(value), f"an integer from {least} to {most}")
    if spelling is Spelling.ALIASES:
        return read_aliases(value)
    if spelling is Spelling.DKIM_KEYS:
        return read_keys(value, folder)
    if spelling is Spelling.UPSTREAM_DKIM:
        return read_upstream_dkim(value)
    if spelling is Spelling.HASH:
        return _hash(value)
    if spelling is Spelling.OPTIONS:
        return _options(value)
    if spelling is Spelling.DELAY and value == "off":
        return None
    if spelling in _TABLES:
        return _TABLES[spelling](value)
    if spelling is Spelling.LIMITS:
        return read_limits(value, folder)
    allowed, reader = _TEXTS[spelling]
    meant = reader(value, folder) if isinstance(value, str) and "\0" not in value else None
    if meant is None:
        raise Unreadable(describe(value), allowed)
    return meant


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of a listener's address that was read before."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether a connection to ``host`` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(address: str) -> bool:
    """Whether only this machine reaches a listener's address: a Unix socket or a loopback one."""
    return address.startswith(_UNIX) or is_loopback(split_address(address)[0])


def leads_to(host: str, port: int, address: str) -> bool:
    """Whether a connection to ``host`` and ``port`` arrives at a listener's address, as far as both are spelled out."""
    if address.startswith(_UNIX) or split_address(address)[1] != port:
        return False
    here = split_address(address)[0]
    if here in {"0.0.0.0", "::"} or "localhost" in {here, host.lower()}:  # noqa: S104 - it is compared with
        return is_loopback(host) and (is_loopback(here) or here in {"0.0.0.0", "::"})  # noqa: S104
    return _is_ip(host) and ipaddress.ip_address(host) == ipaddress.ip_address(here)


def is_domain(text: str) -> bool:
    """Whether ``text`` can stand in EHLO as a name (RFC 5321 §4.1.1.1)."""
    return _DOMAIN.fullmatch(text) is not None and not _is_ip(text)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _period(text: str, _folder: Path) -> float | None:
    return read_period(text)


def _duration(text: str, folder: Path) -> float | None:
    return _period(text, folder) or None


def _room(text: str, _folder: Path) -> int | None:
    found = _SIZE.fullmatch(text)
    octets = int(Decimal(found[1]) * _OCTETS[found[2].upper()]) if found else None
    return octets if octets is not None and octets < 2**63 else None


def _size(text: str, folder: Path) -> int | None:
    return _room(text, folder) or None


def _network(text: str, _folder: Path) -> str | None:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        return None


def _address(text: str, folder: Path) -> str | None:
    if text.startswith(_UNIX):
        path = _socket(text, folder)
        return path and f"{_UNIX}{path}"
    found = _ADDRESS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return None
    try:
        if found["v6"] is not None:
            ipaddress.IPv6Address(found["v6"])
        elif found["v4"] != "localhost":
            ipaddress.IPv4Address(found["v4"])
    except ValueError:
        return None
    return text


def _door(text: str, folder: Path) -> str | None:
    """An address that is no Unix socket; "" for none."""
    if text == "off":
        return ""
    return None if text.startswith(_UNIX) else _address(text, folder)


def _host(text: str, _folder: Path) -> str | None:
    return text if _DOMAIN.fullmatch(text) or _is_ip(text) else None


def _ip(text: str, _folder: Path) -> str | None:
    return text if _is_ip(text) and "%" not in text else None


def _domain(text: str, _folder: Path) -> str | None:
    literal = text.startswith("[") and text.endswith("]") and _is_ip(text[1:-1].removeprefix("IPv6:"))
    return text if literal or is_domain(text) else None


def _absolute(text: str, folder: Path) -> str:
    return os.path.normpath(folder / text)


def _file(text: str, folder: Path) -> str | None:
    path = _absolute(text, folder)
    return path if text and Path(path).is_file() else None


def _path(text: str, folder: Path) -> str | None:
    return None if not text or text.endswith("/") else _absolute(text, folder)


def _log(text: str, folder: Path) -> str | None:
    if text in {"stderr", "journald"}:
        return text
    return _absolute(text, folder) if "/" in text and not text.endswith("/") else None


def _tag(text: str, _folder: Path) -> str | None:
    return text if _TAG.fullmatch(text) else None


def _spool(text: str, folder: Path) -> str | None:
    path = text.removeprefix("sqlite:///")
    return _absolute(path, folder) if path not in {text, ""} and not path.endswith("/") else None


def _mode(text: str, _folder: Path) -> int | None:
    return int(text, 8) if _MODE.fullmatch(text) else None


def _hash(value: object) -> Secret:
    """A hash is shown no more than the password is: it may be one by mistake."""
    text = value if isinstance(value, str) else None
    flaw = flaw_of_hash(text) if text else f"{kind_of(value)} (not shown)"
    if flaw is not None:
        raise Unreadable(flaw, "what relay user hash prints, or a PHC string of scrypt or Argon2")
    return Secret(text or "")


def _url(text: str, _folder: Path) -> str | None:
    """An https URL; http only to this machine. A password in one would be shown in logs: none is taken."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    return text if safe and plain and _host(host, _folder) and text.isascii() and text.isprintable() else None


def _options(value: object) -> tuple[tuple[str, str | int | bool], ...]:
    """A table of plain values, handed on as they are."""
    if not isinstance(value, dict) or not value:
        raise Unreadable(describe(value), "a table with one key at least")
    for key, each in value.items():
        if not isinstance(each, str | int | bool):
            raise Unreadable(describe(each), "a string, an integer or a boolean", part=f".{key}")
    return tuple(value.items())


def _sender(text: str, _folder: Path) -> str | None:
    return text if is_pattern(text) else None


def _socket(text: str, folder: Path) -> str | None:
    path = text.removeprefix(_UNIX)
    if path in {text, ""} or path.endswith("/"):
        return None
    path = _absolute(path, folder)
    return path if len(os.fsencode(path)) <= SOCKET_PATH_MAX else None


_TABLES: Final[dict[Spelling, Callable[[object], object]]] = {
    Spelling.PAUSE: read_pause,
    Spelling.WARMUP: read_warmup,
    Spelling.MATCH: read_match,
    Spelling.SENDERS: read_senders,
}

_TEXTS: Final[dict[Spelling, tuple[str, Callable[[str, Path], object]]]] = {
    Spelling.DURATION: ('a duration above zero such as "90s", "5m", "4h" or "5d"', _duration),
    Spelling.PERIOD: ('a duration such as "90s", "5m", "4h", "5d" or "0s"', _period),
    Spelling.SIZE: ('a size above zero such as "25MB", "10GB" or "1MiB"', _size),
    Spelling.ROOM: ('a size such as "25MB", "10GB", "1MiB" or "0MB"', _room),
    Spelling.NETWORK: ('a network without host bits such as "10.0.0.0/8" or "2001:db8::/32", or an address', _network),
    Spelling.ADDRESS: (
        'an IP address and a port such as "127.0.0.1:2525", "[::1]:2525" or "0.0.0.0:25", or "unix:" and a path',
        _address,
    ),
    Spelling.DOOR: ('an IP address and a port such as "127.0.0.1:2580" or "[::1]:2580", or "off"', _door),
    Spelling.LIMIT: (LIMIT_ALLOWED, read_limit),
    Spelling.SHARE: (SHARE_ALLOWED, read_share),
    Spelling.HOST: ('a host name or an IP address, without a port, such as "smtp.example.com"', _host),
    Spelling.IP: ('an IP address without a port or brackets such as "192.0.2.10" or "2001:db8::10"', _ip),
    Spelling.DOMAIN: ('a host name such as "relay.example.com", or an address as "[192.0.2.1]"', _domain),
    Spelling.FILE: ("the path of an existing file", _file),
    Spelling.PATH: ("the path of a file", _path),
    Spelling.LOG: ('"stderr", "journald" or a path with a slash such as "/var/log/relay.log"', _log),
    Spelling.TAG: ("1 to 32 letters, digits, dots, underscores and hyphens", _tag),
    Spelling.SPOOL: ('"sqlite:////" and an absolute path, or "sqlite:///" and one relative to this file', _spool),
    Spelling.MODE: ('an octal mode such as "0660" or "0600"', _mode),
    Spelling.DELAY: ('a duration above zero such as "4h", or "off"', _duration),
    Spelling.SENDER: ('an address, or one with "*" such as "*@example.com", or "<>"', _sender),
    Spelling.URL: ('an address such as "https://api.example.com" (http: on this machine only)', _url),
    Spelling.SOCKET: (f'"unix:" and a path of at most {SOCKET_PATH_MAX} octets', _socket),
}
