"""``relay dkim``: make a key, print its record, verify what it signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.dkim.bodies import BodyHash
from relay.dkim.signatures import prepare, unsigned
from relay.signing.keys import load_key

HEADER = b"From: a@example.com\r\nSubject: x\r\n"


def relay(*arguments: str, content: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["dkim", *arguments], input=content)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration with the key that ``keygen`` made."""
    where = ("--domain", "Example.com", "--selector", "e1", "-o", f"{tmp_path}/e1.pem")
    made = relay("keygen", *where, "--type", "ed25519")
    assert made.exit_code == 0
    path = tmp_path / "relay.toml"
    keys = next(line for line in made.stderr.splitlines() if line.startswith("keys = "))
    path.write_text(f'[upstream.s]\nkind = "simulator"\n[dkim."example.com"]\n{keys}\n')
    return str(path)


def message(folder: Path) -> bytes:
    hasher = BodyHash(relaxed=False)
    hasher.feed(b"hello\r\n")
    prepared = prepare(HEADER, "example.com", "relaxed/simple")
    assert prepared is not None
    key = load_key(f"{folder}/e1.pem", "e1")
    made = unsigned(
        prepared, key, domain="example.com", canonicalization="relaxed/simple", body_hash=hasher.finish(), now=1
    )
    return made.signed(key.sign(made.digest)) + HEADER + b"\r\nhello\r\n"


def test_a_key_is_made_once_for_its_owner(tmp_path: Path, config: str) -> None:
    key = tmp_path / "e1.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    again = relay("keygen", "--domain", "example.com", "--selector", "e1", "-o", str(key))
    assert (again.exit_code, key.read_bytes()) == (1, before)
    assert "PRIVATE" not in again.output


@pytest.mark.parametrize("wrong", [("--domain", "exa mple"), ("--selector", "a/b"), ("--bits", "512")])
def test_usage(tmp_path: Path, wrong: tuple[str, str]) -> None:
    given = {"--domain": "example.com", "--selector": "s", "-o": f"{tmp_path}/k"} | dict([wrong])
    assert relay("keygen", *(word for pair in given.items() for word in pair)).exit_code == 2
    assert relay("record", __file__).exit_code == 2


def test_the_record_of_what_is_configured_and_of_a_file(tmp_path: Path, config: str) -> None:
    text = load_key(f"{tmp_path}/e1.pem", "e1").record()
    line = f'e1._domainkey.example.com. IN TXT "{text}"\n'
    assert relay("record", "-c", config).stdout == line
    assert relay("record", "--domain", "example.com", "--selector", "e1", f"{tmp_path}/e1.pem").stdout == line
    none = relay("record", "-c", config, "--selector", "e2")
    assert (none.exit_code, none.stdout) == (1, "")


def test_signatures_are_verified_by_configured_keys_or_a_record(tmp_path: Path, config: str) -> None:
    octets = message(tmp_path)
    good = relay("verify", "--offline", "-c", config, "-", content=octets)
    assert (good.exit_code, good.stdout) == (0, "d=example.com s=e1 a=ed25519-sha256: pass\n")
    # As an editor saves it.
    assert relay("verify", "--offline", "-c", config, "-", content=octets.replace(b"\r\n", b"\n")).exit_code == 0
    bad = relay("verify", "--offline", "-c", config, "--json", "-", content=octets.replace(b"hello", b"hallo"))
    assert bad.exit_code == 1
    (result,) = json.loads(bad.stdout)
    assert (result["domain"], result["selector"], result["passed"]) == ("example.com", "e1", False)
    record = tmp_path / "record"
    record.write_text(relay("record", "-c", config).stdout)
    assert relay("verify", "--record", str(record), "-", content=octets).exit_code == 0
    record.write_text("v=spf1 -all\n")
    assert relay("verify", "--record", str(record), "-", content=octets).exit_code == 2
    none = relay("verify", "--offline", "-c", config, "-", content=HEADER + b"\r\nhello\r\n")
    assert (none.exit_code, none.stdout) == (1, "no signature\n")
