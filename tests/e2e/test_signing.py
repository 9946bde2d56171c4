"""Mail leaves signed: by the keys of the moment it came, also what came while no relay ran, and bounces."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from relay.dkim.verifying import verify
from relay.signing.keys import load_key, make_key, write_key
from tests.e2e.harness import Relay, smtp_upstream
from tests.peers.scripted import ScriptedUpstream


class SigningRelay(Relay):
    """Signs for x.test, and for itself."""

    def write_config(self) -> None:
        super().write_config()
        self.new_key()
        keys = f'keys = [ {{ selector = "e1", key_file = "{self.folder}/e1.pem" }} ]'
        with self.config.open("a") as file:
            file.write(f'\n[dkim."x.test"]\n{keys}\n[dkim."relay.test"]\n{keys}\n')

    def new_key(self) -> None:
        path = self.folder / "e1.pem"
        path.unlink(missing_ok=True)
        write_key(path, make_key("e1", "ed25519"))

    def judged(self, content: bytes) -> list[tuple[str, bool]]:
        """The domain and the result of each signature, by the key of this moment."""
        record = load_key(str(self.folder / "e1.pem"), "e1", private=False).record()
        return [(result.domain, result.passed) for result in verify(content, lambda _: record)]


@pytest.mark.slow
async def test_signed_by_the_key_of_the_moment_and_sighup_reads_another(tmp_path: Path) -> None:
    async with ScriptedUpstream() as far, SigningRelay(tmp_path, {"far": smtp_upstream(far.port)}) as relay:
        await relay.submit()
        await relay.until("removed$")
        assert relay.judged(far.accepted()[-1].content) == [("x.test", True)]
        relay.new_key()
        await relay.submit()
        await relay.until("removed$", 2)
        assert relay.judged(far.accepted()[-1].content) == [("x.test", False)]
        os.kill(relay.pid, signal.SIGHUP)
        await relay.until("reload: done")
        await relay.submit()
        await relay.until("removed$", 3)
        assert relay.judged(far.accepted()[-1].content) == [("x.test", True)]
        # A key that can't be used changes nothing.
        (tmp_path / "e1.pem").chmod(0o644)
        os.kill(relay.pid, signal.SIGHUP)
        await relay.until("reload: the configuration is kept")
        await relay.submit()
        await relay.until("removed$", 4)
        assert relay.judged(far.accepted()[-1].content) == [("x.test", True)]
        assert not relay.lines("not signed")


@pytest.mark.slow
async def test_what_came_while_no_relay_ran_is_signed_at_the_attempt(tmp_path: Path) -> None:
    async with ScriptedUpstream() as far, SigningRelay(tmp_path, {"far": smtp_upstream(far.port)}) as relay:
        await relay.stop()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "relay.sendmail",
            "-C",
            str(relay.config),
            "-f",
            "a@x.test",
            "b@y.test",
            stdin=asyncio.subprocess.PIPE,
        )
        await process.communicate(b"From: a@x.test\nSubject: x\n\nhello\n")
        assert process.returncode == 0
        await relay.start()
        await relay.until("removed$")
        assert relay.judged(far.accepted()[-1].content) == [("x.test", True)]


class RsaSigningRelay(SigningRelay):
    """Its signatures come from a process of their own."""

    def new_key(self) -> None:
        path = self.folder / "e1.pem"
        path.unlink(missing_ok=True)
        write_key(path, make_key("e1", "rsa", 1024))

    def children(self) -> list[int]:
        return list(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))


def wait_for_the_end_of(child: int) -> None:
    until = time.monotonic() + 20
    try:
        while "Z (" not in Path(f"/proc/{child}/status").read_text():
            assert time.monotonic() < until
            time.sleep(0.01)
    except (FileNotFoundError, ProcessLookupError):
        return


@pytest.mark.slow
async def test_the_process_that_signs_is_nobodys_loss_and_never_left_behind(tmp_path: Path) -> None:
    async with ScriptedUpstream() as far, RsaSigningRelay(tmp_path, {"far": smtp_upstream(far.port)}) as relay:
        (child,) = relay.children()
        await relay.submit()
        await relay.until("removed$")
        os.kill(child, signal.SIGKILL)
        await relay.until("warning: the process that signs has ended")
        await relay.submit()
        await relay.until("removed$", 2)
        assert not relay.children()
        os.kill(relay.pid, signal.SIGHUP)
        await relay.until("reload: done")
        (child,) = relay.children()
        await relay.submit()
        await relay.until("removed$", 3)
        assert [relay.judged(each.content) for each in far.accepted()] == [[("x.test", True)]] * 3
        await relay.kill()
        await asyncio.to_thread(wait_for_the_end_of, child)


@pytest.mark.slow
async def test_what_was_accepted_and_is_not_signed_yet_is_signed_after_a_crash(tmp_path: Path) -> None:
    async with ScriptedUpstream() as far, RsaSigningRelay(tmp_path, {"far": smtp_upstream(far.port)}) as relay:
        (child,) = relay.children()
        os.kill(child, signal.SIGSTOP)
        await relay.submit()
        assert not far.accepted()
        await relay.kill()
        os.kill(child, signal.SIGKILL)
        await relay.start()
        await relay.until("removed$")
        assert relay.judged(far.accepted()[-1].content) == [("x.test", True)]
