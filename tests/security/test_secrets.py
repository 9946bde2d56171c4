"""Passwords, keys and mail are in no log, no error, no answer, no process listing and no notification."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from pathlib import Path

import pytest

from relay.signing.keys import make_key
from tests.e2e.harness import Relay, smtp_upstream, toml
from tests.peers.ledger import Submitter
from tests.peers.scripted import EXTENSIONS, ScriptedUpstream, say

PASSWORD = "canary-Passw0rd-7f3a"
GUESS = "canary-Guess-5c1e"
SUBJECT = "canary-Subject-91bd"
BODY = "canary-Body-e07c"
TOKEN = "canary-ApiKey-44d2"
ENCODED = tuple(
    base64.b64encode(each.encode()).decode().rstrip("=")
    for each in (PASSWORD, GUESS, f"\0user\0{PASSWORD}", f"\0app\0{GUESS}", f"\0app\0{PASSWORD}")
)
CANARIES = (PASSWORD, GUESS, SUBJECT, BODY, TOKEN, *ENCODED)
MESSAGE = f"From: <a@x.test>\r\nTo: <b@y.test>\r\nSubject: {SUBJECT}\r\n\r\n{BODY}\r\n".encode()
TELLING = """
import logging
from relay.listener.conversation import Conversation

true = Conversation._command

async def told(self, line):
    logging.getLogger().warning("heard %s", line)
    await true(self, line)

Conversation._command = told
"""


def canaries_in(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def processes(pid: int) -> str:
    """What others on the machine see of a process, and what its environment hands on."""
    shown = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm"))
    return b"".join(shown).decode("latin-1")


async def guess_and_blunder(port: int) -> None:
    """AUTH with a wrong password, in each way it can go wrong, then a message in the wrong order."""
    plain = base64.b64encode(f"\0app\0{GUESS}".encode()).decode()
    for lines in (
        (f"AUTH PLAIN {plain}",),
        ("AUTH LOGIN", base64.b64encode(b"app").decode(), base64.b64encode(GUESS.encode()).decode()),
        (f"AUTH NONSENSE {plain}", plain),
        ("AUTH PLAIN", f"{plain}!!"),
        (f"MAIL FROM:<a@x.test> AUTH={GUESS}\x01", f"{BODY} {SUBJECT}", f"X-{BODY}: y"),
    ):
        client = await Submitter.connect(port)
        for line in lines:
            await client.command(line)
        client.close()


@pytest.mark.parametrize("format_", ["text", "json"])
async def test_nothing_secret_is_seen_anywhere(tmp_path: Path, format_: str) -> None:
    """An upstream that repeats the password, one that takes mail, one that refuses it; guesses at the door; a
    notification; every command that shows something.
    """
    key = make_key("s1", "ed25519")
    (tmp_path / "dkim.pem").write_bytes(key.pem())
    (tmp_path / "dkim.pem").chmod(0o600)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    echoed = base64.b64encode(f"\0user\0{PASSWORD}".encode()).decode()
    login = {"username": "user", "password_file": str(tmp_path / "password")}
    async with (
        ScriptedUpstream({"RCPT gone@y.test": say("550 5.1.1 no")}) as peer,
        ScriptedUpstream(
            {"AUTH": say(f"535 5.7.8 wrong: {PASSWORD} ({echoed})")}, (*EXTENSIONS, "AUTH PLAIN LOGIN")
        ) as refusing,
    ):
        upstreams = {
            "peer": smtp_upstream(peer.port),
            "refusing": smtp_upstream(refusing.port, **login),
            "api": {"kind": "sparkpost", "api_key": TOKEN, "endpoint": "http://127.0.0.1:1"},
        }
        relay = Relay(tmp_path / "relay", upstreams, listener={"auth": "optional"})
        more = {"user.app": {"password_hash": await hashed(relay, PASSWORD)}, "log": {"format": format_}}
        dkim = f'\n[dkim."x.test"]\nkeys = [ {{ selector = "s1", key_file = "{tmp_path}/dkim.pem" }} ]\n'
        relay.config.write_text(relay.config.read_text() + toml(more).partition("\n")[2] + dkim)
        async with relay:
            await guess_and_blunder(relay.port)
            client = await Submitter.connect(relay.port)
            for recipients in (["b@y.test"], ["gone@y.test"]):
                assert (await client.submit("a@x.test", recipients, MESSAGE)).startswith("250")
            for upstream in ("refusing", "api"):
                content = f"X-Relay-Upstream: {upstream}\r\n".encode() + MESSAGE
                assert (await client.submit("a@x.test", ["b@y.test"], content)).startswith("250")
            await relay.until("(?i)refusing.*(paused|authentication failed)")
            await relay.until("non-delivery|sender_notified|notification", within=20)
            queue_id = re.findall(r"queued as (\w+)", await client.submit("a@x.test", ["b@y.test"], MESSAGE))[0]
            client.close()
            shown = [processes(relay.pid)]
            for arguments in (
                ("status",),
                ("status", "--json"),
                ("queue", "list", "--json"),
                ("queue", "show", "--all"),
                ("trace", queue_id),
                ("check",),
                ("check", "--json", "--connect"),
            ):
                code, out, err = await relay.command(*arguments)
                assert code in {0, 1, 2}, err
                shown.append(out + err)
            await relay.stop()
        log = "\n".join(relay.log)
        assert canaries_in(log) == []
        assert "PRIVATE KEY" not in log
        assert [canaries_in(text) for text in shown] == [[]] * len(shown)
        assert not [line for line in relay.log if "Traceback" in line]


async def hashed(relay: Relay, password: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay", "user", "hash", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(password.encode() + b"\n")
    return out.decode().strip()


async def test_a_bad_configuration_is_told_of_without_its_secrets(tmp_path: Path) -> None:
    relay = Relay(tmp_path, {"peer": smtp_upstream(1, username="u", password=PASSWORD, colour="blue", api_key=TOKEN)})
    code, out, err = await relay.command("check")
    assert code == 78
    assert "colour" in err
    assert canaries_in(out + err) == []


async def test_the_canaries_are_seen_where_they_are_let_out(tmp_path: Path) -> None:
    """The negative control: a relay that logs what it hears."""
    (tmp_path / "sitecustomize.py").write_text(TELLING)
    upstreams = {"peer": smtp_upstream(1)}
    async with Relay(tmp_path / "relay", upstreams, environment={"PYTHONPATH": str(tmp_path)}) as relay:
        await guess_and_blunder(relay.port)
        await relay.until(f"heard .*X-{BODY}")
        assert {BODY, SUBJECT, GUESS, ENCODED[3]} <= {*canaries_in("\n".join(relay.log))}
