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
from relay.lessons import BrakeRecord, Source, held_by
from relay.mail import Imprint, RecipientState, Signatures, queue_id
from relay.settings import SpoolSettings
from relay.spool import PART_SIZE, QuotaRecord, Warned
from relay.spool.sqlite import SqliteSpool, open_spool
from relay.suppression import Cause, Suppression, digest_of

from .examples import NOW, arrival, settled, settlement

SMALL = b"small \x00\xff\r\n" * 100
QUOTA = (
    QuotaRecord("ses", 6, "boot", 1.0, NOW, {1.0: [(1, 1), (2, 2)]}),
    QuotaRecord("ses", 3, "boot", 2.0, NOW, {1.0: [(2, 3), (4, 4)]}, anew=False, oldest={1.0: 2}),
)
IMPRINT = Imprint("Message-ID", b"0123456789abcdef", 600.0)
LARGE = bytes(range(256)) * 1024 + b"and one more part"
SIGNED = Signatures(b"DKIM-Signature: x\r\n", "ses", "relaxed:hash")
WHERE = "ses[192.0.2.1]:25"
BRAKED = Source("sender", "app@example.com")
LOGINS = ((NOW,), (NOW + 1, NOW + 2))


class Death:
    """A fault hook that ends the process, as kill -9 does, at the n-th point."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.passed = 0
        self.names: set[str] = set()

    def __call__(self, name: str) -> None:
        self.passed += 1
        self.names.add(name)
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
    await spool.suppress([Suppression("gone@x.example", Cause.BOUNCE, NOW, NOW + 60)])
    await spool.unsuppress([digest_of("gone@x.example")])
    await spool.suppress([Suppression("gone@x.example", Cause.BOUNCE, NOW, NOW + 60)])
    await spool.forget_suppressions(NOW + 60)
    for written, record in enumerate(QUOTA, 1):
        await spool.record_quota(record)
        tell("quota", written)
    await doubt_and_delay(spool)
    await operate(spool)
    await spool.close()
    tell("names", *sorted(death.names))
    tell("points", death.passed)


async def doubt_and_delay(spool: SqliteSpool) -> None:
    """Signed mail that is begun, and a delay that its sender is told of."""
    begun, delayed, told = (spool.allocate(NOW) for _ in range(3))
    mail = arrival(begun, content=SMALL, leased=True)
    await spool.accept(replace(mail, message=replace(mail.message, signatures=SIGNED)))
    tell("accepted", begun)
    await spool.begin(begun, [0], WHERE)
    tell("begun", begun)
    await spool.rescue(NOW)
    await spool.accept(arrival(delayed, content=SMALL))
    tell("accepted", delayed)
    notification = arrival(told, "app@example.com", content=SMALL, sender="", bounce_of=queue_id(delayed))
    await spool.warn([Warned(delayed, (0,), NOW + 60, notification)])
    tell("warned", delayed)
    tell("accepted", told)


async def operate(spool: SqliteSpool) -> None:
    """What an operator does, what the brake stops, what was learned of logins."""
    numbers = [spool.allocate(NOW) for _ in range(2)]
    for number in numbers:
        await spool.accept(arrival(number, content=SMALL))
        tell("accepted", number)
    await spool.hold(numbers)
    tell("held", *numbers)
    await spool.release(numbers, NOW)
    tell("released", *numbers)
    leased = await spool.lease(numbers)
    later = settled(0, RecipientState.WAITING, due=NOW + 600)
    stopped = settled(0, RecipientState.HELD, detail=f"{held_by(BRAKED)}: stale list")
    await spool.settle([settlement(numbers[0], later), settlement(numbers[1], stopped)])
    tell("deferred", *(each.message.number for each in leased))
    await spool.retry(numbers, NOW)
    await spool.brake(BrakeRecord(BRAKED, NOW, "stale list"))
    tell("braked", numbers[1])
    await spool.unbrake(BRAKED, NOW)
    tell("released", numbers[1])
    for written, times in enumerate(LOGINS, 1):
        await spool.record_refused_logins("ses", times)
        tell("logins", written)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Death(int(sys.argv[2]))))
