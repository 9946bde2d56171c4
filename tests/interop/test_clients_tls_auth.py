"""Programs that people send mail with, over TLS and with AUTH: each way in that a listener offers."""

from __future__ import annotations

import asyncio
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.listener.passwords import hash_password
from tests.e2e.harness import Relay, Table, free_port, smtp_upstream, toml
from tests.listener.certificates import certificate
from tests.peers.scripted import ScriptedUpstream

USER, PASSWORD = "billing", "geheim & lang"
BODY = b"plain\r\n.\r\n..hidden\r\nGr\xc3\xbc\xc3\x9fe\r\nlast\r\n"
MESSAGE = b"From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: locked\r\n\r\n" + BODY


@dataclass(frozen=True)
class Doors:
    """Where the relay listens, and whom to trust."""

    plain: int
    starttls: int
    implicit: int
    path: Path
    authority: Path
    trusted: ssl.SSLContext


def run(*arguments: str, content: bytes = b"") -> None:
    done = subprocess.run(arguments, input=content, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def swaks(file: Path, *options: str) -> None:
    run("swaks", "--from", "a@x.test", "--to", "b@y.test", "--data", f"@{file}", "--hide-all", *options)


def curl(doors: Doors, file: Path, url: str, *options: str) -> None:
    envelope = ("--mail-from", "a@x.test", "--mail-rcpt", "b@y.test", "--upload-file", str(file))
    login = ("--user", f"{USER}:{PASSWORD}", "--cacert", str(doors.authority))
    run("curl", "-sS", "--url", f"{url}/client.test", *login, *envelope, *options)


def msmtp(doors: Doors, file: Path, port: int, *options: str) -> None:
    server = ("--file=/dev/null", "--host=localhost", f"--port={port}", "--tls=on")
    login = (f"--user={USER}", f"--passwordeval=echo '{PASSWORD}'", f"--tls-trust-file={doors.authority}")
    run("msmtp", *server, *login, *options, "--from=a@x.test", "--", "b@y.test", content=file.read_bytes())


def by_smtplib(client: smtplib.SMTP, file: Path, context: ssl.SSLContext | None = None) -> None:
    with client:
        if context is not None:
            client.starttls(context=context)
        client.login(USER, PASSWORD)
        client.sendmail("a@x.test", ["b@y.test"], file.read_bytes(), mail_options=["BODY=8BITMIME"])


AUTH = ("--auth-user", USER, "--auth-password", PASSWORD)

CLIENTS: dict[str, Callable[[Doors, Path], None]] = {
    "swaks plain PLAIN": lambda d, f: swaks(f, "--server", f"127.0.0.1:{d.plain}", "--auth", "PLAIN", *AUTH),
    "swaks plain LOGIN": lambda d, f: swaks(f, "--server", f"127.0.0.1:{d.plain}", "--auth", "LOGIN", *AUTH),
    "swaks --pipeline": lambda d, f: swaks(
        f, "--server", f"127.0.0.1:{d.plain}", "--auth", "PLAIN", *AUTH, "--pipeline"
    ),
    "swaks --tls": lambda d, f: swaks(f, "--server", f"127.0.0.1:{d.starttls}", "--tls", "--auth", "PLAIN", *AUTH),
    "swaks --tls --pipeline": lambda d, f: swaks(
        f, "--server", f"127.0.0.1:{d.starttls}", "--tls", "--pipeline", "--auth", "LOGIN", *AUTH
    ),
    "swaks --tlsc": lambda d, f: swaks(f, "--server", f"127.0.0.1:{d.implicit}", "--tlsc", "--auth", "LOGIN", *AUTH),
    "swaks --tls-protocol": lambda d, f: swaks(
        f, "--server", f"127.0.0.1:{d.implicit}", "--tlsc", "--tls-protocol", "tlsv1_2", "--auth", "PLAIN", *AUTH
    ),
    "swaks --socket": lambda d, f: swaks(f, "--socket", str(d.path)),
    "curl starttls": lambda d, f: curl(d, f, f"smtp://localhost:{d.starttls}", "--ssl-reqd"),
    "curl smtps": lambda d, f: curl(d, f, f"smtps://localhost:{d.implicit}"),
    "curl LOGIN": lambda d, f: curl(
        d, f, f"smtps://localhost:{d.implicit}", "--login-options", "AUTH=LOGIN", "--sasl-ir"
    ),
    "msmtp starttls": lambda d, f: msmtp(d, f, d.starttls, "--auth=on"),
    "msmtp smtps": lambda d, f: msmtp(d, f, d.implicit, "--auth=login", "--tls-starttls=off"),
    "smtplib plain": lambda d, f: by_smtplib(smtplib.SMTP("localhost", d.plain, timeout=20), f),
    "smtplib starttls": lambda d, f: by_smtplib(smtplib.SMTP("localhost", d.starttls, timeout=20), f, d.trusted),
    "smtplib smtps": lambda d, f: by_smtplib(
        smtplib.SMTP_SSL("localhost", d.implicit, timeout=20, context=d.trusted), f
    ),
}


async def with_doors(folder: Path, use: Callable[[Relay, ScriptedUpstream, Doors], Awaitable[None]]) -> None:
    """A relay with each kind of listener and one user, before an upstream that keeps what it gets."""
    pem = certificate(folder)
    tls = {"tls_cert": pem.path, "auth": "required"}
    starttls, implicit = free_port(), free_port()
    path = folder / "smtp.sock"
    async with ScriptedUpstream() as peer:
        relay = Relay(folder, {"peer": smtp_upstream(peer.port)}, listener={"auth": "optional"})
        tables: dict[str, Table] = {
            "listener.starttls": {"address": f"127.0.0.1:{starttls}", "tls": "starttls", **tls},
            "listener.implicit": {"address": f"127.0.0.1:{implicit}", "tls": "implicit", **tls},
            "listener.unix": {"address": f"unix:{path}"},
            f"user.{USER}": {"password_hash": hash_password(PASSWORD, bytes(16)), "senders": ["*@x.test"]},
        }
        text = await asyncio.to_thread(relay.config.read_text)
        more = toml(tables).partition("\n")[2]
        await asyncio.to_thread(relay.config.write_text, text + more)
        async with relay:
            await use(relay, peer, Doors(relay.port, starttls, implicit, path, Path(pem.authority), pem.trusted))


@pytest.mark.interop
@pytest.mark.parametrize("client", CLIENTS)
async def test_client(tmp_path: Path, client: str) -> None:
    program = client.split(maxsplit=1)[0]
    if program != "smtplib" and not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "message.eml"
    file.write_bytes(MESSAGE)

    async def use(relay: Relay, peer: ScriptedUpstream, doors: Doors) -> None:
        await asyncio.to_thread(CLIENTS[client], doors, file)
        received = (await peer.received(1))[0]
        head, _, body = received.content.partition(b"\r\n\r\n")
        # Some programs end what they send with an empty line of their own.
        assert body in {BODY, BODY + b"\r\n"}
        protocol = {"plain": "ESMTPA", "--pipeline": "ESMTPA", "--socket": "ESMTP"}
        assert f" with {protocol.get(client.split()[1], 'ESMTPSA')} id ".encode() in head
        if "--socket" not in client:
            await relay.until(rf"client=localhost\[127\.0\.0\.1\], sasl_method=(PLAIN|LOGIN), sasl_username={USER}$")
        assert not relay.lines(PASSWORD)

    await with_doors(tmp_path, use)


@pytest.mark.interop
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl(tmp_path: Path, version: str) -> None:
    async def use(_relay: Relay, _peer: ScriptedUpstream, doors: Doors) -> None:
        trust = ("-CAfile", str(doors.authority), "-verify_return_error", "-verify_hostname", "localhost", version)
        for way in (
            ("-connect", f"localhost:{doors.implicit}"),
            ("-connect", f"localhost:{doors.starttls}", "-starttls", "smtp"),
        ):
            arguments = ("openssl", "s_client", *way, *trust, "-quiet", "-crlf")
            await asyncio.to_thread(run, *arguments, content=b"QUIT\n")

    await with_doors(tmp_path, use)
