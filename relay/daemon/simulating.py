"""``relay simulator``: a provider's mailbox simulator as a server, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import uvloop

from relay.listener.simulator import serve_simulator


def simulate(address: str, maildir: Path | None) -> int:
    """Answer on ``address`` until SIGTERM or SIGINT; messages are kept in ``maildir`` where one is given."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await serve_simulator(address, maildir=maildir)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(run())
    return 0
