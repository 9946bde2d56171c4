"""Private keys: what is taken, what is refused, and that it says why without a word of the key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from relay.signing.keys import KeyUnusable, load_key, make_key, write_key


def kept(folder: Path, octets: bytes, mode: int = 0o600) -> str:
    path = folder / "key.pem"
    path.write_bytes(octets)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(("kind", "bits"), [("rsa", 1024), ("rsa", 2048), ("rsa", 4096), ("ed25519", 256)])
def test_a_key_is_written_for_its_owner_and_read_back(tmp_path: Path, kind: str, bits: int) -> None:
    made = make_key("s", "rsa", bits) if kind == "rsa" else make_key("s", "ed25519")
    path = tmp_path / "key.pem"
    write_key(path, made)
    assert path.stat().st_mode & 0o777 == 0o600
    read = load_key(str(path), "s")
    assert (read.record(), read.algorithm, read.bits) == (made.record(), f"{kind}-sha256", bits)
    with pytest.raises(FileExistsError):
        write_key(path, made)
    assert load_key(str(path), "s").record() == made.record()


def test_the_older_form_of_a_file_is_read_too(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert load_key(kept(tmp_path, pem), "s").bits == 2048


def test_a_key_does_not_show_itself() -> None:
    key = make_key("s", "ed25519")
    assert repr(key) == "<PrivateKey s ed25519-sha256>"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_others_must_not_read_or_write_it(tmp_path: Path, mode: int) -> None:
    path = kept(tmp_path, make_key("s", "ed25519").pem(), mode)
    with pytest.raises(KeyUnusable, match=rf"a key with mode 0{mode:o}; allowed: .*chmod 600"):
        load_key(path, "s")
    assert load_key(path, "s", private=False).selector == "s"


SHORT = Path(__file__).with_name("rsa_512.pem").read_bytes()
"""OpenSSL makes such no more; nobody signs with it."""


def long() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=4104)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def locked() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim"))


def elliptic() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"", "a file without such a key"),
        (b"\xff" * 100_000, "a file without such a key"),
        (make_key("s", "ed25519").pem()[:60], "a file without such a key"),
        (locked(), "a key with a passphrase"),
        (elliptic(), "a key of another kind"),
        (SHORT, "an RSA key of 512 bits"),
        (long(), "an RSA key of 4104 bits"),
    ],
    ids=["empty", "noise", "cut", "locked", "elliptic", "short", "long"],
)
def test_what_is_no_key_to_sign_with(tmp_path: Path, octets: bytes, found: str) -> None:
    with pytest.raises(KeyUnusable, match=f"found {found}; allowed: ") as caught:
        load_key(kept(tmp_path, octets), "s")
    assert "BEGIN" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path, found in ((tmp_path, "is a directory"), (tmp_path / "fifo", "no regular file")):
        with pytest.raises(KeyUnusable, match=found):
            load_key(str(path), "s")
    with pytest.raises(KeyUnusable, match="no such file"):
        load_key(str(tmp_path / "none"), "s")
