"""``relay simulator``: a provider's mailbox simulator as a server, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import uvloop

from relay.listener.simulator import start_simulator

EX_UNAVAILABLE: Final = 69


def simulate(address: str, maildir: Path | None) -> int:
    """Answer on ``address`` until SIGTERM or SIGINT, then print how many recipients each mailbox was asked for.

    Messages are kept in ``maildir`` where one is given. The exit status: 69 where it can't listen.
    """

    async def run() -> Mapping[str, int]:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await start_simulator(address, maildir=maildir)
        try:
            await stop.wait()
        finally:
            await server.close()
        return server.counts

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            counts = runner.run(run())
        except OSError as error:
            sys.stderr.write(f"relay: can't listen on {address}: {error.strerror or error}\n")
            return EX_UNAVAILABLE
    for mailbox, count in sorted(counts.items()):
        sys.stdout.write(f"{mailbox}: {count}\n")
    return 0
