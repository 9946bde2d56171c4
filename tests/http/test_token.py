from __future__ import annotations

import stat
from pathlib import Path

import pytest

from relay.http.token import cookie_of, make_token, read_token


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "http.token"
    token = make_token(str(path))
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert make_token(str(path)) == read_token(str(path)) == token
    assert list(path.parent.iterdir()) == [path]
    assert make_token(str(tmp_path / "other.token")) != token


def test_it_is_neither_read_nor_made_through_a_link(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "http.token", tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic"):
        make_token(str(path))
    assert not elsewhere.exists()
    elsewhere.write_text("a-token-of-some-length\n")
    elsewhere.chmod(0o600)
    with pytest.raises(OSError, match="symbolic"):
        read_token(str(path))


@pytest.mark.parametrize("text", ["", "short", "with a space in the midst", "x" * 600, "ünsinn-ünsinn-ünsinn"])
def test_what_is_no_token_is_not_taken_for_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "http.token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(OSError, match="no token"):
        read_token(str(path))


def test_one_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "http.token"
    path.write_text("a-token-of-some-length\n")
    path.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        read_token(str(path))
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(IsADirectoryError):
        read_token(str(path))


def test_the_cookie_does_not_tell_the_token() -> None:
    assert "some-length" not in cookie_of("a-token-of-some-length")
    assert cookie_of("one") != cookie_of("two")
