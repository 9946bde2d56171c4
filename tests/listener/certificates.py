"""Certificates for "localhost", made when they are asked for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key in ``path``, its authority's in ``authority``, and the context of a client that trusts
    that one alone.
    """

    path: str
    authority: str
    trusted: ssl.SSLContext


def certificate(folder: Path, name: str = "relay.pem") -> Certificate:
    """A new authority and what it issued, written to ``folder``/``name``."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    path = folder / name
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    path.chmod(0o600)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    trust = path.with_suffix(".ca")
    authority.cert_pem.write_to_path(str(trust))
    return Certificate(str(path), str(trust), trusted)
