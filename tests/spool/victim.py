"""A program that uses a spool and is killed: ``python -m tests.spool.victim PATH N`` dies at the N-th fault point.

It writes a line to stdout after each verb that returned: what the spool has promised by then. With N = 0 it lives and
tells how many fault points it passed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace

from relay.clock import SystemClock
from relay.mail import Imprint, RecipientState, queue_id
from relay.settings import SpoolSettings
from relay.spool import PART_SIZE, QuotaRecord
from relay.spool.sqlite import open_spool

from .examples import NOW, arrival, settled, settlement

SMALL = b"small \x00\xff\r\n" * 100
QUOTA = (
    QuotaRecord("ses", 6, "boot", 1.0, NOW, {1.0: [(1, 1), (2, 2)]}),
    QuotaRecord("ses", 3, "boot", 2.0, NOW, {1.0: [(2, 3), (4, 4)]}, anew=False, oldest={1.0: 2}),
)
IMPRINT = Imprint("Message-ID", b"0123456789abcdef", 600.0)
LARGE = bytes(range(256)) * 1024 + b"and one more part"


class Death:
    """A fault hook that ends the process, as kill -9 does, at the n-th point."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.passed = 0

    def __call__(self, _name: str) -> None:
        self.passed += 1
        if self.passed == self.n:
            os.kill(os.getpid(), signal.SIGKILL)


def tell(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


async def main(path: str, death: Death) -> None:
    spool = await open_spool(SpoolSettings(path=path, min_free_disk=0), clock=SystemClock(), fault=death)
    relayed, failed, deferred, held, removed, large, dropped = (spool.allocate(NOW) for _ in range(7))
    for number in (relayed, failed, deferred):
        await spool.accept(arrival(number, content=SMALL, leased=True))
        tell("accepted", number)
    for number in (held, removed):
        imprints = (IMPRINT,) if number == held else ()
        await spool.accept(replace(arrival(number, "a@x.example", "b@x.example", content=SMALL), imprints=imprints))
        tell("accepted", number)
    again = spool.allocate(NOW)
    await spool.stage(again, 0, SMALL)
    assert await spool.accept(replace(arrival(again, content=None, size=len(SMALL)), imprints=(IMPRINT,))) is not None
    tell("repeated", again)
    for part in range(2):
        await spool.stage(large, part, LARGE[part * PART_SIZE : (part + 1) * PART_SIZE])
    await spool.accept(arrival(large, content=None, size=len(LARGE)))
    tell("accepted", large)
    await spool.stage(dropped, 0, SMALL)
    await spool.discard(dropped)
    await spool.hold([held])
    tell("held", held)
    bounce = spool.allocate(NOW)
    later = settled(0, RecipientState.WAITING, due=NOW + 60)
    report = arrival(bounce, "app@example.com", content=SMALL, sender="", bounce_of=queue_id(failed))
    await spool.settle([settlement(relayed), settlement(deferred, later)])
    tell("relayed", relayed)
    tell("deferred", deferred)
    await spool.settle([settlement(failed, settled(0, RecipientState.FAILED), bounces=(report,))])
    tell("failed", failed)
    tell("accepted", bounce)
    await spool.remove([removed], NOW)
    tell("removed", removed)
    claimed = await spool.claim(NOW, 10, 1_000_000)
    tell("claimed", *(entry.message.number for entry in claimed))
    back = settled(0, RecipientState.WAITING, due=NOW, charged=False)
    await spool.settle([settlement(entry.message.number, back) for entry in claimed])
    await spool.sweep(NOW + 60)
    tell("swept", relayed)
    await spool.forget_imprints(NOW + 600)
    for written, record in enumerate(QUOTA, 1):
        await spool.record_quota(record)
        tell("quota", written)
    await spool.close()
    tell("points", death.passed)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Death(int(sys.argv[2]))))
