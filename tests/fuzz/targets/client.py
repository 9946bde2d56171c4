"""The client machine against a server that says anything at any time: each request begun ends exactly once."""

from __future__ import annotations

from relay.mail import Body, Envelope, Recipient
from relay.outcome import Verdict
from relay.smtp.capabilities import Capabilities
from relay.smtp.client import ClientSession, Pipelining
from relay.smtp.steps import Done
from tests.fuzz.supply import Supply

SEEDS = (
    b"250 ok\n250 ok\n354 go\n250 taken\n" + bytes([0, 1, 9, 9, 9, 9, 1, 0, 3]),
    b"250 ok\n550 5.1.1 no\n354 go\n250 taken\n250 ok\n" + bytes([9, 9, 9, 9, 9, 2, 0, 1, 0, 2, 7]),
    b"250 ok\n250 ok\n250 ok\n421 bye\n" + bytes([9, 4, 9, 9, 9, 9, 0, 1, 0, 1, 3]),
    b"451 4.3.0 x\n503 y\n503 z\n" + bytes([3, 2, 9, 9, 9, 0, 0, 2]),
)
_ALL = Capabilities(pipelining=True, size=True, eightbit=True, smtputf8=True, chunking=True, dsn=True)
_CONTENT = b"Subject: x\r\n\r\n.dots\r\n"


def check(octets: bytes) -> None:
    supply = Supply(octets)
    mode = Pipelining(supply.number(len(Pipelining)))
    machine: ClientSession[int] = ClientSession(_ALL if supply.choice() else Capabilities(), mode, host="up[192.0.2.1]")
    begun: dict[int, int] = {}
    done: list[Done[int]] = []
    fed = 0
    for _ in range(200):
        if not supply:
            break
        step = supply.number(10)
        if step <= 1 and machine.over is None and machine.in_flight < machine.depth:
            count = 1 + supply.number(3)
            key = len(begun)
            begun[key] = count
            envelope = Envelope("a@x.test", tuple(Recipient(n, f"r{n}@y.test") for n in range(count)), Body.SEVEN_BIT)
            machine.begin(key, envelope, _CONTENT if step == 0 else None, len(_CONTENT))
        elif step == 2 and machine.wants_content is not None:
            assert b"\r\n.\r\n" not in machine.feed_content(_CONTENT)
            fed += 1
        elif step == 3 and machine.wants_content is not None and fed:
            machine.end_content()
            fed = 0
        elif step == 4:
            done += machine.withdraw()
        else:
            assert all(each.count(b"\n") == each.count(b"\r\n") for each in machine.bytes_to_send())
            if step > 5:
                done += machine.receive(supply.line() + b"\r\n")
    assert machine.in_flight == len(begun) - len(done)
    done += machine.lost("lost connection")
    assert sorted(each.key for each in done) == list(begun), "one end each"
    assert not machine.in_flight
    for each in done:
        assert len(each.outcomes) == begun[each.key]
        for outcome in each.outcomes:
            # Nothing is called relayed, or in doubt, of which no content left.
            assert each.content_begun or not (outcome.verdict is Verdict.RELAYED or outcome.in_doubt)
