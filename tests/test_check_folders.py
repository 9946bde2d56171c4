from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main


@pytest.mark.parametrize(("mode", "warned"), [(0o700, False), (0o755, False), (0o775, True), (0o777, True)])
def test_a_folder_that_others_may_write_to_is_named_and_no_error(tmp_path: Path, mode: int, warned: bool) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(mode)
    config = tmp_path / "relay.toml"
    config.write_text(
        'hostname = "a.example"\n[spool]\nurl = "sqlite:///spool/spool.db"\n[upstream.s]\nkind = "simulator"\n'
    )
    done = CliRunner().invoke(main, ["check", "-c", str(config)])
    assert done.exit_code == 0
    assert (f"warning: [spool] others may write to {folder}" in done.stderr) is warned
    assert "warning" not in done.stdout


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text(
        'hostname = "a.example"\n[spool]\nurl = "sqlite:///new/spool.db"\n[upstream.s]\nkind = "simulator"\n'
    )
    done = CliRunner().invoke(main, ["check", "-c", str(config)])
    assert (done.exit_code, done.stderr) == (0, "")
