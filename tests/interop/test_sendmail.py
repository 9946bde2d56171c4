"""Programs that send mail by running sendmail: what they hand over arrives, their sender and recipients with it."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import Received, ScriptedUpstream

USER = pwd.getpwuid(os.getuid()).pw_name
LINES = ("plain", ".", "..", ".hidden", "Grüße 日本語", "trailing  ", "", "y" * 900, "From here", "last")
TEXT = "".join(f"{line}\n" for line in LINES)


class Machine:
    """A folder with ``relay-sendmail`` as pip installs it, and ``mailq`` beside it."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder = folder
        self.sendmail = folder / "relay-sendmail"
        self.sendmail.write_text(
            f"#!{sys.executable}\nimport sys\nfrom relay.sendmail import main\n"
            "if __name__ == '__main__':\n    sys.exit(main())\n"
        )
        self.sendmail.chmod(0o755)
        self.mailq = folder / "mailq"
        self.mailq.symlink_to("relay-sendmail")
        (folder / "mailrc").write_text(f"set sendmail={self.sendmail}\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "RELAY"))},
            "RELAY_CONFIG": str(config),
            "HOME": str(folder),
            "MAILRC": str(folder / "mailrc"),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, *arguments: str | Path, content: str = TEXT, expected: int = 0) -> str:
        """Run a program with ``content`` as its input; what it printed."""
        done = subprocess.run(
            [str(argument) for argument in arguments],
            input=content.encode(),
            capture_output=True,
            check=False,
            timeout=60,
            env=self.environment,
            cwd=self.folder,
        )
        told = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == expected, told
        return told


def by_cron(machine: Machine) -> None:
    head = f"From: root (Cron Daemon)\nTo: b@y.test\nSubject: Cron <{USER}@relay> job\n\n"
    machine.run(machine.sendmail, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "b@y.test", content=head + TEXT)


def by_bsd_mailx(machine: Machine) -> None:
    machine.run("bsd-mailx", "-s", "by mail", "b@y.test")


def by_s_nail(machine: Machine) -> None:
    machine.run("s-nail", "-:/", "-S", f"mta={machine.sendmail}", "-s", "by mail", "b@y.test")


def by_mutt(machine: Machine) -> None:
    settings = f'set sendmail="{machine.sendmail} -oem -oi" copy=no use_8bitmime=yes dsn_notify="failure"'
    machine.run("mutt", "-n", "-F", "/dev/null", "-e", settings, "-s", "by mutt", "--", "b@y.test")


def by_php(machine: Machine) -> None:
    headers = "From: a@x.test\\r\\nContent-Type: text/plain; charset=utf-8\\r\\nContent-Transfer-Encoding: 8bit"
    script = f'exit(mail("b@y.test", "by PHP", stream_get_contents(STDIN), "{headers}", "-fa@x.test") ? 0 : 1);'
    machine.run("php", "-d", f"sendmail_path={machine.sendmail} -t -i", "-r", script)


def by_git(machine: Machine) -> None:
    def git(*arguments: str) -> None:
        machine.run("git", "-c", "user.name=A", "-c", "user.email=a@x.test", *arguments)

    git("init", "-q", ".")
    (machine.folder / "file").write_text(TEXT)
    git("add", "file")
    git("commit", "-q", "-m", "A change")
    options = (
        "--confirm=never",
        "--suppress-cc=all",
        "--no-validate",
        "--8bit-encoding=UTF-8",
        "--envelope-sender=a@x.test",
    )
    command = f"--sendmail-cmd={machine.sendmail}"
    git("send-email", command, *options, "--root", "--from=a@x.test", "--to=b@y.test", "-1")


PROGRAMS: dict[str, tuple[str, Callable[[Machine], None], str]] = {
    "cron": ("sh", by_cron, f"{USER}@relay.test"),
    "mail (BSD)": ("bsd-mailx", by_bsd_mailx, f"{USER}@relay.test"),
    "mail (s-nail)": ("s-nail", by_s_nail, f"{USER}@relay.test"),
    "mutt": ("mutt", by_mutt, f"{USER}@relay.test"),
    "PHP": ("php", by_php, "a@x.test"),
    "git send-email": ("/usr/lib/git-core/git-send-email", by_git, "a@x.test"),
}


def text_of(received: Received) -> tuple[EmailMessage, list[str]]:
    """The message as a reader sees it, and its text's lines."""
    read = message_from_bytes(received.content, policy=policy.default)
    payload = read.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return read, payload.decode().replace("\r\n", "\n").split("\n")


@pytest.mark.interop
@pytest.mark.parametrize("program", PROGRAMS)
async def test_program(tmp_path: Path, program: str) -> None:
    needed, send, sender = PROGRAMS[program]
    if not shutil.which(needed):
        pytest.skip(f"{needed} is not installed")
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await asyncio.to_thread(send, Machine(tmp_path, relay.config))
        received = (await peer.received(1))[0]
        message, lines = text_of(received)
        assert received.recipients == ("b@y.test",)
        assert received.mail.startswith(f"MAIL FROM:<{sender}>".encode())
        assert message["From"]
        assert message["To"].addresses[0].addr_spec == "b@y.test"
        if program == "git send-email":
            lines = [line.removeprefix("+") for line in lines]
        start = lines.index("plain")
        assert tuple(lines[start : start + len(LINES)]) == LINES
        await relay.until("removed$")


@pytest.mark.interop
async def test_while_the_relay_is_down_mail_waits_in_its_spool(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        machine = Machine(tmp_path, relay.config)
        assert await relay.stop() == 0
        for n in range(3):
            await asyncio.to_thread(machine.run, machine.sendmail, "-i", f"{n}@y.test")
        listed = await asyncio.to_thread(machine.run, machine.mailq)
        assert [f"waiting   <{n}@y.test>" in listed for n in range(3)] == [True] * 3
        await relay.start()
        messages = await peer.received(3)
        assert sorted(each.recipients for each in messages) == [(f"{n}@y.test",) for n in range(3)]
        assert [text_of(each)[1][: len(LINES)] for each in messages] == [list(LINES)] * 3
        await relay.until("removed$", 3)


@pytest.mark.interop
async def test_local_names_get_the_relays_domain(tmp_path: Path) -> None:
    """By SMTP and straight into the spool alike."""
    environment = {"RELAY__REWRITE__DEFAULT_DOMAIN": "example.test"}
    upstream = ScriptedUpstream()
    async with upstream, Relay(tmp_path, {"peer": smtp_upstream(upstream.port)}, environment=environment) as relay:
        machine = Machine(tmp_path, relay.config)
        machine.environment |= environment
        await asyncio.to_thread(machine.run, machine.sendmail, "-F", "Joe", "root", content="hello\n")
        await upstream.received(1)
        await relay.stop()
        await asyncio.to_thread(machine.run, machine.sendmail, "-F", "Joe", "root", content="hello\n")
        await relay.start()
        for received in await upstream.received(2):
            assert received.mail.startswith(f"MAIL FROM:<{USER}@example.test>".encode())
            assert received.recipients == ("root@example.test",)
            assert f"\r\nFrom: Joe <{USER}@example.test>\r\n".encode() in received.content


@pytest.mark.interop
async def test_nothing_is_lost_nor_doubled_over_restarts(tmp_path: Path) -> None:
    """Submissions go on while the relay is stopped and started: each exit 0 is one message, and none is two."""
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        machine = Machine(tmp_path, relay.config)

        async def submit(worker: int) -> None:
            for n in range(8):
                await asyncio.to_thread(machine.run, machine.sendmail, f"{worker}-{n}@y.test")

        async def restart() -> None:
            for times in range(1, 4):
                await relay.until("daemon started", times)
                assert await relay.stop() == 0
                await asyncio.sleep(0.3)
                await relay.start(may_die=True)
                # A submission may hold the spool's lock at this moment; a relay refuses to start then.
                while relay.process is not None and relay.process.returncode is not None:
                    assert await relay.ended() == 75
                    await relay.start(may_die=True)

        await asyncio.gather(restart(), *(submit(worker) for worker in range(3)))
        messages = await peer.received(24)
        assert sorted(each.recipients[0] for each in messages) == [
            f"{w}-{n}@y.test" for w in range(3) for n in range(8)
        ]
        await relay.drained()
        assert len(peer.messages) == 24


@pytest.mark.interop
async def test_mailq_lists_what_relay_queue_lists(tmp_path: Path) -> None:
    upstreams = {"sim": {"kind": "simulator"}}
    async with Relay(tmp_path, upstreams, queue={"backoff": ["1h"]}) as relay:
        machine = Machine(tmp_path, relay.config)
        assert await asyncio.to_thread(machine.run, machine.mailq) == "Mail queue is empty\n"
        await asyncio.to_thread(machine.run, machine.sendmail, "-f", "a@x.test", "defer@y.test")
        await relay.until("status=deferred")
        code, listed, _ = await relay.command("queue", "list")
        assert code == 0
        assert "<defer@y.test>" in listed
        for command in ([machine.mailq], [machine.sendmail, "-bp"]):
            assert await asyncio.to_thread(machine.run, *command) == listed
        # -q attempts at once what would have waited for an hour.
        assert await asyncio.to_thread(machine.run, machine.sendmail, "-q") == ""
        await relay.until("status=deferred", 2)
        assert await asyncio.to_thread(machine.run, machine.sendmail, "-qRy.test") == ""
        await relay.until("status=deferred", 3)
        assert await asyncio.to_thread(machine.run, machine.sendmail, "-qRelsewhere.test") == ""
        await relay.kill()
        shutil.rmtree(tmp_path / "spool")
        assert "no relay answers" in await asyncio.to_thread(machine.run, machine.mailq, expected=69)


@pytest.mark.interop
async def test_smtp_on_standard_input(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        machine = Machine(tmp_path, relay.config)
        session = "EHLO x\nMAIL FROM:<a@x.test>\nRCPT TO:<b@y.test>\nDATA\nSubject: x\n\n..hello\n.\nQUIT\n"
        said = await asyncio.to_thread(machine.run, machine.sendmail, "-bs", content=session.replace("\n", "\r\n"))
        assert "250 2.0.0 Ok: queued as " in said
        assert said.endswith("221 2.0.0 Bye\r\n")
        assert (await peer.received(1))[0].content.endswith(b"\r\n\r\n.hello\r\n")
        await relay.stop()
        said = await asyncio.to_thread(machine.run, machine.sendmail, "-bs", content=session, expected=75)
        assert said.startswith("421 4.3.2 ")


@pytest.mark.interop
async def test_blind_copies_and_refusals(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as peer,
        Relay(tmp_path, {"peer": smtp_upstream(peer.port)}, listener={"max_message_size": "10kB"}) as relay,
    ):
        machine = Machine(tmp_path, relay.config)
        head = "To: b@y.test\nBcc: c@y.test,\n d@y.test\nSubject: x\n\n"
        await asyncio.to_thread(machine.run, machine.sendmail, "-t", "e@y.test", content=f"{head}hello\n")
        received = (await peer.received(1))[0]
        assert received.recipients == ("e@y.test", "b@y.test", "c@y.test", "d@y.test")
        assert b"c@y.test" not in received.content
        assert b"d@y.test" not in received.content
        told = await asyncio.to_thread(machine.run, machine.sendmail, "-i", "b@y.test", content=TEXT * 20, expected=69)
        assert "552 5.3.4" in told
        told = await asyncio.to_thread(machine.run, machine.sendmail, "b@-.test", expected=65)
        assert "b@-.test" in told
        assert len(peer.messages) == 1
