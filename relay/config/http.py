"""What must hold in ``[http]``: nobody from elsewhere without a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from relay.config.problems import Problem
from relay.config.tables import Table
from relay.config.values import is_local
from relay.settings import HttpSettings, ListenerSettings, Settings


def http_problems(
    file: str, http: Table[HttpSettings], listeners: Sequence[Table[ListenerSettings]]
) -> Iterator[Problem]:
    """What does not go together in it, or with the listeners."""
    settings = http.value
    if "address" in http.bad or not settings.address:
        return
    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "prometheus_client", "msgspec", "jinja2")):
        yield http.problem(
            file, "address", "an address, and no HTTP server is installed", 'what "pip install relay[http]" brings'
        )
    if "auth" not in http.bad and settings.auth == "none" and not is_local(settings.address):
        found = f'"none" on {settings.address}, which other machines reach'
        yield http.problem(file, "auth", found, '"token"; "none" on a loopback address')
    for listener in listeners:
        if "address" not in listener.bad and listener.value.address == settings.address:
            found = f'"{settings.address}", which [{listener.name}] has'
            yield http.problem(file, "address", found, "an address of its own")


def http_warnings(settings: Settings) -> Iterator[str]:
    """What works but is likely not meant."""
    if settings.http is not None and not is_local(settings.http.address):
        yield f"[http] {settings.http.address}: the token crosses the network in clear; put TLS before it"
