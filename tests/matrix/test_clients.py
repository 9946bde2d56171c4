"""Every client through every door that it can come in by; over the plain one with the whole corpus."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest

from tests.e2e.harness import smtp_upstream
from tests.matrix import known
from tests.matrix.arrivals import body_of, differences, text_of
from tests.matrix.clients import CLIENTS
from tests.matrix.corpus import CORPUS, Case
from tests.matrix.doors import KINDS, House
from tests.peers.scripted import ScriptedUpstream

FEW = ("utf-8", "dots", "smuggled", "trailing-blanks", "nul", "megabyte", "many-recipients", "signed")
CELLS = [(client, door) for client in CLIENTS for door in KINDS if door != "unix" or CLIENTS[client].unix]


def cases_for(client: str, door: str) -> list[Case]:
    """What this client can send at all, of the corpus or of FEW."""
    names = [name for name in CORPUS if door == "plain" or name in FEW]
    if CLIENTS[client].composes:
        names = [name for name in names if CORPUS[name].plain_text]
    exceptions = known.CLIENTS.get(client, {})
    return [CORPUS[name] for name in names if name not in exceptions or exceptions[name].becomes is not None]


def test_the_corpus_has_sixty_cases_of_which_few_are_tried_everywhere() -> None:
    assert len(CORPUS) >= 60
    assert set(FEW) <= set(CORPUS)
    assert set(known.CLIENTS) <= set(CLIENTS)
    for exceptions in (*known.CLIENTS.values(), *known.UPSTREAMS.values()):
        assert set(exceptions) <= set(CORPUS)


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.parametrize(("client", "door"), CELLS, ids=[f"{client}-{door}" for client, door in CELLS])
async def test_a_client_at_a_door(tmp_path: Path, client: str, door: str) -> None:
    if reason := CLIENTS[client].missing:
        pytest.skip(reason)
    cases = cases_for(client, door)
    async with ScriptedUpstream() as peer, House(tmp_path, {"peer": smtp_upstream(peer.port)}) as house:
        await asyncio.to_thread(CLIENTS[client].send, house.doors[door], cases, tmp_path)
        await house.until("removed$", len(cases))
        arrived: dict[str, list[bytes]] = defaultdict(list)
        for message in peer.accepted():
            arrived[message.recipients[0].partition("@")[0]].append(message.content)
    read = text_of if CLIENTS[client].composes else body_of
    found = differences(cases, arrived, known.CLIENTS.get(client, {}), read)
    assert not found, "\n".join(found)
