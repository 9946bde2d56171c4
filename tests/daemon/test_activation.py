from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from relay.clock import SystemClock
from relay.daemon.activation import passed_sockets
from relay.events import Event
from relay.listener.inherited import Inherited
from relay.listener.server import Listeners
from relay.listener.transaction import ContentSink
from relay.mail import Client, Envelope
from relay.outcome import Reply
from relay.settings import ListenerSettings

PID = 4711


class NoMail:
    """A receiver of nothing."""

    def check_room(self, size: int, client: Client) -> Reply | None:
        raise AssertionError("nobody sends mail here")

    def check_recipient(self, address: str) -> Reply | None:
        raise AssertionError("nobody sends mail here")

    def open_content(self, envelope: Envelope, client: Client) -> ContentSink:
        raise AssertionError("nobody sends mail here")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, address: str = "127.0.0.1:0") -> tuple[socket.socket, ListenerSettings]:
    """A socket as a service manager opens it, and the settings of the listener that it is for."""
    if address.startswith("unix:"):
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if "[" in host else socket.AF_INET
        sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.bind((host.strip("[]"), int(port)))
        address = f"{host}:{sock.getsockname()[1]}"
    sock.listen()
    return sock, ListenerSettings("app", address)


def passed(*sockets: socket.socket, names: str = "") -> list[tuple[str, socket.socket]]:
    """``sockets`` at consecutive descriptors, read as a service reads them."""
    first = 200
    for n, sock in enumerate(sockets):
        os.dup2(sock.fileno(), first + n)
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names, "LANG": "C"}
    if not names:
        del environ["LISTEN_FDNAMES"]
    found = passed_sockets(environ, PID, first)
    assert environ == {"LANG": "C"}
    return found


def test_sockets_come_with_their_names_and_stay_ours(stack: ExitStack) -> None:
    one, other = listening(stack)[0], listening(stack)[0]
    found = passed(one, other, names="app:web")
    assert [name for name, _ in found] == ["app", "web"]
    for (_, sock), wanted in zip(found, (one, other), strict=True):
        assert sock.getsockname() == wanted.getsockname()
        assert not sock.get_inheritable()
        sock.close()


def test_without_names_there_are_none(stack: ExitStack) -> None:
    ((name, sock),) = passed(listening(stack)[0])
    assert name == ""
    sock.close()


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(PID)}])
def test_what_was_meant_for_others_is_not_taken(environ: dict[str, str]) -> None:
    assert passed_sockets(environ, PID) == []
    assert not environ


def test_a_socket_that_does_not_listen_is_an_error(stack: ExitStack) -> None:
    sock = stack.enter_context(socket.socket())
    with pytest.raises(OSError, match=r"no listening stream socket \(Accept=no\)"):
        passed(sock)


def test_a_listener_takes_the_socket_of_its_address(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/real/smtp.sock"):
        sock, settings = listening(stack, address)
        inherited = Inherited([("relay.socket", sock)])
        assert list(inherited.problems([settings])) == []
        taken = inherited.take(settings)
        assert taken is not None
        with taken:
            assert taken.getsockname() == sock.getsockname()
        assert inherited.take(replace(settings, address="127.0.0.1:1")) is None
    elsewhere = inherited.take(replace(settings, address=f"unix:{tmp_path}/link/smtp.sock"))
    assert elsewhere is not None
    elsewhere.close()


def test_spellings_of_an_address_are_one(stack: ExitStack) -> None:
    sock, settings = listening(stack)
    port = settings.address.rpartition(":")[2]
    taken = Inherited([("", sock)]).take(replace(settings, address=f"localhost:{port}"))
    assert taken is not None
    taken.close()


def test_a_socket_that_nobody_serves_is_a_problem(stack: ExitStack) -> None:
    sock, settings = listening(stack)
    bound = settings.address
    other = replace(settings, address="127.0.0.1:2525")
    assert list(Inherited([("web", sock)]).problems([other])) == [
        f"the service manager passed a socket on {bound} that no listener is for"
    ]
    assert list(Inherited([("app", sock)]).problems([other])) == [
        f"the service manager passed a socket on {bound} that no listener is for; [listener.app] says 127.0.0.1:2525"
    ]


def listeners(settings: ListenerSettings, inherited: Inherited) -> Listeners:
    events: list[Event] = []
    return Listeners(
        [settings],
        hostname="relay.test",
        receiver=NoMail(),
        clock=SystemClock(),
        emit=events.append,
        inherited=inherited,
    )


async def test_the_socket_outlives_its_listener(stack: ExitStack, tmp_path: Path) -> None:
    """Who connects between two lives waits in the backlog; a Unix socket's file and mode are the manager's."""
    path = tmp_path / "smtp.sock"
    sock, settings = listening(stack, f"unix:{path}")
    path.chmod(0o666)
    inherited = Inherited([("app", sock)])
    for _ in range(2):
        served = listeners(settings, inherited)
        await served.start()
        assert await served.configure([replace(settings, socket_mode=0o600)], []) == []
        await served.stop(0.0)
        assert path.stat().st_mode & 0o777 == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_a_reload_can_take_it_up_again(stack: ExitStack) -> None:
    sock, settings = listening(stack)
    served = listeners(settings, Inherited([("app", sock)]))
    await served.start()
    elsewhere = replace(settings, address="127.0.0.1:26655")
    (problem,) = await served.configure([elsewhere], [])
    assert "that no listener is for" in problem
    assert await served.configure([settings], []) == []
    assert served.addresses == (settings.address,)
    await served.stop(0.0)
