"""The shipped units: what they name is there, and systemd's own tools find nothing to complain of."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relay.config.values import read
from relay.settings import ListenerSettings, QueueSettings, SpoolSettings
from relay.spelling import Spelling

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
ANALYZE = shutil.which("systemd-analyze")


class _Repeated(dict[str, Any]):
    """Keys of a unit may come several times: all are kept, a line each."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self and isinstance(value, list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return parser


def seconds(text: str) -> float:
    return float(str(read(Spelling.DURATION, text.replace("min", "m") if text[-1].isalpha() else f"{text}s", ROOT)))


def test_it_starts_what_is_installed() -> None:
    service = unit("relay.service")["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program == "/opt/relay/.venv/bin/relay"
    assert arguments == ["serve"]
    assert 'relay = "relay.cli:main"' in (ROOT / "pyproject.toml").read_text()
    assert (ROOT / "docs" / "operations.md").exists()
    assert unit("relay.service")["Unit"]["Documentation"] == "file:/opt/relay/docs/operations.md"


def test_its_folders_are_those_of_the_defaults() -> None:
    service = unit("relay.service")["Service"]
    assert SpoolSettings().path.startswith(f"/var/lib/{service['StateDirectory']}/")
    assert service["StateDirectoryMode"] == "0700"
    assert service["ConfigurationDirectory"] == "relay"
    assert service["RuntimeDirectoryPreserve"] == "yes"


def test_it_is_given_time_to_stop_and_not_restarted_for_nothing() -> None:
    service = unit("relay.service")["Service"]
    assert seconds(service["TimeoutStopSec"]) > QueueSettings().stop_timeout + 10
    assert service["RestartPreventExitStatus"] == "78"
    assert service["Type"] == "notify"
    assert "HUP" in service["ExecReload"]
    assert seconds(service["WatchdogSec"]) >= 30


def test_the_sockets_are_the_default_listeners() -> None:
    streams = unit("relay.socket")["Socket"]["ListenStream"].splitlines()
    assert streams == [ListenerSettings().address, ListenerSettings().address.replace("127.0.0.1", "[::1]")]
    assert unit("relay.socket")["Socket"]["FileDescriptorName"] == ListenerSettings().name


def test_the_user_is_the_one_that_is_made() -> None:
    service = unit("relay.service")["Service"]
    made = re.findall(r"^u (\S+)", (UNITS / "relay.sysusers").read_text(), re.MULTILINE)
    assert made == [service["User"]] == [service["Group"]]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60, cwd=cwd)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units where the program that they start is there."""
    program = tmp_path / "relay"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in UNITS.glob("relay.s*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/relay/.venv/bin/relay", str(program)))
    return tmp_path


@pytest.mark.interop
@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_systemd_understands_every_line(installed: Path) -> None:
    assert ANALYZE is not None
    done = run(ANALYZE, "verify", "--man=no", "./relay.service", "./relay.socket", cwd=installed)
    said = [line for line in done.stderr.splitlines() if "relay.s" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.interop
@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_exposure_is_at_most_one_and_a_half(installed: Path) -> None:
    assert ANALYZE is not None
    measure = (ANALYZE, "security", "--no-pager", "--offline=true")
    done = run(*measure, "--threshold=15", "./relay.service", cwd=installed)
    assert done.returncode == 0, done.stdout
    bare = re.sub(
        r"(?m)^(\w*(Private|Protect|Restrict)\w*|SystemCallFilter)=.*\n", "", (installed / "relay.service").read_text()
    )
    (installed / "bare.service").write_text(bare)
    assert run(*measure, "--threshold=15", "./bare.service", cwd=installed).returncode != 0
