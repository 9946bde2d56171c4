from __future__ import annotations

import asyncio

import pytest

from relay.upstream import names
from relay.upstream.addresses import Family, parse_hosts
from relay.upstream.names import Found, Names, NameServiceFailed, NoSuchHost, RecordType, Unresolved
from relay.upstream.watched import Watched

Answer = Found | Exception | asyncio.Event
V4, V6, NONE = Found(("192.0.2.1",), 100.0), Found(("2001:db8::1",), 100.0), Found((), 100.0)


class Scene:
    """Names over a table of answers and a clock that the test turns; an event is an answer that never comes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answers: dict[RecordType, Answer] = {"A": V4, "AAAA": V6}
        self.asked: list[str] = []
        self.names = Names(self._look_up, Watched((), lambda: parse_hosts("192.0.2.7 mailhub")), lambda: self.now)

    async def _look_up(self, name: str, record: RecordType) -> Found:
        self.asked.append(f"{name} {record}")
        answer = self.answers[record]
        await asyncio.sleep(0)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self.answers[record]
            assert not isinstance(answer, asyncio.Event)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def of(self, host: str = "mx.test", family: Family = "any") -> set[str]:
        return set(await self.names.addresses(host, family))


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_both_families_are_asked_at_once_and_kept_for_their_ttl(scene: Scene) -> None:
    assert await scene.of() == {"192.0.2.1", "2001:db8::1"}
    scene.now += 99
    assert await scene.of("MX.test") == {"192.0.2.1", "2001:db8::1"}
    assert sorted(scene.asked) == ["mx.test A", "mx.test AAAA"]
    scene.now += 2
    scene.answers["A"] = Found(("192.0.2.2",), 100.0)
    assert await scene.of() == {"192.0.2.2", "2001:db8::1"}
    assert len(scene.asked) == 4


@pytest.mark.parametrize(("family", "record"), [("ipv4", "A"), ("ipv6", "AAAA")])
async def test_one_family_asks_for_that_one_alone(scene: Scene, family: Family, record: str) -> None:
    assert len(await scene.of(family=family)) == 1
    assert scene.asked == [f"mx.test {record}"]


async def test_literals_and_hosts_ask_nobody(scene: Scene) -> None:
    assert await scene.of("192.0.2.9") == {"192.0.2.9"}
    assert await scene.of("mailhub") == {"192.0.2.7"}
    assert not scene.asked


async def test_a_literal_of_the_other_family_has_no_address(scene: Scene) -> None:
    with pytest.raises(Unresolved, match=r"name=192\.0\.2\.9 type=AAAA: Host found but no data record"):
        await scene.of("192.0.2.9", "ipv6")


async def test_many_who_ask_at_once_are_one_question(scene: Scene) -> None:
    await asyncio.gather(*(scene.of() for _ in range(10)))
    assert len(scene.asked) == 2


async def test_who_gives_up_takes_nobody_along(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.answers = {"A": gate, "AAAA": gate}
    first, second = asyncio.ensure_future(scene.of()), asyncio.ensure_future(scene.of())
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    scene.answers = {"A": V4, "AAAA": NONE}
    gate.set()
    assert await second == {"192.0.2.1"}
    assert len(scene.asked) == 2


async def test_a_family_that_stays_silent_is_not_waited_for(scene: Scene) -> None:
    gate = asyncio.Event()
    scene.answers["AAAA"] = gate
    async with asyncio.timeout(2):
        assert await scene.of() == {"192.0.2.1"}
    scene.answers["AAAA"] = V6
    gate.set()  # its late answer is kept for the next time
    await asyncio.sleep(0.01)
    assert await scene.of() == {"192.0.2.1", "2001:db8::1"}
    assert len(scene.asked) == 2


@pytest.mark.parametrize(
    ("v4", "v6", "why", "dsn"),
    [
        (NoSuchHost(), NoSuchHost(), "Host not found", "4.4.4"),
        (NameServiceFailed(), NameServiceFailed(), "Host not found, try again", "4.4.3"),
        (NoSuchHost(), NameServiceFailed(), "Host not found, try again", "4.4.3"),
        (NONE, NONE, "Host found but no data record of requested type", "4.4.4"),
    ],
)
async def test_no_address_in_the_words_of_postfix(scene: Scene, v4: Answer, v6: Answer, why: str, dsn: str) -> None:
    scene.answers = {"A": v4, "AAAA": v6}
    for _ in range(2):  # also from the cache
        with pytest.raises(Unresolved) as caught:
            await scene.of()
        said = f"Host or domain name not found. Name service error for name=mx.test type=AAAA: {why}"
        assert (str(caught.value), caught.value.dsn) == (said, dsn)


async def test_one_family_with_addresses_is_enough(scene: Scene) -> None:
    scene.answers["AAAA"] = NameServiceFailed()
    assert await scene.of() == {"192.0.2.1"}


async def test_stale_addresses_bridge_a_failing_name_server(scene: Scene) -> None:
    await scene.of()
    scene.answers = {"A": NameServiceFailed(), "AAAA": NameServiceFailed()}
    scene.now += 101
    assert await scene.of() == {"192.0.2.1", "2001:db8::1"}
    assert len(scene.asked) == 4
    assert await scene.of() == {"192.0.2.1", "2001:db8::1"}
    assert len(scene.asked) == 4, "asked again at once"
    scene.now += names.STALE_RETRY + 1
    scene.answers["A"] = Found(("192.0.2.2",), 100.0)
    assert await scene.of() == {"192.0.2.2", "2001:db8::1"}
    scene.now += names.STALE_FOR + 101
    scene.answers["A"] = NameServiceFailed()
    with pytest.raises(Unresolved, match="try again"):
        await scene.of()


async def test_stale_addresses_bridge_a_silent_name_server(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "STALE_AFTER", 0.01)
    await scene.of()
    gate = asyncio.Event()
    scene.answers = {"A": gate, "AAAA": gate}
    scene.now += 101
    async with asyncio.timeout(2):
        assert await scene.of() == {"192.0.2.1", "2001:db8::1"}
    scene.answers = {"A": V4, "AAAA": V6}
    gate.set()


async def test_a_name_that_is_gone_is_gone(scene: Scene) -> None:
    await scene.of()
    scene.answers = {"A": NoSuchHost(), "AAAA": NoSuchHost()}
    scene.now += 101
    with pytest.raises(Unresolved, match=r"Host not found$"):
        await scene.of()


async def test_answers_are_bounded_in_number_and_time(scene: Scene) -> None:
    scene.answers = {"A": Found(("192.0.2.1",), 10.0**9), "AAAA": NONE}
    for n in range(names.NAMES_MOST):
        await scene.of(f"mx{n}.test")
    assert len(scene.names._known) == names.NAMES_MOST
    asked = len(scene.asked)
    last = f"mx{names.NAMES_MOST - 1}.test"
    await scene.of(last)
    assert len(scene.asked) == asked
    scene.now += names.TTL_MOST + 1
    await scene.of(last, "ipv4")
    assert len(scene.asked) == asked + 1


async def test_a_bug_in_the_lookup_is_not_hidden(scene: Scene) -> None:
    scene.answers = {"A": ZeroDivisionError(), "AAAA": ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        await scene.of()
