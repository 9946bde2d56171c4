"""What can be set, as frozen values with their defaults; ``config`` fills them from relay.toml.

Durations are seconds, sizes octets; a field's type names how relay.toml spells it. A room gets the one value that
concerns it, never the whole configuration. A key enters here with its feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal


class Spelling(StrEnum):
    """How a value is written in relay.toml, where its Python type does not say."""

    DURATION = "duration"
    PERIOD = "period"
    SIZE = "size"
    ROOM = "room"
    COUNT = "count"
    PORT = "port"
    NETWORK = "network"
    ADDRESS = "address"
    HOST = "host"
    IP = "ip"
    DOMAIN = "domain"
    FILE = "file"
    LOG = "log"
    TAG = "tag"
    SPOOL = "spool"
    SOCKET = "socket"
    MODE = "mode"
    HASH = "hash"
    SENDER = "sender"
    ALIASES = "aliases"


Duration = Annotated[float, Spelling.DURATION]
"""Seconds, more than none."""
Period = Annotated[float, Spelling.PERIOD]
"""Seconds, or none."""
Size = Annotated[int, Spelling.SIZE]
"""Octets, more than none."""
Room = Annotated[int, Spelling.ROOM]
"""Octets, or none."""
Count = Annotated[int, Spelling.COUNT]
"""How many, one at least."""
Port = Annotated[int, Spelling.PORT]
Network = Annotated[str, Spelling.NETWORK]
"""An IPv4 or IPv6 network in CIDR notation, checked when the configuration is read."""
FilePath = Annotated[str, Spelling.FILE]
"""Absolute once the configuration is read; there relative to the configuration's folder."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that does not show itself in a ``repr``, an error or a log."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """``[spool]``"""

    path: Annotated[str, Spelling.SPOOL] = "/var/lib/relay/spool.db"
    max_size: Size = 10_000_000_000
    min_free_disk: Room = 500_000_000
    history: Period = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """``[queue]``"""

    lifetime: Duration = 5 * 86400.0
    bounce_lifetime: Duration = 86400.0
    bounces: Literal["default", "off"] = "default"
    stop_timeout: Period = 30.0
    backoff: tuple[Duration, ...] = (60.0, 300.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """``[listener.NAME]``; ``address`` is "host:port", "[v6]:port" or "unix:" and an absolute path.

    ``socket_mode`` and ``socket_group`` are for a Unix socket; who connects from ``proxy_networks`` speaks the PROXY
    protocol, and is believed.
    """

    name: str = "app"
    address: Annotated[str, Spelling.ADDRESS] = "127.0.0.1:2525"
    socket_mode: Annotated[int, Spelling.MODE] = 0o660
    socket_group: str | None = None
    networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    proxy_networks: tuple[Network, ...] = ()
    tls: Literal["none", "starttls", "implicit"] = "none"
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    auth: Literal["none", "optional", "required"] = "none"
    max_message_size: Size = 25_000_000
    max_recipients: Count = 1000
    max_sessions: Count = 200
    max_sessions_per_client: Count = 50
    timeout: Duration = 300.0
    line_ends: Literal["normalize", "reject"] = "normalize"


@dataclass(frozen=True, slots=True)
class UserSettings:
    """``[user.NAME]``: who may log in; ``senders`` limits its reverse-paths, empty: any."""

    name: str
    password_hash: Annotated[Secret, Spelling.HASH] = Secret("")
    senders: tuple[Annotated[str, Spelling.SENDER], ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """``[upstream.NAME]``; ``password`` is filled from password, password_file, password_env or password_credential."""

    name: str
    kind: Literal["smtp", "simulator"] = "smtp"
    host: Annotated[str, Spelling.HOST] = ""
    port: Port = 587
    tls: Literal["none", "starttls", "implicit", "opportunistic"] = "starttls"
    tls_verify: bool = True
    tls_ca: FilePath | None = None
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    auth: Literal["auto", "plain", "login", "cram-md5"] = "auto"
    username: str | None = None
    password: Secret | None = None
    address_family: Literal["any", "ipv4", "ipv6"] = "any"
    source_addresses: tuple[Annotated[str, Spelling.IP], ...] = ()
    max_connections: Count = 10
    max_messages_per_connection: Count = 10_000
    max_connection_age: Duration = 300.0
    idle_timeout: Duration = 30.0
    max_recipients: Count = 100
    max_message_size: Room = 0
    pipelining: Literal["off", "on", "chained", "auto"] = "auto"
    chunking: Literal["off", "auto"] = "auto"
    chunking_window: Count = 8
    connect_timeout: Duration = 30.0
    reply_timeout: Duration = 300.0
    final_reply_timeout: Duration = 600.0


@dataclass(frozen=True, slots=True)
class RewriteSettings:
    """``[rewrite]``; ``aliases`` pairs a local part or an address with an address. ``default_domain`` "": hostname."""

    aliases: Annotated[tuple[tuple[str, str], ...], Spelling.ALIASES] = ()
    default_domain: Annotated[str, Spelling.DOMAIN] = ""


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """``[control]``; ``path`` is the Unix socket; empty: ``control.sock`` beside the spool, as loading fills in."""

    path: Annotated[str, Spelling.SOCKET] = ""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``; ``target`` is "stderr" or a file's path."""

    target: Annotated[str, Spelling.LOG] = "stderr"
    tag: Annotated[str, Spelling.TAG] = "postfix"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of relay.toml."""

    hostname: Annotated[str, Spelling.DOMAIN]
    upstreams: tuple[UpstreamSettings, ...]
    listeners: tuple[ListenerSettings, ...]
    spool: SpoolSettings = SpoolSettings()
    queue: QueueSettings = QueueSettings()
    control: ControlSettings = ControlSettings()
    log: LogSettings = LogSettings()
    users: tuple[UserSettings, ...] = ()
    rewrite: RewriteSettings = RewriteSettings()
