"""``check --dns`` against a name server on loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.checking.domains import check_domains, domains_in_use
from relay.checking.findings import Finding
from relay.settings import (
    DkimKeySettings,
    DkimSettings,
    ListenerSettings,
    RewriteSettings,
    Settings,
    UpstreamSettings,
    UserSettings,
)
from relay.signing.keys import make_key, write_key
from relay.upstream.resolver import DnsResolver
from tests.upstream.name_server import NXDOMAIN, SERVFAIL, NameServer

PLAIN = Settings("relay.example.test", (UpstreamSettings("a", host="x.test"),), (ListenerSettings(),))
KEY = make_key("e1", "ed25519")
Look = Callable[..., Awaitable[list[tuple[str, str, str]]]]


def txt(name: str, text: str) -> str:
    return f'{name} 60 IN TXT "{text}"'


GOOD = (
    "relay.example.test 60 IN A 192.0.2.9",
    txt("example.test", "v=spf1 include:_spf.test -all"),
    txt("example.test", "some-verification=1"),
    txt("_spf.test", "v=spf1 ip4:192.0.2.0/24 -all"),
    txt("e1._domainkey.example.test", KEY.record()),
    txt("_dmarc.example.test", "v=DMARC1; p=reject; rua=mailto:d@example.test"),
    "example.test 60 IN MX 20 mx2.example.test.",
    "example.test 60 IN MX 10 mx1.example.test.",
    "8.8.8.8.in-addr.arpa 60 IN PTR dns.test.",
    "dns.test 60 IN A 8.8.8.8",
)


@pytest.fixture
def signing(tmp_path: Path) -> Settings:
    write_key(tmp_path / "e1.pem", KEY)
    keys = (DkimKeySettings("e1", str(tmp_path / "e1.pem")),)
    return replace(PLAIN, dkim=(DkimSettings("example.test", keys),))


async def look(settings: Settings, *records: str, **moods: str) -> list[Finding]:
    async with NameServer(records, {name.replace("__", "."): mood for name, mood in moods.items()}) as server:
        return await check_domains(settings, DnsResolver(servers=("127.0.0.1",), port=server.port))


def levels(found: list[Finding]) -> dict[str, str]:
    return {each.check: each.level.value for each in found}


async def of_check(check: str, settings: Settings, *records: str) -> Finding:
    (found,) = [each for each in await look(settings, *records) if each.check == check]
    return found


async def test_a_domain_in_good_order(signing: Settings) -> None:
    upstream = replace(signing.upstreams[0], source_addresses=("8.8.8.8", "10.0.0.1"))
    found = await look(replace(signing, upstreams=(upstream,)), *GOOD)
    assert [(each.level.value, each.subject, each.check) for each in found] == [
        ("ok", "relay.example.test", "hostname"),
        ("ok", "example.test", "SPF"),
        ("ok", "example.test", "DKIM"),
        ("ok", "example.test", "DMARC"),
        ("ok", "example.test", "MX"),
        ("ok", "8.8.8.8", "PTR"),
    ]
    what = {each.check: each.what for each in found}
    assert what["DKIM"] == "e1._domainkey.example.test is our key's"
    assert what["DMARC"] == "_dmarc.example.test: p=reject"
    assert what["MX"] == "mx1.example.test, mx2.example.test"
    assert what["PTR"] == "dns.test, and back"


async def test_a_domain_of_which_nothing_is_published(signing: Settings) -> None:
    upstream = replace(signing.upstreams[0], source_addresses=("8.8.8.8",))
    found = await look(replace(signing, upstreams=(upstream,)))
    assert levels(found) == {
        "hostname": "warning",
        "SPF": "FAIL",
        "DKIM": "FAIL",
        "DMARC": "warning",
        "MX": "FAIL",
        "PTR": "FAIL",
    }


async def test_a_name_server_that_fails_is_said_so(signing: Settings) -> None:
    found = await look(signing, *GOOD, **{"example__test TXT": SERVFAIL, "_dmarc__example__test": SERVFAIL})
    assert levels(found) == {"hostname": "ok", "SPF": "FAIL", "DKIM": "ok", "DMARC": "FAIL", "MX": "ok"}
    assert {each.what for each in found if each.level == "FAIL"} == {"no name server answers"}


@pytest.mark.parametrize(
    ("records", "level", "says"),
    [
        ([txt("example.test", "v=spf1 +all")], "FAIL", "everybody may send"),
        ([txt("example.test", "v=spf1 mx")], "warning", "says nothing of others"),
        ([txt("example.test", "v=spf1 -all"), txt("example.test", "v=spf1 ~all")], "FAIL", "several records"),
        ([txt("example.test", "v=spf1 include:gone.test -all")], "FAIL", "gone.test has no SPF record"),
        ([txt("example.test", "v=spf1 what -all")], "FAIL", "unknown term what"),
        (
            [
                txt("example.test", "v=spf1 include:one.test include:two.test -all"),
                txt("one.test", "v=spf1 a:a.test a:b.test a:c.test a:d.test -all"),
                txt("two.test", "v=spf1 include:one.test a:a.test a:b.test a:c.test a:d.test -all"),
            ],
            "FAIL",
            "asks DNS 11 times, 10 are allowed",
        ),
        ([txt("example.test", "v=spf1 include:example.test ~all")], "ok", "v=spf1"),
    ],
)
async def test_spf(signing: Settings, records: list[str], level: str, says: str) -> None:
    found = await of_check("SPF", signing, *records)
    assert (found.level.value, says in found.what) == (level, True), found.what


@pytest.mark.parametrize(
    ("record", "level", "says"),
    [
        (make_key("e1", "ed25519").record(), "FAIL", "another key"),
        (KEY.record().replace("k=", "t=y; k="), "warning", "tries DKIM out"),
    ],
    ids=["another", "tried-out"],
)
async def test_dkim(signing: Settings, record: str, level: str, says: str) -> None:
    found = await of_check("DKIM", signing, txt("e1._domainkey.example.test", record))
    assert (found.level.value, says in found.what) == (level, True), found.what


async def test_a_policy_further_up_is_found(signing: Settings) -> None:
    deep = replace(signing, dkim=(), rewrite=RewriteSettings(default_domain="a.b.example.test"))
    found = await of_check("DMARC", deep, txt("_dmarc.example.test", "v=DMARC1; p=reject; sp=quarantine"))
    assert found.what == "_dmarc.example.test: p=quarantine; nobody gets reports (no rua)"


@pytest.mark.parametrize(
    ("records", "level"),
    [
        (["example.test 60 IN MX 0 ."], "warning"),
        (["example.test 60 IN A 192.0.2.1"], "ok"),
        ([txt("example.test", "nothing")], "warning"),
    ],
)
async def test_where_answers_go(signing: Settings, records: list[str], level: str) -> None:
    assert (await of_check("MX", signing, *records)).level.value == level


async def test_a_pointer_that_does_not_lead_back() -> None:
    upstream = replace(PLAIN.upstreams[0], source_addresses=("8.8.8.8",))
    settings = replace(PLAIN, upstreams=(upstream,))
    found = await of_check("PTR", settings, "8.8.8.8.in-addr.arpa 60 IN PTR x.test.", "x.test 60 IN A 8.8.4.4")
    assert (found.level.value, "no forward-confirmed name" in found.what) == ("FAIL", True)


def test_the_domains_in_use() -> None:
    assert domains_in_use(PLAIN) == ("relay.example.test",)
    users = (UserSettings("u", senders=("*@Users.test", "a@*.test", "<>", "b@[192.0.2.1]")),)
    settings = replace(PLAIN, users=users, dkim=(DkimSettings("dkim.test"),), rewrite=RewriteSettings((), "users.test"))
    assert domains_in_use(settings) == ("dkim.test", "users.test")


async def test_no_such_domain_is_no_mood_of_a_server(signing: Settings) -> None:
    found = await look(signing, example__test=NXDOMAIN)
    assert next(each.what for each in found if each.check == "MX") == "there is no such domain"
