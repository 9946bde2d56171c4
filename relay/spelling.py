"""How the values of relay.toml are spelled, for types of the settings that do not say so themselves."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated


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
    PATH = "path"
    LOG = "log"
    TAG = "tag"
    SPOOL = "spool"
    SOCKET = "socket"
    MODE = "mode"
    HASH = "hash"
    SENDER = "sender"
    DELAY = "delay"
    ALIASES = "aliases"
    DKIM_KEYS = "dkim_keys"
    UPSTREAM_DKIM = "upstream_dkim"
    LIMIT = "limit"
    LIMITS = "limits"
    PAUSE = "pause"
    SHARE = "share"
    WARMUP = "warmup"
    MATCH = "match"
    URL = "url"
    OPTIONS = "options"
    SENDERS = "senders"
    DOOR = "door"


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
