"""TLS towards upstreams: what is asked of it, and what is said where it fails.

1.2 or later (RFC 8996), verified against the host's name (RFC 8314 §4, RFC 9525) unless the configuration says
otherwise. "opportunistic" is never verified: what would be sent in clear otherwise gains, and only gains, by it.
"""

from __future__ import annotations

import ssl
from typing import Final

from relay.settings import UpstreamSettings

NOT_TRUSTED: Final = "4.7.5"
"""RFC 3463 §3.8, X.7.5: cryptographic failure; temporary, as an upstream's trouble is."""


def context_of(settings: UpstreamSettings) -> ssl.SSLContext:
    """What one upstream's connections share. Reads files; raises OSError (an :class:`ssl.SSLError` is one)."""
    context = ssl.create_default_context(cafile=settings.tls_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls == "opportunistic" or not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.tls_cert is not None:
        # With a passphrase of nothing a protected key is an error; without one OpenSSL would ask at the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    return context


def files_of(settings: UpstreamSettings) -> tuple[str, ...]:
    """The files that :func:`context_of` reads: a renewed certificate counts from the next connection on."""
    return tuple(path for path in (settings.tls_ca, settings.tls_cert, settings.tls_key) if path is not None)


def words_of(error: ssl.SSLError, where: str) -> str:
    """What a failed handshake with ``where`` says in the log; OpenSSL's reason, not its source line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"server certificate of {where} not verified: {error.verify_message.rstrip('.')}"
    reason = (error.reason or "handshake failure").replace("_", " ").lower()
    return f"cannot start TLS with {where}: {reason}"
