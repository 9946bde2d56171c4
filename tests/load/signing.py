"""How many messages a second are signed on this machine: ``python -m tests.load.signing [--seconds S]``.

By :class:`relay.signing.signer.Signer` and its process, body hash included, 50 drafts at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from relay.clock import SystemClock
from relay.mail import Signatures
from relay.settings import DkimKeySettings, DkimSettings, UpstreamSettings
from relay.signing.keys import make_key, write_key
from relay.signing.signer import Signer

HEADER = (
    b"Received: from app (localhost [127.0.0.1])\r\n\tby relay.example.com (relay) with ESMTP id 1A2003E90\r\n"
    b"\tfor <b@y.test>;\r\n\tSun, 22 Nov 2026 02:00:00 +0000\r\nFrom: Ann <a@example.com>\r\nTo: b@y.test\r\n"
    b"Subject: one of many\r\nMessage-ID: <kept@example.com>\r\nDate: Sun, 22 Nov 2026 02:00:00 +0000\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)
SIZES = (2_000, 20_000, 1_000_000)
KINDS = (("rsa",), ("ed25519",), ("rsa", "ed25519"))
AT_A_TIME = 50


async def rate(signer: Signer, content: bytes, seconds: float) -> float:
    signed = 0
    end = time.monotonic() + seconds

    async def sign_on() -> None:
        nonlocal signed
        while time.monotonic() < end:
            draft = signer.open(content[:256_000], "a@example.com")
            assert draft is not None
            for start in range(256_000, len(content), 65_536):
                draft.feed(content[start : start + 65_536])
            assert isinstance(await signer.sign(draft, "1A2003E90"), Signatures)
            signed += 1

    began = time.monotonic()
    await asyncio.gather(*(sign_on() for _ in range(AT_A_TIME)))
    return signed / (time.monotonic() - began)


async def measure(domain: DkimSettings, what: str, seconds: float) -> None:
    signer = Signer([domain], [UpstreamSettings("main")], SystemClock(), print)
    for size in SIZES:
        body = b"All work and no play makes Jack a dull boy.\r\n" * (size // 45)
        found = await rate(signer, HEADER + body, seconds)
        print(f"{what} {size:>9,} octets: {found:>8,.0f}/s", flush=True)
    signer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="signatures a second")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="signing-") as folder:
        for way in ("relaxed/simple", "relaxed/relaxed"):
            for kinds in KINDS:
                keys = []
                for kind in kinds:
                    path = Path(folder) / f"{kind}.pem"
                    path.unlink(missing_ok=True)
                    write_key(path, make_key(kind, "rsa") if kind == "rsa" else make_key(kind, "ed25519"))
                    keys.append(DkimKeySettings(kind, str(path)))
                domain = DkimSettings(
                    "example.com", tuple(keys), "relaxed/simple" if way[8] == "s" else "relaxed/relaxed"
                )
                asyncio.run(measure(domain, f"{way:16} {'+'.join(kinds):12}", seconds))


if __name__ == "__main__":
    main()
