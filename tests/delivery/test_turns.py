"""Whose turn it is: urgent first, bulk by weight, sources in rounds; and what each may hold in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.fairness import PER_FREE, URGENT_PART, Window, shares
from relay.delivery.turns import (
    NORMAL_PER_BULK,
    RANK_SHIFT,
    WAY_SHIFT,
    Ordinary,
    Sources,
    Turns,
    is_urgent,
    source_of,
    turn_of,
    way_of,
)
from relay.mail import Envelope, Message, Priority, Recipient

RANK = 1 << 32


@dataclass
class Item:
    turn: int
    n: int = 0


def message(sender: str = "a@x.test", **traits: object) -> Message:
    return Message(1, Envelope(sender, (Recipient(0, "b@y.test"),)), 1, 0.0, **traits)  # type: ignore[arg-type]


def test_a_source_is_the_tag_else_the_user_else_the_sender() -> None:
    client = "web1[192.0.2.7], sasl_method=PLAIN, sasl_username=shop"
    assert source_of(message(tag="spring", client=client)) == "tag spring"
    assert source_of(message(client=client)) == "user shop"
    assert source_of(message("News@X.test", client="web1[192.0.2.7]")) == "news@x.test"
    assert source_of(message("")) == ""


def test_senders_that_differ_by_recipient_are_one_source() -> None:
    senders = ("bounce-1-joe=y.test@x.test", "bounce-2-ann=z.test@x.test", "prvs=12ab=a@x.test", "b+42@x.test")
    assert {source_of(message(sender)) for sender in senders} == {"@x.test"}


def test_a_turn_tells_priority_source_and_way() -> None:
    turns = [turn_of(message(priority=priority)) for priority in (Priority.URGENT, Priority.NORMAL, Priority.BULK)]
    assert turns == sorted(turns)
    assert [is_urgent(turn) for turn in turns] == [True, False, False]
    assert turn_of(message()) == turn_of(message("A@x.test")) != turn_of(message("c@x.test"))
    assert turn_of(message(), "=ses") != turn_of(message())


@given(st.lists(st.integers(0, 4), max_size=60))
def test_between_two_of_one_source_each_other_one_that_waits_has_its_turn(sources: list[int]) -> None:
    queue = Sources[Item]()
    for n, source in enumerate(sources):
        queue.append(Item(RANK + source, n))
    left = Counter(RANK + source for source in sources)
    last: dict[int, int] = {}
    order: list[Item] = []
    while queue:
        head = queue.head
        item = queue.pop()
        assert item is head
        order.append(item)
        if item.turn in last:
            between = {each.turn for each in order[last[item.turn] + 1 : -1]}
            assert between >= {turn for turn, count in left.items() if count} - {item.turn}
        left[item.turn] -= 1
        last[item.turn] = len(order) - 1
    for source in set(sources):
        assert [i.n for i in order if i.turn == RANK + source] == [n for n, s in enumerate(sources) if s == source]
    assert len(order) == len(sources)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_what_is_put_back_is_the_next_one_and_nothing_is_lost(steps: list[tuple[int, bool]]) -> None:
    turns = Turns[Item]()
    expected = Counter[int]()
    for n, (rank, put_back) in enumerate(steps):
        item = Item(rank % 3 * RANK + n % 2, n)
        (turns.put_back if put_back else turns.append)(item)
        expected[n] += 1
        if put_back and rank % 3 == 0:
            assert turns.urgent.head is item
        queue = turns.urgent or turns.ordinary
        if rank == 3:
            expected[queue.pop().n] -= 1
    assert Counter(item.n for item in turns) == +expected
    assert len(turns.urgent) + len(turns.ordinary) == expected.total()


def test_bulk_has_its_share_beside_normal_mail_and_no_more() -> None:
    queue = Ordinary[Item]()
    for n in range(100):
        queue.append(Item(RANK, n))
        queue.append(Item(2 * RANK, n))
    first = [queue.pop().turn >> 32 for _ in range(100)]
    assert first.count(2) == 100 // (NORMAL_PER_BULK + 1)
    for _ in range(NORMAL_PER_BULK - 1):
        assert queue.pop().turn == RANK
    for _ in range(100):
        item = queue.pop()
        assert item.turn == RANK, "what is only looked at is not bulk's gain"
        queue.put_back(item)
    while queue:
        queue.pop()
    queue.append(Item(2 * RANK))
    assert queue.head.turn == 2 * RANK, "and all of it where nothing else waits"


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 50)), max_size=400))
def test_a_source_never_holds_more_than_its_share_and_the_next_one_finds_room(asked: list[tuple[int, int]]) -> None:
    window = Window(60, 10_000)
    kept: list[tuple[int, int]] = []
    for source, octets in asked:
        turn = RANK + source
        before = window.held.get(turn, [0, 0])[0]
        free = window.max_messages - window.max_messages // URGENT_PART - window.messages
        if window.reserve(octets, turn):
            kept.append((octets, turn))
            assert before < PER_FREE * free or not before
    assert window.messages <= 60 - 60 // URGENT_PART
    holders = len(window.held)
    if holders < 6:
        assert window.reserve(1, RANK + 99), "one that comes anew"
        window.free(1, RANK + 99)
    assert window.reserve(1, 5), "urgent mail"
    window.free(1, 5)
    for octets, turn in kept:
        window.free(octets, turn)
    assert (window.messages, window.octets, window.held) == (0, 0, {})


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 80), max_size=30), st.integers(1, 100))
def test_a_claim_fits_the_window_and_gives_none_more_than_its_share(held: dict[int, int], limit: int) -> None:
    window = Window(200, 100_000)
    for source, count in held.items():
        for _ in range(count):
            window.reserve(10, RANK + source)
    turns = [RANK + source for source in range(41)]
    given = shares(window, [3, *turns], limit)
    assert sum(given.values()) <= limit
    if window.messages < window.max_messages:
        assert given[3] > 0, "urgent mail first"
    for turn, count in given.items():
        assert count > 0
        for _ in range(count):
            assert is_urgent(turn) or window.reserve(10, turn) or turn in window.held


def test_a_way_that_is_down_leaves_room_to_the_others_however_many_sources_it_has() -> None:
    window = Window(300, 10**9)
    for source in range(400):
        for _ in range(300):
            window.reserve(1, RANK + source)
    assert window.messages < 200
    other = RANK | 1 << WAY_SHIFT
    assert way_of(other) != way_of(RANK)
    assert window.wants(other) > 20
    assert window.reserve(1, other)
    window.free(1, other)
    assert shares(window, [RANK, RANK + 500, other], 500).keys() == {other}


@pytest.mark.parametrize("rank", [0, RANK, 2 * RANK])
def test_many_ways_that_are_down_leave_each_other_and_the_next_one_room_to_go_on_by(rank: int) -> None:
    window = Window()
    ways = [rank | way << WAY_SHIFT for way in range(21)]
    for turn in ways[:20]:
        while window.reserve(1000, turn):
            pass
    assert window.messages > 0.8 * window.max_messages
    *down, other = ways
    assert all(window.held[turn][0] >= 60 for turn in down)
    assert window.wants(other) >= 60
    assert shares(window, [*down, other], 500) == {other: 60}
    for _ in range(60):
        assert window.reserve(1000, other)
    for _ in range(40):
        window.free(1000, other)
    assert shares(window, [*down, other], 500) == {other: 40}, "it goes on"
    while window.reserve(1000, other):
        pass
    assert window.messages <= window.max_messages * 9 // 8
    ordinary = RANK | 30 << WAY_SHIFT
    assert window.reserve(1000, ordinary), "whatever else waits"


def test_urgent_mail_for_what_is_down_leaves_others_room() -> None:
    window = Window(300, 10**9)
    for source in range(400):
        for _ in range(300):
            window.reserve(1, source)
    assert window.messages == 200
    assert window.wants(0) == 0
    assert window.reserve(1, 1 << WAY_SHIFT), "urgent mail of another way"
    assert window.reserve(1, RANK), "and what is not urgent of that very way"


def test_a_lone_source_fills_its_share_and_is_refilled_by_the_quarter() -> None:
    window = Window(300, 10**9)
    while window.reserve(1, RANK):
        pass
    assert window.messages == 155
    assert shares(window, [RANK], 500) == {}
    for _ in range(30):
        window.free(1, RANK)
    assert shares(window, [RANK], 500) == {}
    for _ in range(30):
        window.free(1, RANK)
    assert shares(window, [RANK], 500) == {RANK: 59}


@pytest.mark.parametrize("full", [False, True])
def test_many_sources_cost_little_to_choose_from(monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    window = Window(100, 1000)
    asked: list[int] = []
    wants = Window.wants

    def counted(self: Window, turn: int) -> int:
        asked.append(turn)
        return wants(self, turn)

    monkeypatch.setattr(Window, "wants", counted)
    for n in range(100 if full else 40):
        window.take(1, 2 << RANK_SHIFT | n)
    urgent = 7
    left = dict.fromkeys([*(2 << RANK_SHIFT | n for n in range(20_000)), urgent])
    given = shares(window, left, 30)
    assert urgent in given or full
    assert sum(given.values()) == (0 if full else 30)
    assert len(asked) < 200
