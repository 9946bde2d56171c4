"""Listening on a path: who may connect, who is told to be there, what is left behind."""

from __future__ import annotations

import grp
import os
import socket
import stat
from pathlib import Path

import pytest

from relay.events import Accepted
from relay.settings import ListenerSettings
from tests.listener.stand_ins import a_door


def at(path: Path, *, mode: int = 0o660, group: str | None = None) -> ListenerSettings:
    return ListenerSettings(
        address=f"unix:{path}", socket_mode=mode, socket_group=group, networks=("192.0.2.1/32",), max_sessions=2
    )


async def test_a_message_over_a_path(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with a_door(at(path)) as door:
        assert door.listeners.addresses == (f"unix:{path}",)
        client = await door.connect()
        await client.ask(b"EHLO app.test\r\n")
        assert (await client.submit(b"Subject: x\r\n\r\nx\r\n")).startswith(b"250 ")
        (accepted,) = (event for event in door.events if isinstance(event, Accepted))
        assert accepted.client == f"localhost[uid={os.getuid()}]"
        await door.connect()
        assert (await (await door.dial()).rest()).startswith(b"421 4.7.0 ")
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o666])
async def test_mode_and_group(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "smtp.sock"
    group = grp.getgrgid(os.getgid()).gr_name
    async with a_door(at(path, mode=mode, group=group)):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == mode
        assert status.st_gid == os.getgid()


async def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"can't listen on unix:.*: no group nobody-knows-it"):
        async with a_door(at(tmp_path / "smtp.sock", group="nobody-knows-it")):
            pass


async def test_what_a_killed_relay_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    async with a_door(at(path)) as door:
        await door.connect()


async def test_a_live_socket_and_a_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "smtp.sock"
    async with a_door(at(path)) as door:
        with pytest.raises(OSError, match="can't listen on unix:"):
            async with a_door(at(path)):
                pass
        await door.connect()
    path.write_text("no socket")
    with pytest.raises(OSError, match="can't listen on unix:"):
        async with a_door(at(path)):
            pass
    assert path.read_text() == "no socket"
