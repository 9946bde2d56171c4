"""Postfix as a provider: STARTTLS or implicit TLS required, AUTH required; Dovecot's auth protocol is played by us."""

from __future__ import annotations

import asyncio
import base64
import hmac
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.e2e.harness import Relay, free_port, smtp_upstream
from tests.peers.postfix import Postfix, unavailable
from tests.peers.scripted import ScriptedUpstream
from tests.upstream.doors import Certificates

USER, PASSWORD = "anna", "geheim&lang"
CHALLENGE = b"<1.2@auth.test>"
SETTINGS = """
smtpd_tls_cert_file = {folder}/server.pem
smtpd_tls_key_file = {folder}/server.pem
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/socket
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""


async def _judge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Dovecot's authentication protocol 1.1, the server's side: one user."""
    writer.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\nMECH\tCRAM-MD5\n")
    writer.write(b"SPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n")

    async def ask(number: str, challenge: bytes) -> bytes:
        writer.write(f"CONT\t{number}\t{base64.b64encode(challenge).decode()}\n".encode())
        return base64.b64decode((await reader.readline()).decode().rstrip("\n").split("\t")[2])

    while line := (await reader.readline()).decode().rstrip("\n"):
        verb, *fields = line.split("\t")
        if verb != "AUTH":
            continue
        number, mechanism = fields[:2]
        initial = next((base64.b64decode(f.removeprefix("resp=")) for f in fields if f.startswith("resp=")), b"")
        if mechanism == "PLAIN":
            good = initial == f"\0{USER}\0{PASSWORD}".encode()
        elif mechanism == "LOGIN":
            user = initial or await ask(number, b"Username:")
            good = (user, await ask(number, b"Password:")) == (USER.encode(), PASSWORD.encode())
        else:
            digest = hmac.new(PASSWORD.encode(), CHALLENGE, "md5").hexdigest()
            good = await ask(number, CHALLENGE) == f"{USER} {digest}".encode()
        writer.write(f"{'OK' if good else 'FAIL'}\t{number}\tuser={USER}\n".encode())
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def provider(*, implicit: bool = False) -> AsyncIterator[tuple[int, str]]:
    """The port of a Postfix that wants TLS and AUTH, and the authority of its certificate."""
    if reason := unavailable():
        pytest.skip(reason)
    port = free_port()
    async with ScriptedUpstream() as far:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="auth-", dir="/tmp")))
            await asyncio.to_thread(folder.chmod, 0o755)  # Postfix's daemons run as another user
            certificates = Certificates(folder)
            certificates.issue("localhost", folder / "server.pem")
            judges: set[asyncio.Task[None]] = set()

            def judge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                judges.add(asyncio.ensure_future(_judge(reader, writer)))

            auth = await asyncio.start_unix_server(judge, folder / "socket")
            stack.callback(auth.close)
            (folder / "socket").chmod(0o666)
            settings = SETTINGS.format(folder=folder)
            server = await asyncio.to_thread(stack.enter_context, Postfix(port, far.port, settings=settings))
            if implicit:  # only now: what waits for it to start speaks in clear
                etc = server.folder / "etc"
                with (etc / "main.cf").open("a") as main:
                    main.write("smtpd_tls_wrappermode = yes\n")
                await asyncio.to_thread(subprocess.run, ["postfix", "-c", str(etc), "reload"], check=True)
            yield port, certificates.trust
        async with asyncio.timeout(10):
            await asyncio.gather(*judges)  # Postfix is gone, so they come to an end


def account(port: int, trust: str, **more: Any) -> dict[str, Any]:
    return smtp_upstream(port, **{"host": "localhost", "tls_ca": trust, "username": USER, "password": PASSWORD} | more)


@pytest.mark.interop
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_each_mechanism(tmp_path: Path, tls: str) -> None:
    async with provider(implicit=tls == "implicit") as (port, trust):
        for auth in ("auto", "plain", "login", "cram-md5"):
            async with Relay(tmp_path / auth, {"mx": account(port, trust, tls=tls, auth=auth)}) as relay:
                queue_id = await relay.submit(recipients=["b@y.test"], sender="a@x.test")
                await relay.until(f"{queue_id}: removed$")
                assert relay.lines(rf"{queue_id}: to=<b@y.test>, relay=mx\[127\.0\.0\.1\]:{port}.*status=sent")
                assert not [line for line in relay.log if PASSWORD in line]


@pytest.mark.interop
async def test_a_wrong_password_keeps_the_mail(tmp_path: Path) -> None:
    async with provider() as (port, trust):
        upstream = account(port, trust, tls="starttls", password="wrong&one")
        async with Relay(tmp_path / "relay", {"mx": upstream}) as relay:
            await relay.submit(recipients=["b@y.test"], sender="a@x.test")
            await relay.until(r"SASL authentication failed; server localhost\[127\.0\.0\.1\] said: 535 ")
            assert not [line for line in relay.log if "wrong&one" in line or "status=bounced" in line]
            assert (await relay.json("status"))["upstreams"]["mx"]["state"] == "paused"


@pytest.mark.interop
async def test_what_is_not_verified_gets_nothing(tmp_path: Path) -> None:
    async with provider() as (port, _trust):
        upstream = account(port, "", tls="starttls")
        del upstream["tls_ca"]
        async with Relay(tmp_path / "relay", {"mx": upstream}) as relay:
            await relay.submit(recipients=["b@y.test"], sender="a@x.test")
            await relay.until(r"server certificate of localhost\[127\.0\.0\.1\] not verified: ")
            assert (await relay.json("queue", "count"))["waiting"] + (await relay.json("queue", "count"))[
                "deferred"
            ] == 1
