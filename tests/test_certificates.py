"""What is said of certificate files before a relay runs with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relay.config.certificates import flaw_of_chain, flaw_of_trust

AUTHORITY = trustme.CA()
ONE, OTHER = AUTHORITY.issue_cert("one.test"), AUTHORITY.issue_cert("other.test")


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def test_good_files(tmp_path: Path) -> None:
    key = ONE.private_key_pem.bytes()
    certificate = ONE.cert_chain_pems[0].bytes()
    together = written(tmp_path, "both.pem", ONE.private_key_and_cert_chain_pem.bytes())
    assert flaw_of_chain(together, None) is None
    apart = written(tmp_path, "one.pem", certificate), written(tmp_path, "one.key", key)
    assert flaw_of_chain(*apart) is None
    assert flaw_of_trust(written(tmp_path, "ca.pem", AUTHORITY.cert_pem.bytes())) is None


def test_another_certificates_key(tmp_path: Path) -> None:
    certificate = written(tmp_path, "one.pem", ONE.cert_chain_pems[0].bytes())
    key = written(tmp_path, "other.key", OTHER.private_key_pem.bytes())
    assert flaw_of_chain(certificate, key) == "a private key that is another certificate's"


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    key = load_pem_private_key(ONE.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim"))
    certificate = written(tmp_path, "one.pem", ONE.cert_chain_pems[0].bytes())
    said = flaw_of_chain(certificate, written(tmp_path, "one.key", locked))
    assert said == "files that hold no certificate or no unprotected private key in PEM"


@pytest.mark.parametrize(
    "content", [b"", b"nothing\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_no_certificates(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, "x.pem", content)
    assert flaw_of_trust(path) == "a file that holds no certificate in PEM"
    assert flaw_of_chain(path, None) == "files that hold no certificate or no unprotected private key in PEM"


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert flaw_of_trust(str(tmp_path / "ca.pem")) == "what can't be read: No such file or directory"
