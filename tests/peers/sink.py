"""A fast counting sink, as a program of its own: takes all mail, answers each flight after a round trip's delay.

``python sink.py [--port P] [--delay SECONDS] [--hide PIPELINING] [--chunking] [--ledger FILE]`` prints its port as one
JSON line, and another on SIGTERM: the messages, octets, sessions and round trips that it counted, with the times of
the first session and of the last message.
With ``--ledger`` every message appends ``<time> <session> <sha256 of the content> <X-Ledger field>`` to FILE before it
is answered. On SIGUSR1 the counters are printed without ending, on SIGUSR2 they start anew.

A round trip is counted where octets arrive after replies were written: what a client waited for, however TCP cut it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import signal
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

import uvloop

EXTENSIONS = ("PIPELINING", "CHUNKING", "SIZE 100000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
LEDGER_FIELD = re.compile(rb"^X-Ledger: (\S+)\r\n", re.MULTILINE)
OK, RECIPIENT_OK, GO_ON = b"250 2.0.0 Ok\r\n", b"250 2.1.5 Ok\r\n", b"354 Go on\r\n"


@dataclass
class Counters:
    """What a sink has seen."""

    messages: int = 0
    octets: int = 0
    sessions: int = 0
    round_trips: int = 0
    first: float = 0.0
    last: float = 0.0


class Sink:
    """What all sessions share."""

    def __init__(self, delay: float = 0.0, hide: frozenset[str] = frozenset(), ledger: BinaryIO | None = None) -> None:
        self.delay = delay
        self.ledger = ledger
        self.counters = Counters()
        shown = ["sink.test", *(line for line in EXTENSIONS if line.partition(" ")[0] not in hide)]
        self.ehlo = "".join(
            f"250{' ' if n == len(shown) - 1 else '-'}{line}\r\n" for n, line in enumerate(shown)
        ).encode()

    def took(self, session: int, content: bytes, *, stuffed: bool) -> None:
        """A whole message, as on the wire."""
        counters = self.counters
        counters.messages += 1
        counters.octets += len(content)
        counters.last = time.time()
        if self.ledger is not None:
            plain = (b"\r\n" + content).replace(b"\r\n..", b"\r\n.")[2:] if stuffed else content
            # The body alone is hashed: every relay puts its own fields on top.
            body = plain.partition(b"\r\n\r\n")[2]
            found = LEDGER_FIELD.search(plain)
            name = found[1].decode() if found else "-"
            digest = hashlib.sha256(body).hexdigest()
            os.write(self.ledger.fileno(), f"{counters.last:.6f} {session} {digest} {name}\n".encode())


class SinkSession(asyncio.Protocol):
    """One connection: a line or content machine without a task of its own."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.buffer = bytearray()
        self.chunks = bytearray()
        self.content = False
        self.searched = 0
        self.replied = False
        self.due: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.sink.counters.sessions += 1
        self.number = self.sink.counters.sessions
        self.sink.counters.first = self.sink.counters.first or time.time()
        self.answer(b"220 sink.test ESMTP\r\n")

    def answer(self, replies: bytes) -> None:
        """Write one flight of replies after the delay; delays of flights overlap as they do on a wire."""
        if not self.sink.delay:
            self.replied = True
            self.transport.write(replies)
            return
        self.due.append(replies)
        asyncio.get_running_loop().call_later(self.sink.delay, self.write_due)

    def write_due(self) -> None:
        replies = self.due.popleft()
        self.replied = True
        if not self.transport.is_closing():
            self.transport.write(replies)
            if replies.endswith(b"221 2.0.0 Bye\r\n"):
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.replied:
            self.replied = False
            self.sink.counters.round_trips += 1
        self.buffer += data
        replies = bytearray()
        while True:
            if self.content:
                end = self.buffer.find(b"\r\n.\r\n", self.searched)
                if end < 0:
                    self.searched = max(0, len(self.buffer) - 4)
                    break
                # The CRLF of the DATA line was left in the buffer, so that an empty content ends too.
                self.sink.took(self.number, bytes(self.buffer[2 : end + 2]), stuffed=True)
                del self.buffer[: end + 5]
                self.content = False
                replies += OK
                continue
            end = self.buffer.find(b"\r\n")
            if end < 0:
                break
            verb = bytes(self.buffer[:4]).upper()
            if verb == b"DATA":
                del self.buffer[:end]
                self.content, self.searched = True, 0
                replies += GO_ON
                continue
            if verb == b"BDAT":
                size = int(self.buffer[4:end].split()[0])
                if len(self.buffer) < end + 2 + size:
                    break
                last = self.buffer[4:end].upper().endswith(b"LAST")
                self.chunks += self.buffer[end + 2 : end + 2 + size]
                del self.buffer[: end + 2 + size]
                if last:
                    self.sink.took(self.number, bytes(self.chunks), stuffed=False)
                    self.chunks.clear()
                replies += OK
                continue
            del self.buffer[: end + 2]
            if verb == b"RCPT":
                replies += RECIPIENT_OK
            elif verb == b"EHLO":
                replies += self.sink.ehlo
            elif verb == b"QUIT":
                replies += b"221 2.0.0 Bye\r\n"
            elif verb in {b"MAIL", b"RSET", b"NOOP", b"HELO"}:
                replies += OK
            else:
                replies += b"500 5.5.2 What?\r\n"
        if replies:
            self.answer(bytes(replies))
            if not self.sink.delay and replies.endswith(b"221 2.0.0 Bye\r\n"):
                self.transport.close()


async def serve(sink: Sink, port: int) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def report() -> None:
        print(json.dumps(asdict(sink.counters)), flush=True)

    def anew() -> None:
        sink.counters = Counters()

    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGUSR1, report)
    loop.add_signal_handler(signal.SIGUSR2, anew)
    server = await loop.create_server(lambda: SinkSession(sink), "127.0.0.1", port, backlog=1000)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await over.wait()
    report()


def main() -> None:
    parser = argparse.ArgumentParser(description="a fast counting SMTP sink")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between a flight and its replies")
    parser.add_argument("--hide", action="append", default=[], help="an extension not to advertise")
    parser.add_argument("--chunking", action="store_true", help="advertise CHUNKING")
    parser.add_argument("--ledger", help="file to append a line per message to")
    chosen = parser.parse_args()
    hidden = {*chosen.hide, *(() if chosen.chunking else ("CHUNKING",))}
    # Kept open for the life of the process; each line is one write.
    ledger = Path(chosen.ledger).open("ab", buffering=0) if chosen.ledger else None  # noqa: SIM115
    uvloop.run(serve(Sink(chosen.delay, frozenset(hidden), ledger), chosen.port))


if __name__ == "__main__":
    main()
