"""What others may have put in the place of our files: links, second names, FIFOs, files of their own."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.config import ConfigError, load
from relay.delivery.flightrecorder import FlightRecorder
from relay.signing.keys import KeyUnusable, load_key
from relay.spool import SpoolDamaged, SpoolError
from tests.e2e.harness import Relay, smtp_upstream
from tests.spool.test_sqlite import opened

PRECIOUS = b"precious"
SIDES = ["spool.db-wal", "spool.db-shm", "spool.db-journal"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")


def linked(path: Path, target: Path) -> None:
    path.symlink_to(target)


def second_name(path: Path, target: Path) -> None:
    path.hardlink_to(target)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir(0o700)
    return folder / "spool.db"


@pytest.mark.parametrize("name", ["spool.db", "spool.db.lock", *SIDES])
@pytest.mark.parametrize("trap", [linked, second_name])
async def test_what_leads_elsewhere_is_refused_and_its_target_untouched(
    spool: Path, tmp_path: Path, trap: Callable[[Path, Path], None], name: str
) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(PRECIOUS)
    target.chmod(0o644)
    trap(spool.with_name(name), target)
    with pytest.raises((SpoolDamaged, SpoolError)):
        await opened(spool)
    assert target.read_bytes() == PRECIOUS
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("trap", [linked, second_name])
async def test_what_is_not_needed_is_done_without_where_it_leads_elsewhere(
    spool: Path, tmp_path: Path, trap: Callable[[Path, Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(PRECIOUS)
    for name in ("spool.db.flight", "spool.db.ballast"):
        trap(spool.with_name(name), target)
    recorder = FlightRecorder(spool.with_name("spool.db.flight"), "this boot")
    recorder.note(1, 0, flying=True)
    recorder.close()
    await (await opened(spool)).close()
    assert target.read_bytes() == PRECIOUS
    assert "would not be recognised" in caplog.text


@pytest.mark.parametrize("name", ["spool.db", "spool.db.lock", *SIDES])
@pytest.mark.timeout(20)
async def test_a_fifo_is_refused_and_not_waited_for(spool: Path, name: str) -> None:
    os.mkfifo(spool.with_name(name))
    with pytest.raises((SpoolDamaged, SpoolError)):
        await opened(spool)


@needs_root
@pytest.mark.parametrize("name", ["spool.db", "spool.db.lock", *SIDES])
async def test_a_file_of_another_user_is_refused(spool: Path, name: str) -> None:
    """Its owner could read the mail, whatever the mode."""
    planted = spool.with_name(name)
    planted.touch()
    os.chown(planted, 12345, 12345)
    with pytest.raises((SpoolDamaged, SpoolError), match="another user"):
        await opened(spool)


@needs_root
async def test_root_works_on_the_spool_of_the_relays_user(spool: Path) -> None:
    await (await opened(spool)).close()
    for path in (spool.parent, *spool.parent.iterdir()):
        os.chown(path, 12345, 12345)
    await (await opened(spool)).close()


@pytest.mark.parametrize("side", SIDES[:2])
async def test_what_stood_beside_it_with_a_wide_mode_is_private(spool: Path, side: str) -> None:
    spool.with_name(side).touch(0o666)
    spool.with_name(side).chmod(0o666)
    opened_spool = await opened(spool)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.parent.iterdir()}
    await opened_spool.close()
    assert all(not mode & 0o077 for mode in modes.values()), modes


@pytest.mark.timeout(20)
@pytest.mark.parametrize("key", ["password_file", "tls_ca", "tls_cert"])
def test_a_fifo_in_the_configuration_keeps_nobody_waiting(tmp_path: Path, key: str) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    user = 'username = "u"\n' if key == "password_file" else ""
    path = tmp_path / "relay.toml"
    path.write_text(f'hostname = "relay.test"\n[upstream.main]\nhost = "smtp.example.com"\n{user}{key} = "fifo"\n')
    with pytest.raises(ConfigError, match=f"{key}: found .*fifo"):
        load(path, {})


@pytest.mark.timeout(20)
def test_a_fifo_as_a_signing_key_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(KeyUnusable, match="no regular file"):
        load_key(str(tmp_path / "fifo"), "s1")


async def test_a_running_relay_leaves_no_core_dump_and_only_private_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with Relay(tmp_path, {"peer": smtp_upstream(1)}) as relay:
            await relay.submit()
            assert max(resource.prlimit(relay.pid, resource.RLIMIT_CORE)) <= 1
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").iterdir()}
            assert {"spool.db", "spool.db-wal", "control.sock"} <= modes.keys()
            assert all(not mode & 0o077 for mode in modes.values()), modes
            assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    finally:
        os.umask(before)
