"""A small SMTP server with STARTTLS, implicit TLS and AUTH, on threads: it works beside any event loop.

What it heard, it keeps: every command, and whether it came over TLS. It answers MAIL, RCPT and DATA in groups too.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import Self

USER, PASSWORD = "anna", "geheim&sehr-lang"
CHALLENGE = b"<1896.697170952@peer.test>"
FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


@dataclass
class TlsPeer:
    """``says`` replaces the reply to a verb ("GREETING", "EHLO", "STARTTLS", "AUTH", …); ``""`` hangs, None closes.

    ``garbage`` is written where a TLS handshake is due; ``silent`` hangs there. ``auth`` are the mechanisms offered.
    """

    tls: ssl.SSLContext | None = None
    implicit: bool = False
    offer_starttls: bool = True
    auth: tuple[str, ...] = ("PLAIN", "LOGIN", "CRAM-MD5")
    says: dict[str, str | None] = field(default_factory=dict)
    garbage: bytes = b""
    silent: bool = False
    address: str = "127.0.0.1"
    port: int = 0
    heard: list[tuple[bool, str]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    certificates: list[object] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(
            (self.address, self.port), family=FAMILIES.get(self.address, socket.AF_INET)
        )
        self._listening.settimeout(0.02)
        self.port = self._listening.getsockname()[1]
        if self.tls is not None:
            self.tls.sni_callback = lambda _sock, name, _context: self.names.append(name)
        self._start(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)
        self._listening.close()
        assert not any(thread.is_alive() for thread in self._threads)

    @property
    def verbs(self) -> list[str]:
        return [line.split(" ")[0].upper() for _, line in self.heard]

    def in_clear(self) -> list[str]:
        return [line.split(" ")[0].upper() for over_tls, line in self.heard if not over_tls]

    def _start(self, what: object, *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, peer = self._listening.accept()
                self.peers.append(peer[0])
                self._start(self._talk, connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(0.02)
        line = _Line(connection, self._over)
        try:
            with contextlib.suppress(OSError, EOFError):
                self._converse(line)
        finally:
            line.sock.close()

    def _converse(self, line: _Line) -> None:
        if self.implicit and not self._encrypt(line):
            return
        if not self._say(line, "GREETING", "220 peer.test ESMTP"):
            return
        while True:
            command = line.read()
            self.heard.append((line.over_tls, command))
            verb = command.split(" ")[0].upper()
            if verb == "EHLO":
                offers = ["PIPELINING", "SIZE 1000000"]
                offers += ["STARTTLS"] if self.offer_starttls and self.tls is not None and not line.over_tls else []
                offers += [f"AUTH {' '.join(self.auth)}"] if self.auth else []
                default = "\r\n".join(["250-peer.test", *(f"250-{offer}" for offer in offers), "250 HELP"])
            elif verb == "AUTH" and "AUTH" not in self.says:
                default = self._authenticate(line, command)
            elif verb == "DATA":
                default = "354 go on"
            else:
                default = {"STARTTLS": "220 2.0.0 go on", "QUIT": "221 bye"}.get(verb, "250 2.0.0 Ok")
            if not self._say(line, verb, default) or verb == "QUIT":
                return
            if verb == "STARTTLS" and self.says.get(verb, "220").startswith("220") and not self._encrypt(line):  # type: ignore[union-attr]
                return
            if verb == "DATA":
                while line.read() != ".":
                    pass
                self._say(line, "CONTENT", "250 2.0.0 Ok: taken")

    def _say(self, line: _Line, step: str, default: str) -> bool:
        reply = self.says.get(step, default)
        if reply:
            line.sock.sendall(f"{reply}\r\n".encode())
        elif reply == "":
            line.wait()
        return bool(reply)

    def _encrypt(self, line: _Line) -> bool:
        assert self.tls is not None
        if self.silent:
            line.wait()
        line.sock.settimeout(10)
        if self.garbage:
            line.sock.recv(65536)  # the client's hello
            line.sock.sendall(self.garbage)
            return False
        encrypted = self.tls.wrap_socket(line.sock, server_side=True)
        encrypted.settimeout(0.02)
        line.sock, line.over_tls = encrypted, True
        self.resumed.append(bool(encrypted.session_reused))
        self.certificates.append(encrypted.getpeercert())
        return True

    def _authenticate(self, line: _Line, command: str) -> str:
        mechanism, _, initial = command.partition(" ")[2].partition(" ")

        def ask(challenge: bytes) -> bytes:
            line.sock.sendall(b"334 " + base64.b64encode(challenge) + b"\r\n")
            return base64.b64decode(line.read())

        good = False
        if mechanism.upper() == "PLAIN":
            good = base64.b64decode(initial) == f"\0{USER}\0{PASSWORD}".encode()
        elif mechanism.upper() == "LOGIN":
            user = base64.b64decode(initial)
            good = (user, ask(b"Password:")) == (USER.encode(), PASSWORD.encode())
        elif mechanism.upper() == "CRAM-MD5":
            digest = hmac.new(PASSWORD.encode(), CHALLENGE, "md5").hexdigest()
            good = ask(CHALLENGE) == f"{USER} {digest}".encode()
        return "235 2.7.0 welcome" if good else "535 5.7.8 authentication failed"


class _Line:
    """A connection, read by lines, that ends when the peer is over."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self.sock = sock
        self.over_tls = False
        self._over = over
        self._buffer = b""

    def read(self) -> str:
        while b"\r\n" not in self._buffer:
            if self._over.is_set():
                raise EOFError
            with contextlib.suppress(TimeoutError):
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode()

    def wait(self) -> None:
        """Read and say nothing until the other side or the test is over."""
        while True:
            self.read()
