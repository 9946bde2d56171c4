"""Scripted HTTP APIs: SES API v2, SparkPost and a token server, as a server on threads that does what it is told.

They check what providers check: the signature with a signer of their own, the key, the JSON, the base64. An answer is
a status and a body, or "close" (before a word), "hang" (until the peer is over), in turn; then the good one again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

KEY_ID, SECRET, REGION, API_KEY = (
    "AKIDEXAMPLE",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "eu-west-1",
    "geheim-api-key",
)
CLIENT, CLIENT_SECRET, REFRESH = "client-1", "client&geheim", "refresh/geheim"


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    fields: Mapping[str, str] = field(default_factory=dict)


CLOSE, HANG, CUT = "close", "hang", "cut"
Act = Answer | str


@dataclass
class Asked:
    at: float
    connection: int
    method: str
    path: str
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ApiPeer:
    """``acts`` are used up by POSTs, ``account`` answers GETs."""

    tls: ssl.SSLContext | None = None
    acts: list[Act] = field(default_factory=list)
    account: Answer = field(default_factory=lambda: Answer(200, {}))
    port: int = 0
    delay: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    heard: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        peer = self
        self.over = threading.Event()
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with peer._lock:
                    peer.connections += 1
                    self.number = peer.connections

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._serve(b"")

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) == length:
                    self._serve(body)
                else:
                    self.close_connection = True  # broken off: no request

            def _serve(self, body: bytes) -> None:
                names = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(time.monotonic(), self.number, self.command, self.path, names, body)
                answer = peer.answer(asked)
                if answer == HANG:
                    peer.over.wait(30)
                if isinstance(answer, str):
                    if answer == CUT:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
                    self.close_connection = True
                    return
                if peer.delay:
                    time.sleep(peer.delay)
                said = b"" if answer.body is None else answer.body
                if not isinstance(said, bytes):
                    said = json.dumps(said).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.fields}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 100

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    @property
    def posts(self) -> list[Asked]:
        return [each for each in self.asked if each.method == "POST"]

    def answer(self, asked: Asked) -> Act:
        with self._lock:
            self.asked.append(asked)
            if asked.method == "GET":
                return self.account
            self.heard.set()
            wrong = self.wrong(asked)
            if wrong is not None:
                return wrong
            return self.acts.pop(0) if self.acts else self.good(asked)

    def wrong(self, asked: Asked) -> Answer | None:
        """What a provider would refuse before all else."""
        del asked
        return None

    def good(self, asked: Asked) -> Answer:
        del asked
        return Answer(200, {})


def ses_error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/"})


class SesPeer(ApiPeer):
    def wrong(self, asked: Asked) -> Answer | None:
        if hashlib.sha256(asked.body).hexdigest() != asked.fields["x-amz-content-sha256"]:
            return ses_error(403, "InvalidSignatureException", "the payload is another one")
        if signature_of(asked) != asked.fields["authorization"].rpartition("Signature=")[2]:
            return ses_error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        base64.b64decode(asked.json()["Content"]["Raw"]["Data"], validate=True)
        return None

    def good(self, asked: Asked) -> Answer:
        return Answer(200, {"MessageId": f"0102-{len(self.asked)}"})

    @staticmethod
    def content(asked: Asked) -> bytes:
        return base64.b64decode(asked.json()["Content"]["Raw"]["Data"])


def signature_of(asked: Asked, secret: str = SECRET) -> str:
    """Signature Version 4, by the AWS General Reference: the second opinion."""
    parts = dict(part.strip().split("=", 1) for part in asked.fields["authorization"].partition(" ")[2].split(","))
    names = parts["SignedHeaders"].split(";")
    path, _, query = asked.path.partition("?")
    canonical = "\n".join(
        [
            asked.method,
            path,
            query,
            *(f"{name}:{asked.fields[name]}" for name in names),
            "",
            ";".join(names),
            asked.fields["x-amz-content-sha256"],
        ]
    )
    when, scope = asked.fields["x-amz-date"], parts["Credential"].split("/", 1)[1]
    text = "\n".join(["AWS4-HMAC-SHA256", when, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for each in scope.split("/"):
        key = hmac.digest(key, each.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class SparkPostPeer(ApiPeer):
    def wrong(self, asked: Asked) -> Answer | None:
        if asked.fields.get("authorization") != API_KEY:
            return Answer(401, {"errors": [{"message": "Unauthorized."}]})
        assert isinstance(asked.json()["content"]["email_rfc822"], str)
        return None

    def good(self, asked: Asked) -> Answer:
        count = len(asked.json()["recipients"])
        results = {"total_rejected_recipients": 0, "total_accepted_recipients": count, "id": f"11{len(self.asked)}"}
        return Answer(200, {"results": results})

    @staticmethod
    def content(asked: Asked) -> bytes:
        text: str = asked.json()["content"]["email_rfc822"]
        return text.encode()


@dataclass
class TokenPeer(ApiPeer):
    """Gives ``token-1``, ``token-2``, …, each for ``life`` seconds."""

    life: int = 3600
    given: int = 0

    def good(self, asked: Asked) -> Answer:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        proof = form.get("refresh_token") == REFRESH or form.get("client_secret") == CLIENT_SECRET
        if form.get("client_id") != CLIENT or not proof:
            return Answer(400, {"error": "invalid_grant", "error_description": "AADSTS700082: expired"})
        self.given += 1
        return Answer(200, {"access_token": f"token-{self.given}", "token_type": "Bearer", "expires_in": self.life})


def main() -> None:
    """One of them as a process of its own: ``ses`` or ``sparkpost``, port and delay; prints counts at its end."""
    import sys

    kind, port, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    of = {"ses": SesPeer, "sparkpost": SparkPostPeer}[kind]
    with of(port=port, delay=delay) as peer:
        print(json.dumps({"port": peer.port}), flush=True)
        sys.stdin.readline()
        print(json.dumps({"posts": len(peer.posts), "connections": peer.connections}), flush=True)


if __name__ == "__main__":
    main()
