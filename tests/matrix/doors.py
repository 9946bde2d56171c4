"""A relay with a listener of each kind before one upstream, and what a client must know to come in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from relay.listener.passwords import SALT_SIZE, hash_password
from tests.e2e.harness import Relay, Table, free_port, toml

USER: Final = "billing"
PASSWORD: Final = "geheim&sehr-lang"
KINDS: Final = ("plain", "starttls", "implicit", "login", "unix")
"""``login`` is STARTTLS with AUTH required."""


@dataclass(frozen=True)
class Door:
    """A listener as clients see it; ``tls`` is "none", "starttls" or "implicit"."""

    port: int
    authority: Path
    tls: str = "none"
    socket: Path | None = None
    login: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The same for programs/*."""
        said = {**os.environ, "DOOR_PORT": str(self.port), "DOOR_TLS": self.tls, "DOOR_CA": str(self.authority)}
        if self.login:
            said |= {"DOOR_USER": USER, "DOOR_PASSWORD": PASSWORD}
        if self.socket is not None:
            said["DOOR_SOCKET"] = str(self.socket)
        return said


class House(Relay):
    """``async with House(folder, upstreams) as house``; ``house.doors`` has a :class:`Door` of each of KINDS.

    All offer AUTH, which loopback may bear without TLS too; ``login`` requires it.
    """

    async def start(self, within: float = 30.0, *, may_die: bool = False) -> float:
        seconds = await super().start(within, may_die=may_die)
        # The plain door is the first of several.
        await self.until("daemon started", self.lives)
        return seconds

    def write_config(self) -> None:
        self.listener = {**self.listener, "auth": "optional"}
        super().write_config()
        authority = trustme.CA()
        trusted, certificate = self.folder / "ca.pem", self.folder / "relay.pem"
        authority.cert_pem.write_to_path(str(trusted))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        certificate.chmod(0o600)
        socket = self.folder / "smtp.sock"
        self.doors: Mapping[str, Door] = {
            "plain": Door(self.port, trusted),
            "starttls": Door(free_port(), trusted, "starttls"),
            "implicit": Door(free_port(), trusted, "implicit"),
            "login": Door(free_port(), trusted, "starttls", login=True),
            "unix": Door(0, trusted, socket=socket),
        }
        tables: dict[str, Table] = {"user.billing": {"password_hash": hash_password(PASSWORD, os.urandom(SALT_SIZE))}}
        for kind, door in self.doors.items():
            if kind != "plain":
                address = f"127.0.0.1:{door.port}" if door.socket is None else f"unix:{door.socket}"
                table: dict[str, str] = {"address": address, "tls": door.tls}
                table |= {"tls_cert": str(certificate)} if door.tls != "none" else {}
                table |= {"auth": "required" if door.login else "optional"}
                tables[f"listener.{kind}"] = table
        written = self.config.read_text()
        # The host's name stands above all tables, and only once.
        self.config.write_text(written + toml(tables).partition("\n")[2])
