"""``check --connect`` against servers on loopback: what they show, and what is in the way."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from relay.checking.findings import Finding
from relay.checking.upstreams import check_upstreams
from relay.clock import SystemClock
from relay.settings import ListenerSettings, Secret, Settings, UpstreamSettings
from tests.upstream.doors import Certificates
from tests.upstream.tls_peer import PASSWORD, USER, TlsPeer


async def look(*upstreams: UpstreamSettings, clock: Any = None) -> list[Finding]:
    settings = Settings("relay.test", upstreams, (ListenerSettings(),))
    found = await check_upstreams(settings, clock or SystemClock())
    await asyncio.sleep(0.02)  # transports close their sockets in the loop's next turns
    return found


def at(port: int, **settings: Any) -> UpstreamSettings:
    given: dict[str, Any] = {"host": "localhost", "connect_timeout": 5.0} | settings
    return UpstreamSettings("main", port=port, **given)


def by_check(found: list[Finding]) -> dict[str, tuple[str, str]]:
    return {each.check: (each.level.value, each.what) for each in found}


async def test_a_server_in_good_order(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with TlsPeer(certificates.server("localhost")) as peer:
        login: dict[str, Any] = {"username": USER, "password": Secret(PASSWORD)}
        found = await look(at(peer.port, tls_ca=certificates.trust, **login))
    assert [each.check for each in found] == ["connect", "greeting", "TLS", "certificate", "AUTH", "EHLO"]
    said = by_check(found)
    assert said["connect"] == ("ok", f"main[127.0.0.1]:{peer.port}")
    assert said["greeting"][1].startswith("220 ")
    assert said["TLS"][1].startswith("TLSv1.3 with cipher ")
    level, what = said["certificate"]
    assert (level, what.startswith("localhost, by "), " days)" in what) == ("ok", True, True)
    assert said["AUTH"] == ("ok", f"PLAIN as {USER}")
    assert "PIPELINING" in said["EHLO"][1]
    assert peer.verbs[-2:] == ["AUTH", "QUIT"]
    assert not any(PASSWORD in each.what or PASSWORD in str(each.facts) for each in found)


class ClockAt:
    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    monotonic = now


async def test_a_certificate_that_ends_soon_is_worth_a_word(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with TlsPeer(certificates.server("localhost")) as peer:
        server = at(peer.port, tls_ca=certificates.trust)
        (found,) = [each for each in await look(server) if each.check == "certificate"]
        end = datetime.fromisoformat(f"{found.facts['expires']}T00:00:00+00:00").timestamp()
        (later,) = [each for each in await look(server, clock=ClockAt(end - 864_000)) if each.check == "certificate"]
    assert (found.level.value, later.level.value) == ("ok", "warning")
    assert "(10 days)" in later.what


async def test_without_tls_it_is_said(tmp_path: Path) -> None:
    with TlsPeer() as peer:
        said = by_check(await look(at(peer.port, tls="none")))
    assert said["TLS"] == ("warning", 'none (tls = "none")')
    assert said["AUTH"] == ("ok", "none wanted: no username")
    with TlsPeer(Certificates(tmp_path).server("other.test")) as peer:
        said = by_check(await look(at(peer.port, tls_verify=False)))
    assert said["certificate"] == ("warning", "not verified (tls_verify = false)")


async def test_what_is_in_the_way_is_said_for_each_upstream(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    wrong: dict[str, Any] = {"username": USER, "password": Secret("wrong")}
    with (
        TlsPeer(certificates.server("localhost")) as refusing,
        TlsPeer(certificates.server("localhost", expired=True)) as expired,
        TlsPeer(says={"GREETING": "554 5.3.2 go away"}) as away,
    ):
        found = await look(
            UpstreamSettings("sim", kind="simulator"),
            at(refusing.port, tls_ca=certificates.trust, **wrong),
            at(expired.port, tls_ca=certificates.trust),
            at(away.port, tls="none"),
        )
    assert [each.level.value for each in found] == ["ok", "FAIL", "FAIL", "FAIL"]
    assert [each.check for each in found] == ["connect"] * 4
    assert "SASL authentication failed" in found[1].what
    assert "wrong" not in found[1].what
    assert "certificate has expired" in found[2].what
    assert "554 5.3.2 go away" in found[3].what
