"""The whole corpus, signed by the relay: the signatures hold where it arrives, also behind Postfix and Exim."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.dkim.records import record_name
from relay.signing.keys import PrivateKey, make_key, write_key
from tests.e2e.harness import smtp_upstream
from tests.interop.verifiers import VERIFIERS, verifiers
from tests.matrix import known, signing
from tests.matrix.clients import by_aiosmtplib
from tests.matrix.corpus import CORPUS
from tests.matrix.doors import House
from tests.matrix.servers import ServerUnavailable, server

DOMAIN = "x.test"
BEYOND_OPENDKIM = {
    **dict.fromkeys(known.NUL, "its test mode reads lines as C strings, which a NUL ends"),
}
"""Cases that a verifier's way to read a file can't have."""


class SigningHouse(House):
    """Signs for DOMAIN with keys of its own."""

    def write_config(self) -> None:
        self.keys = [make_key("r1", "rsa"), make_key("e1", "ed25519")]
        tables = []
        for key in self.keys:
            path = self.folder / f"{key.selector}.key"
            path.unlink(missing_ok=True)
            write_key(path, key)
            tables.append(f'{{ selector = "{key.selector}", key_file = "{path}" }}')
        super().write_config()
        with self.config.open("a") as file:
            file.write(f'\n[dkim."{DOMAIN}"]\nkeys = [ {", ".join(tables)} ]\n')

    @property
    def records(self) -> Mapping[str, str]:
        published = {record_name(key.selector, DOMAIN): key.record() for key in self.keys}
        return published | {record_name(signing.SELECTOR.decode(), DOMAIN): signing.record()}


def expected(key: PrivateKey) -> str:
    return key.algorithm.partition("-")[0]


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["postfix", "exim", "smtp-server"])
async def test_signatures_hold_where_the_corpus_arrives(tmp_path: Path, name: str) -> None:
    altered = known.UPSTREAMS.get(name, {})
    cases = [case for case in CORPUS.values() if case.name not in altered]
    folder = tmp_path / "arrived"
    folder.mkdir()
    try:
        async with server(name, tmp_path) as kept:
            upstreams = {"other": smtp_upstream(kept.port, max_connections=4)}
            async with SigningHouse(tmp_path, upstreams, queue={"bounces": "off"}) as house:
                await asyncio.to_thread(by_aiosmtplib, house.doors["plain"], cases, tmp_path)
                await house.until("removed$", len(cases), within=60)
                assert not house.lines("not signed")
            arrived = await kept.contents({case.name for case in cases})
    except ServerUnavailable as reason:
        pytest.skip(str(reason))
    messages = []
    for case in cases:
        messages.append(folder / case.name)
        messages[-1].write_bytes(arrived[case.name][0])
    found = verifiers()
    assert set(found) == set(VERIFIERS)
    wrong = []
    for who, verifier in found.items():
        if verifier.missing:
            continue
        verdicts = await asyncio.to_thread(verifier.judge, house.records, messages)
        for case in cases:
            if who == "opendkim" and case.name in BEYOND_OPENDKIM:
                continue
            # What the application signed itself gets no second one of the same domain.
            ours = {key.selector for key in house.keys if expected(key) in verifier.knows}
            wanted = {signing.SELECTOR.decode()} if case.name == "signed" else ours
            verdict = verdicts.get(case.name, {})
            if {selector for selector, passed in verdict.items() if passed} != wanted:
                wrong.append(f"{who}: {case.name}: {dict(verdict)}")
    assert not wrong, "\n".join(wrong)
    assert not all(verifier.missing for who, verifier in found.items() if who != "dkimpy") or pytest.skip("dkimpy only")
