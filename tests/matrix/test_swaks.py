"""swaks with every option that says how it speaks: --protocol with its TLS, --auth, --pipeline, and all together."""

from __future__ import annotations

import asyncio
import re
import shutil
from itertools import product
from pathlib import Path

import pytest

from tests.e2e.harness import smtp_upstream
from tests.matrix.clients import swaks
from tests.matrix.corpus import CORPUS
from tests.matrix.doors import PASSWORD, USER, House
from tests.peers.scripted import ScriptedUpstream

CASE = CORPUS["dots"]
PROTOCOLS = {  # the door that it needs, and the WITH of the Received line that it leads to (RFC 3848)
    "SMTP": ("plain", "SMTP"),
    "SMTPS": ("implicit", "SMTP"),
    "ESMTP": ("plain", "ESMTP"),
    "ESMTPA": ("plain", "ESMTPA"),
    "ESMTPS": ("starttls", "ESMTPS"),
    "ESMTPSA": ("login", "ESMTPSA"),
    "SSMTP": ("implicit", "ESMTPS"),
    "SSMTPA": ("implicit", "ESMTPSA"),
}
MECHANISMS = ("PLAIN", "LOGIN")


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_swaks_speaks(tmp_path: Path, protocol: str) -> None:
    if not shutil.which("swaks"):
        pytest.skip("not installed: swaks")
    kind, with_keyword = PROTOCOLS[protocol]
    mechanisms = MECHANISMS if protocol.endswith("A") else ("",)
    # It ends every message by a line end of its own.
    file = tmp_path / "message.eml"
    file.write_bytes(CASE.content.removesuffix(b"\r\n"))
    combinations = list(product(mechanisms, ((), ("--pipeline",))))
    async with ScriptedUpstream() as peer, House(tmp_path, {"peer": smtp_upstream(peer.port)}) as house:
        door = house.doors[kind]
        trust = () if door.tls == "none" else ("--tls-verify", "--tls-ca-path", str(door.authority))
        for mechanism, pipeline in combinations:
            # --protocol would set the port to the standard one.
            options = ["--protocol", protocol, "--port", str(door.port), *trust, *pipeline]
            options += ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD] if mechanism else []
            await asyncio.to_thread(swaks, door, CASE, file, *options)
        await house.until("removed$", len(combinations))
        received = peer.accepted()
        assert len(house.lines(rf"sasl_username={USER}")) == (len(combinations) if mechanisms != ("",) else 0)
        for mechanism in filter(None, mechanisms):
            assert len(house.lines(f"sasl_method={mechanism},")) == 2
    assert len(received) == len(combinations)
    for message in received:
        head, _, body = message.content.partition(b"\r\n\r\n")
        assert body == CASE.body
        found = re.search(rb"by relay\.test \(relay\) with (\S+)", head)
        assert found is not None
        assert found[1].decode() == with_keyword


@pytest.mark.interop
async def test_a_wrong_password_and_lmtp_get_nowhere(tmp_path: Path) -> None:
    if not shutil.which("swaks"):
        pytest.skip("not installed: swaks")
    file = tmp_path / "message.eml"
    file.write_bytes(CASE.content)
    async with ScriptedUpstream() as peer, House(tmp_path, {"peer": smtp_upstream(peer.port)}) as house:
        door = house.doors["login"]
        wrong = ("--tls", "--auth", "PLAIN", "--auth-user", USER, "--auth-password", "wrong")
        with pytest.raises(AssertionError, match="swaks exits 28"):
            await asyncio.to_thread(swaks, door, CASE, file, *wrong)
        with pytest.raises(AssertionError, match="swaks exits 23"):
            await asyncio.to_thread(swaks, door, CASE, file, "--tls")
        plain = house.doors["plain"]
        with pytest.raises(AssertionError, match="swaks exits 22"):
            await asyncio.to_thread(swaks, plain, CASE, file, "--protocol", "LMTP", "--port", str(plain.port))
        assert peer.messages == []
