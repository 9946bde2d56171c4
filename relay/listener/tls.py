"""TLS towards applications: what a listener offers, and what the log says of it.

1.2 or later (RFC 8996, RFC 8314 §4.1), with forward secrecy and authenticated encryption only. No certificate is asked
of a client: who it is AUTH says.
"""

from __future__ import annotations

import ssl
from typing import Final

from relay.settings import ListenerSettings

HANDSHAKE_TIMEOUT: Final = 30.0
"""Seconds that a handshake may take."""
# RFC 9325 §4.2: ephemeral keys, no CBC. TLS 1.3's own suites are all such and stay as they are.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def context_of(settings: ListenerSettings) -> ssl.SSLContext | None:
    """What a listener's sessions share; None where it does no TLS. Reads files; raises OSError (SSLError is one)."""
    if settings.tls == "none" or settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # A client could make the server work for nothing by it; TLS 1.3 has it no more.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # With a passphrase of nothing a protected key is an error; without one OpenSSL would ask at the terminal.
    context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    return context


def described(ssl_object: ssl.SSLObject) -> str:
    """``TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)``: Postfix's words for a connection."""
    name, _, bits = ssl_object.cipher() or ("unknown", "", 0)
    return f"{ssl_object.version()} with cipher {name} ({bits}/{bits} bits)"


def words_of(error: Exception) -> str:
    """Why a handshake came to nothing: OpenSSL's reason, not its source line."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failure").replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "timeout"
    return "lost connection"
