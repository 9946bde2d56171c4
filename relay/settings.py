"""What can be set, as frozen values with their defaults; ``config`` fills them from relay.toml.

Durations are seconds, sizes octets. A room gets the one value that concerns it, never the whole configuration. A key
enters here with its feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Network = str
"""An IPv4 or IPv6 network in CIDR notation, checked when the configuration is read."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that does not show itself in a ``repr``, an error or a log."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """``[spool]``"""

    path: str = "/var/lib/relay/spool.db"
    max_size: int = 10_000_000_000
    min_free_disk: int = 500_000_000
    history: float = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """``[queue]``"""

    lifetime: float = 5 * 86400.0
    bounce_lifetime: float = 86400.0
    bounces: Literal["default", "off"] = "default"
    stop_timeout: float = 30.0
    backoff: tuple[float, ...] = (60.0, 300.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """``[listener.NAME]``; ``address`` is "host:port" or "[v6]:port"."""

    name: str = "app"
    address: str = "127.0.0.1:2525"
    networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    max_message_size: int = 25_000_000
    max_recipients: int = 1000
    max_sessions: int = 200
    max_sessions_per_client: int = 50
    timeout: float = 300.0
    line_ends: Literal["normalize", "reject"] = "normalize"


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """``[upstream.NAME]``; ``password`` is filled from password, password_file, password_env or password_credential."""

    name: str
    kind: Literal["smtp", "simulator"] = "smtp"
    host: str = ""
    port: int = 587
    tls: Literal["none", "starttls", "implicit"] = "starttls"
    tls_verify: bool = True
    tls_ca: str | None = None
    username: str | None = None
    password: Secret | None = None
    max_connections: int = 10
    max_messages_per_connection: int = 10_000
    max_connection_age: float = 300.0
    idle_timeout: float = 30.0
    max_recipients: int = 100
    pipelining: Literal["off", "on", "chained", "auto"] = "auto"
    connect_timeout: float = 30.0
    reply_timeout: float = 300.0
    final_reply_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """``[control]``; ``path`` is the Unix socket; empty: ``control.sock`` beside the spool."""

    path: str = ""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``; ``target`` is "stderr" or a file's path."""

    target: str = "stderr"
    tag: str = "postfix"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of relay.toml."""

    hostname: str
    upstreams: tuple[UpstreamSettings, ...]
    listeners: tuple[ListenerSettings, ...]
    spool: SpoolSettings = SpoolSettings()
    queue: QueueSettings = QueueSettings()
    control: ControlSettings = ControlSettings()
    log: LogSettings = LogSettings()
