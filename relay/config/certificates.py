"""Certificate and key files, tried before a relay runs with them."""

from __future__ import annotations

import ssl


def flaw_of_trust(path: str) -> str | None:
    """What is wrong with a file of certificates to trust, in words; None where nothing is."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
    except OSError as error:
        return _words(error, "a file that holds no certificate in PEM")
    return None if context.cert_store_stats()["x509"] else "a file that holds no certificate in PEM"


def flaw_of_chain(certificate: str, key: str | None) -> str | None:
    """What is wrong with a certificate, those below its root, and its private key (in the same file or ``key``)."""
    try:
        # With an empty passphrase a protected key is an error; with none OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # ValueError: some builds refuse an empty passphrase so
        return _words(error, "files that hold no certificate or no unprotected private key in PEM")
    return None


def _words(error: Exception, otherwise: str) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "a private key that is another certificate's"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return f"what can't be read: {error.strerror}"
    return otherwise
