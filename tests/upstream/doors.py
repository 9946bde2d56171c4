"""SMTP upstreams towards a peer on loopback, and a set of certificates: good, expired, of another name, of nobody."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import trustme
import uvloop

from relay.mail import Envelope, Message, Recipient
from relay.outcome import Outcome
from relay.settings import Secret, UpstreamSettings
from relay.upstream import DeliveryRequest, Finished, Session, UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.names import Found, Names, NoSuchHost, RecordType
from relay.upstream.smtp import SmtpUpstream
from relay.upstream.watched import Watched
from tests.upstream.tls_peer import PASSWORD, USER

T = TypeVar("T")
LOOPS = ["asyncio", "uvloop"]
HOST = "peer.test"


def run(on: str, what: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if on == "uvloop" else None) as runner:
        return runner.run(what)


class Certificates:
    """What servers show and clients trust; files lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.trust = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.trust)
        self.client = folder / "client.pem"
        self._authority.issue_cert("relay@client.test").private_key_and_cert_chain_pem.write_to_path(str(self.client))

    def server(self, name: str = HOST, *, expired: bool = False, stranger: bool = False) -> ssl.SSLContext:
        authority = trustme.CA() if stranger else self._authority
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name, not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=until).configure_cert(context)
        return context

    def issue(self, name: str, path: Path) -> None:
        """A certificate for ``name`` with its key, in one file."""
        self._authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))

    def asking_for_ours(self) -> ssl.SSLContext:
        context = self.server()
        self._authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def _hosts() -> Mapping[str, tuple[str, ...]]:
    return {HOST: ("127.0.0.1",)}


async def _nowhere(name: str, _record: RecordType) -> Found:
    raise NoSuchHost(name)


def upstream(port: int, *, login: bool = False, **settings: Any) -> SmtpUpstream:
    """Upstream "main" at peer.test, which /etc/hosts knows as 127.0.0.1."""
    if login:
        settings |= {"username": USER, "password": Secret(PASSWORD)}
    given: dict[str, Any] = {"host": HOST, "connect_timeout": 5.0} | settings
    hosts = Watched((), _hosts)
    clock = iter(range(10**9))
    names = Names(_nowhere, hosts, lambda: float(next(clock)))
    connector = Connector(names, lambda: float(next(clock)), lambda: 0.5)
    return SmtpUpstream(UpstreamSettings("main", port=port, **given), "relay.test", connector)


@dataclass
class Observer:
    """Remembers what a session tells."""

    ends: list[Finished] = field(default_factory=list)
    over: list[Outcome | None] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def finished(self, session: Session, finished: Finished) -> None:
        assert session.transactions
        self.ends.append(finished)
        self.changed.set()

    def capacity_changed(self, _session: Session) -> None:
        raise AssertionError

    def ended(self, _session: Session, why: Outcome | None) -> None:
        self.over.append(why)
        self.changed.set()


async def relay_one(door: SmtpUpstream, content: bytes = b"Subject: x\r\n\r\nhello you\r\n") -> Finished:
    """Connect, relay one message, QUIT."""
    observer = Observer()
    session = await door.connect(observer)
    message = Message(1 << 30, Envelope("a@x.test", (Recipient(0, "b@y.test"),)), len(content), 0.0)
    async with asyncio.timeout(10):
        session.begin(DeliveryRequest(message, content))
        while not observer.ends:
            observer.changed.clear()
            await observer.changed.wait()
        session.retire()
        while not observer.over:
            observer.changed.clear()
            await observer.changed.wait()
    assert observer.over == [None]
    await asyncio.sleep(0.02)  # the transport closes its socket in the loop's next turns
    return observer.ends[0]


async def refused(door: SmtpUpstream) -> Outcome:
    """Connect in vain; what it is told."""
    try:
        await door.connect(Observer())
    except UpstreamUnavailable as error:
        await asyncio.sleep(0.02)
        return error.outcome
    raise AssertionError("there is a session")
