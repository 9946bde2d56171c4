"""Who may be in: networks, and how many sessions there are, in all and of one client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from relay.outcome import Reply
from relay.settings import ListenerSettings

TOO_MANY: Final = Reply(421, "Error: too many connections", "4.7.0")
NOT_ALLOWED: Final = Reply(521, "Error: this host takes no mail from yours", "5.3.2")
"""RFC 7504 §3."""
STOPPING: Final = Reply(421, "Service shutting down", "4.3.2")


class Networks:
    """A set of networks in CIDR notation."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(n) for n in networks)
        self._known = lru_cache(256)(self._has)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        """Whether the IP address is within one of them; whatever is none is not."""
        return bool(self._networks) and self._known(address)

    def _has(self, address: str) -> bool:
        try:
            client = ip_address(address)
        except ValueError:
            return False
        return any(client in network for network in self._networks)


class Gate:
    """Counts sessions by client, under limits that may change while it does."""

    def __init__(self, settings: ListenerSettings) -> None:
        self._clients: Counter[str] = Counter()
        self._count = 0
        self.stopping = False
        self.configure(settings)

    def configure(self, settings: ListenerSettings) -> None:
        """Take other limits; who is in stays."""
        self._settings = settings
        self._networks = Networks(settings.networks)

    def enter(self, address: str, *, local: bool = False) -> Reply | None:
        """Let a client in, or say why not; ``local``: it came over a Unix socket, whose mode has let it pass."""
        if not local and address not in self._networks:
            return NOT_ALLOWED
        if self.stopping:
            return STOPPING
        if self._count >= self._settings.max_sessions:
            return TOO_MANY
        if self._clients[address] >= self._settings.max_sessions_per_client:
            return TOO_MANY
        self._count += 1
        self._clients[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Somebody who was let in is gone."""
        self._count -= 1
        self._clients[address] -= 1
        if not self._clients[address]:
            del self._clients[address]
