"""Amazon's API as moto imitates it: kind = "ses" against a server that others wrote from its documentation."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, free_port
from tests.peers.api import KEY_ID, REGION, SECRET

pytestmark = pytest.mark.interop

SERVER = Path(sys.executable).parent / "moto_server"


@asynccontextmanager
async def moto() -> AsyncIterator[int]:
    """moto's server; its port."""
    if not shutil.which(SERVER):
        pytest.skip("moto's server is not installed")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(SERVER), "-p", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"CTRL+C" not in await process.stderr.readline():
                assert process.returncode is None
        draining = asyncio.create_task(process.stderr.read())
        yield port
    finally:
        process.kill()
        await process.wait()
    await draining


def ask(port: int, path: str, body: object) -> None:
    scope = f"{KEY_ID}/20260101/{REGION}/ses/aws4_request"
    fields = {
        "Content-Type": "application/json",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
    }
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), fields)
    with urllib.request.urlopen(asked, timeout=30) as response:
        assert response.status == 200


@pytest.mark.timeout(150)
async def test_verified_senders_are_relayed_and_others_bounced(tmp_path: Path) -> None:
    async with moto() as port:
        await asyncio.to_thread(ask, port, "/v2/email/identities", {"EmailIdentity": "a@x.test"})
        table = {
            "kind": "ses",
            "region": REGION,
            "endpoint": f"http://127.0.0.1:{port}",
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
        }
        async with Relay(tmp_path, {"ses": table}, {"bounces": "off"}) as relay:
            good = await relay.submit("Grüße\r\n", ["b@y.test", "c@y.test"])
            sent = await relay.until(rf"{good}: to=<[bc]@y\.test>, .*dsn=2\.0\.0, status=sent \(HTTP 200 Ok \S+\)", 2)
            assert len({re.sub(".* Ok ", "", each.string) for each in sent}) == 1
    assert len(sent) == 2
