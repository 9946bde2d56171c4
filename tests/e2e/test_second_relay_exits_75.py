"""A second relay on the same spool leaves with 75 at once and does not disturb the first."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.harness import Relay, free_port, smtp_upstream, toml
from tests.peers.scripted import ScriptedUpstream


async def test_second_relay(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        first = relay.config.read_text()
        relay.config.write_text(first.replace(f":{relay.port}", f":{free_port()}"))
        code, out, err = await relay.command("serve", within=10)
        assert code == 75, out + err
        assert str(relay.pid) in err or "another" in err.lower() or "use" in err.lower()
        relay.config.write_text(first)
        await relay.submit()
        await peer.received(1)


async def test_after_a_kill_the_spool_is_free_again(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer, Relay(tmp_path, {"peer": smtp_upstream(peer.port)}) as relay:
        await relay.kill()
        await relay.start()
        await relay.submit()
        await peer.received(1)


async def test_a_port_in_use_is_said_in_words(tmp_path: Path) -> None:
    async with ScriptedUpstream() as peer:
        config = tmp_path / "taken.toml"
        config.write_text(
            toml(
                {
                    "spool": {"url": f"sqlite:///{tmp_path}/other/spool.db", "min_free_disk": "0MB"},
                    "listener.app": {"address": f"127.0.0.1:{peer.port}"},
                    "upstream.peer": smtp_upstream(1),
                }
            )
        )
        async with Relay(tmp_path / "good", {"peer": smtp_upstream(peer.port)}) as relay:
            relay.config = config
            code, _, err = await relay.command("serve", within=10)
        assert code not in {0, 78}
        assert str(peer.port) in err
        assert "Traceback" not in err
