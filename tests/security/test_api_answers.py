"""An API that answers with far too much: it is cut off, understood as far as it was heard, and costs no memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest

from relay.outcome import Verdict
from tests.peers.api import Answer
from tests.upstream.test_api_upstreams import BOTH, outcomes_of

MILLIONS = 60_000_000
PLAIN = json.dumps({"message": "no"}).encode() + b" " * MILLIONS
NESTED = b"[" * 60_000
BOMB = gzip.compress(PLAIN)


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, PLAIN),
        Answer(500, BOMB, {"Content-Encoding": "gzip"}),
        Answer(500, NESTED),
        Answer(500, {"message": "no " * 20_000}),
        Answer(500, {"message": "\x1b[2J\r\nto=<x>, status=sent\x00"}),
    ],
    ids=["long", "gzip-bomb", "nested", "long-word", "control-characters"],
)
async def test_it_is_cut_off(kind: str, answer: Answer) -> None:
    tracemalloc.start()
    try:
        (outcome,), _ = await outcomes_of(kind, [answer])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.verdict is Verdict.DEFERRED
    assert len(outcome.detail) < 1000
    assert outcome.detail.isprintable()
    assert peak < 16_000_000
