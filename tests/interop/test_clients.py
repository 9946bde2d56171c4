"""Programs that people send mail with, as clients: what they hand over arrives octet for octet."""

from __future__ import annotations

import asyncio
import shutil
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import ScriptedUpstream

HEAD = "From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: from a client\r\nMIME-Version: 1.0\r\n"
LINES = ("plain", ".", "..", ".hidden", "Grüße 日本語", "trailing  ", "", "y" * 900, "From here", "last")
BODY = "".join(f"{line}\r\n" for line in LINES).encode()
MESSAGE = HEAD.encode() + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + BODY
BARE = MESSAGE.replace(b"\r\n", b"\n")


def run(*arguments: str, content: bytes = b"") -> None:
    done = subprocess.run(arguments, input=content, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def by_smtplib(port: int, file: Path) -> None:
    """With bare line feeds in the file too: sendmail() sends octets as they are."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=20) as client:
        client.sendmail("a@x.test", ["b@y.test"], file.read_bytes(), mail_options=["BODY=8BITMIME"])


def by_curl(port: int, file: Path) -> None:
    envelope = ("--mail-from", "a@x.test", "--mail-rcpt", "b@y.test")
    run("curl", "-sS", "--url", f"smtp://127.0.0.1:{port}/client.test", *envelope, "--upload-file", str(file))


def by_swaks(port: int, file: Path, *options: str) -> None:
    envelope = ("--from", "a@x.test", "--to", "b@y.test")
    run("swaks", "--server", f"127.0.0.1:{port}", *envelope, "--data", f"@{file}", "--hide-all", *options)


def by_pipelining_swaks(port: int, file: Path) -> None:
    by_swaks(port, file, "--pipeline")


def by_msmtp(port: int, file: Path) -> None:
    server = ("--file=/dev/null", "--host=127.0.0.1", f"--port={port}", "--auth=off", "--tls=off")
    run("msmtp", *server, "--from=a@x.test", "--", "b@y.test", content=file.read_bytes())


CLIENTS: dict[str, Callable[[int, Path], None]] = {
    "smtplib": by_smtplib,
    "curl": by_curl,
    "swaks": by_swaks,
    "swaks --pipeline": by_pipelining_swaks,
    "msmtp": by_msmtp,
}


@pytest.mark.interop
@pytest.mark.parametrize("line_ends", ["CRLF", "LF"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_client(tmp_path: Path, client: str, line_ends: str) -> None:
    program = client.split(maxsplit=1)[0]
    if program != "smtplib" and not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    given, expected = (MESSAGE, BODY) if line_ends == "CRLF" else (BARE, BODY)
    if program == "curl" and line_ends == "LF":
        # curl doubles no dot after a bare LF, and so loses one: its own error, with any server that normalises.
        given = given.replace(b"\n.", b"\n,")
        expected = expected.replace(b"\r\n.", b"\r\n,")
    file = tmp_path / "message.eml"
    file.write_bytes(given)
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await asyncio.to_thread(CLIENTS[client], relay.port, file)
        received = (await peer.received(1))[0]
        head, _, body = received.content.partition(b"\r\n\r\n")
        # Some programs end what they send with an empty line of their own.
        assert body in {expected, expected + b"\r\n"}
        assert HEAD.encode().split(b"\r\n", 1)[0] in head
        assert received.recipients == ("b@y.test",)
        assert b"\n" not in received.wire.replace(b"\r\n", b"")
        assert b"\r" not in received.wire.replace(b"\r\n", b"")
        await relay.until("removed$")
