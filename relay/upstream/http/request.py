"""HTTP requests and responses as values, and what no API says otherwise about a status (RFC 9110 §15). Pure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from relay.outcome import Outcome, Scope, Trouble, Verdict, lost

_TEXT_SHOWN: Final = 500
"""Characters of a server's text that are kept: it is foreign input and ends in logs, rows and DSNs."""
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an API lives. ``prefix`` is the path that all its requests begin with, without a final slash."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """What the Host field says: no port where it is the scheme's own (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def url(self, path: str) -> str:
        """The address of ``path`` there, a query included."""
        return f"{self.scheme}://{self.authority}{self.prefix}{path}"


def origin_of(url: str) -> Origin:
    """From an address that the configuration took: https, or http to this machine."""
    parts = urlsplit(url)
    return Origin(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Body:
    """A request's content: its length in octets, its SHA-256 in hexadecimal, and its pieces, as often as asked."""

    length: int
    sha256: str
    pieces: Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """``path`` has its query. The fields may hold keys and tokens: they are in no ``repr``."""

    method: str
    path: str
    fields: Mapping[str, str] = field(repr=False)
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """``fields`` have names in lower case; ``content`` is cut at a bound of the connection's."""

    status: int
    reason: str
    fields: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The content read as JSON; None where it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None


def printable(text: str) -> str:
    """A server's text as it may stand in a log: printable, on one line, cut."""
    text = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_SHOWN])


def wait_of(response: HttpResponse) -> tuple[float | None, float | None]:
    """Retry-After (RFC 9110 §10.2.3): seconds to wait, or the Unix time to wait for."""
    said = response.fields.get("retry-after", "").strip()
    if said.isascii() and said.isdigit() and len(said) < 7:
        return float(said), None
    try:
        return None, parsedate_to_datetime(said).timestamp() if said else None
    except ValueError:
        return None, None


def refusal(
    response: HttpResponse,
    text: str,
    *,
    host: str,
    verdict: Verdict = Verdict.DEFERRED,
    scope: Scope = Scope.MESSAGE,
    dsn: str = "",
    trouble: Trouble | None = None,
) -> Outcome:
    """What a response other than a success means, with its words: ``host … said: HTTP 429 …``."""
    said = f"host {host} said: HTTP {response.status} {printable(text or response.reason)}".rstrip()
    wait, until = wait_of(response) if scope is Scope.UPSTREAM else (None, None)
    status = dsn or ("5.0.0" if verdict is Verdict.FAILED else "4.0.0")
    return Outcome(verdict, scope, status, said, trouble=trouble, wait=wait, until=until)


def by_status(response: HttpResponse, text: str, *, host: str) -> Outcome:
    """Judge a response by its status alone, where the API's own words said nothing that is known."""
    status = response.status
    if status in {502, 504}:
        # A gateway's word: what stood behind it may have taken the message (RFC 9110 §15.6.3, §15.6.5).
        said = printable(text or response.reason)
        return lost(f"HTTP {status} {said}".rstrip(), host=host, in_doubt=True)
    if status in {401, 403}:
        return refusal(response, text, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.AUTH)
    if status == 429:
        return refusal(response, text, host=host, scope=Scope.UPSTREAM, dsn="4.7.0", trouble=Trouble.RATE)
    if status == 408:
        return refusal(response, text, host=host, scope=Scope.SESSION, dsn="4.4.2")
    if status == 413:
        large = refusal(response, text, host=host, verdict=Verdict.FAILED, dsn="5.3.4")
        return Outcome(large.verdict, large.scope, large.dsn, large.detail, unfit=True)
    if status in {400, 422}:
        return refusal(response, text, host=host, verdict=Verdict.FAILED)
    if status == 500:
        return refusal(response, text, host=host, dsn="4.3.0")
    # 503 and what else is no word about this message: redirections, a path or method that is not there, a proxy's 407.
    return refusal(response, text, host=host, scope=Scope.UPSTREAM, dsn="4.3.0")
