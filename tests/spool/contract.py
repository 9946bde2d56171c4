"""What every spool promises: a backend's tests subclass this and give ``opener``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

import pytest

from relay.lessons import BrakeRecord, LearnedRecord, Source, held_by
from relay.mail import UNSIGNED, Imprint, Priority, RecipientState, Signatures, queue_id
from relay.spool import (
    ORDINARY,
    PART_SIZE,
    Arrival,
    Duplicate,
    QuotaRecord,
    Selector,
    Spool,
    SpoolError,
    SpoolFull,
    Totals,
    Warned,
)
from relay.suppression import Cause, Entry, Suppression, SuppressionQuery, digest_of

from .examples import CONTENT, NOW, arrival, rich, settled, settlement

WAITING, LEASED, HELD = RecipientState.WAITING, RecipientState.LEASED, RecipientState.HELD
RELAYED, FAILED = RecipientState.RELAYED, RecipientState.FAILED

EVERYTHING = Selector(everything=True)

BY_KEY = Imprint("Idempotency-Key", b"k" * 16, 86_400.0)
BY_ID = Imprint("Message-ID", b"i" * 16, 600.0)


def known(
    number: int, *imprints: Imprint, later: float = 0.0, content: bytes | None = CONTENT, size: int | None = None
) -> Arrival:
    """An arrival that can be known again, so many seconds after NOW."""
    given = arrival(number, content=content, size=size)
    return replace(given, message=replace(given.message, arrived=NOW + later), imprints=imprints)


class Opener(Protocol):
    """Opens the spool of this test: each time the same one, with other limits where given."""

    def __call__(self, *, max_size: int = ..., min_free_disk: int = ...) -> Coroutine[Any, Any, Spool]: ...


class SpoolContract:
    @pytest.fixture
    async def spool(self, opener: Opener) -> AsyncIterator[Spool]:
        spool = await opener()
        yield spool
        await spool.close()

    # -- accept -----------------------------------------------------------------------------------------------------

    async def test_what_was_accepted_is_there_after_reopening(self, opener: Opener) -> None:
        spool = await opener()
        number = spool.allocate(NOW)
        await spool.accept(Arrival(rich(number), CONTENT))
        await spool.close()

        spool = await opener()
        (claimed,) = await spool.claim(NOW + 1, 10, 1_000_000)
        await spool.close()

        assert claimed.message == rich(number)
        assert (claimed.nrcpt, claimed.content, claimed.parts) == (2, CONTENT, 1)

    async def test_signatures_stay_beside_the_content(self, opener: Opener) -> None:
        spool = await opener()
        signed, unsigned, unseen = (spool.allocate(NOW) for _ in range(3))
        signatures = Signatures(b"DKIM-Signature: v=1; \xff\r\n", "date,message-id", "simple:hash")
        await spool.accept(Arrival(replace(rich(signed), signatures=signatures), CONTENT))
        await spool.accept(Arrival(replace(rich(unsigned), signatures=UNSIGNED), CONTENT))
        await spool.accept(arrival(unseen))
        await spool.close()
        spool = await opener()
        claimed = {each.message.number: each.message for each in await spool.claim(NOW + 1, 10, 1_000_000)}
        assert claimed[signed] == replace(rich(signed), signatures=signatures)
        # That there is none to keep is found out again.
        assert [claimed[number].signatures for number in (unsigned, unseen)] == [None, None]
        await spool.close()

    async def test_what_the_application_asked_for_is_told_to_whoever_asks(self, spool: Spool) -> None:
        plain, asking, void = (spool.allocate(NOW) for _ in range(3))
        await spool.accept(arrival(plain))
        await spool.accept(Arrival(rich(asking), CONTENT))
        await spool.accept(Arrival(replace(arrival(void).message, not_after=-0.5), CONTENT))
        found = [queued.message for queued in await spool.find(EVERYTHING, NOW)]
        assert [(m.not_after, m.upstream, m.priority, m.tag, m.idempotency_key) for m in found] == [
            (None, None, Priority.NORMAL, None, None),
            (NOW + 3600.0, "backup", Priority.BULK, "orders/42", '"8e03978e-40d5"'),
            (-0.5, None, Priority.NORMAL, None, None),
        ]
        leased = {each.message.number: each.message for each in await spool.lease([plain, asking])}
        assert leased[plain] == found[0]
        assert leased[asking] == found[1] == rich(asking)
        story = await spool.story(asking)
        assert story is not None
        assert story.queued.message == found[1]

    @pytest.mark.parametrize("content", [b"", b"\x00", bytes(range(256)) * 1024, b"x" * (PART_SIZE + 1)])
    async def test_content_comes_back_octet_for_octet(self, spool: Spool, content: bytes) -> None:
        await spool.accept(arrival(spool.allocate(NOW), content=content))
        (claimed,) = await spool.claim(NOW, 10, 10_000_000)
        parts = [await spool.content(claimed.message.number, part) for part in range(claimed.parts)]
        assert b"".join(parts) == content
        assert claimed.content == (content if claimed.parts == 1 else None)

    async def test_large_content_is_staged_part_by_part_and_published_by_accept(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.stage(number, 0, b"a" * PART_SIZE)
        await spool.stage(number, 1, b"b")
        assert await spool.find(EVERYTHING, NOW) == []
        await spool.accept(arrival(number, content=None, size=PART_SIZE + 1))
        (claimed,) = await spool.claim(NOW, 10, 10_000_000)
        assert (claimed.content, claimed.parts) == (None, 2)
        assert await spool.content(number, 0) == b"a" * PART_SIZE
        assert await spool.content(number, 1) == b"b"
        assert await spool.totals() == Totals(1, PART_SIZE + 1)

    async def test_incomplete_staging_is_refused(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.stage(number, 0, b"a")
        await spool.stage(number, 2, b"c")
        for content_size in (2, 3):
            with pytest.raises(SpoolError):
                await spool.accept(arrival(number, content=None, size=content_size))
        with pytest.raises(SpoolError):
            await spool.accept(arrival(spool.allocate(NOW), content=None, size=0))
        assert (await spool.totals()).messages == 0

    async def test_what_was_discarded_or_never_accepted_leaves_nothing(self, opener: Opener) -> None:
        spool = await opener(max_size=1000)
        number, forgotten = spool.allocate(NOW), spool.allocate(NOW)
        await spool.stage(number, 0, b"a" * 900)
        with pytest.raises(SpoolFull):
            spool.check_room(200)
        await spool.discard(number)
        spool.check_room(1000)
        with pytest.raises(SpoolError):
            await spool.content(number, 0)
        await spool.stage(forgotten, 0, b"a" * 900)
        await spool.close()

        spool = await opener(max_size=1000)
        spool.check_room(1000)
        with pytest.raises(SpoolError):
            await spool.content(forgotten, 0)
        await spool.close()

    async def test_a_discard_after_the_accept_takes_nothing_away(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.stage(number, 0, CONTENT)
        await spool.accept(arrival(number, content=None, size=len(CONTENT)))
        await spool.discard(number)
        assert await spool.content(number, 0) == CONTENT

    # -- known again ------------------------------------------------------------------------------------------------

    async def test_what_comes_again_is_stored_once_also_over_a_restart(self, opener: Opener) -> None:
        spool = await opener()
        first, second, third = (spool.allocate(NOW) for _ in range(3))
        assert await spool.accept(known(first, BY_KEY, BY_ID)) is None
        assert await spool.accept(known(second, BY_KEY)) == Duplicate(first, "Idempotency-Key")
        await spool.close()
        spool = await opener()
        assert await spool.accept(known(third, BY_ID, later=599.0)) == Duplicate(first, "Message-ID")
        assert [each.message.number for each in await spool.find(EVERYTHING, NOW)] == [first]
        assert await spool.totals() == Totals(1, len(CONTENT))
        story = await spool.story(first)
        assert story is not None
        assert (story.repeated, story.last_repeated) == (2, NOW + 599.0)
        # Also once it is done.
        (claimed,) = await spool.claim(NOW, 10, 1_000_000)
        await spool.settle([settlement(claimed.message.number)])
        assert await spool.accept(known(spool.allocate(NOW), BY_KEY)) == Duplicate(first, "Idempotency-Key")
        await spool.close()

    async def test_behind_the_window_it_is_another_message(self, spool: Spool) -> None:
        first, second, third = (spool.allocate(NOW) for _ in range(3))
        await spool.accept(known(first, BY_ID))
        assert await spool.accept(known(second, BY_ID, later=600.0)) is None
        # The window runs from the one that was stored.
        assert await spool.accept(known(third, BY_ID, later=1199.0)) == Duplicate(second, "Message-ID")
        story = await spool.story(first)
        assert story is not None
        assert (story.repeated, story.last_repeated) == (0, None)

    async def test_of_those_that_come_at_the_same_moment_one_is_stored(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW) for _ in range(50)]
        told = await asyncio.gather(*(spool.accept(known(number, BY_KEY, BY_ID)) for number in numbers))
        (queued,) = await spool.find(EVERYTHING, NOW)
        first = queued.message.number
        assert told.count(None) == 1
        assert {each.number for each in told if each is not None} == {first}

    async def test_what_was_staged_of_a_duplicate_is_gone(self, opener: Opener) -> None:
        spool = await opener(max_size=1000)
        first, second = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(known(first, BY_KEY))
        await spool.stage(second, 0, b"a" * 900)
        assert await spool.accept(known(second, BY_KEY, content=None, size=900)) is not None
        with pytest.raises(SpoolError):
            await spool.content(second, 0)
        spool.check_room(1000 - len(CONTENT))
        assert (await spool.claim(NOW, 10, 1_000_000))[0].content == CONTENT
        await spool.close()

    async def test_imprints_are_forgotten_when_their_window_is_over(self, spool: Spool) -> None:
        first, second = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(known(first, BY_KEY, BY_ID))
        assert await spool.forget_imprints(NOW + 599.0) == 0
        assert await spool.forget_imprints(NOW + 600.0) == 1
        assert await spool.forget_imprints(NOW + 600.0) == 0
        assert await spool.accept(known(second, BY_ID)) is None
        assert await spool.accept(known(spool.allocate(NOW), BY_KEY)) == Duplicate(first, "Idempotency-Key")

    async def test_many_imprints_are_forgotten_in_slices(self, spool: Spool) -> None:
        for n in range(1200):
            imprint = Imprint("Message-ID", n.to_bytes(16), 600.0 if n % 3 else 6000.0)
            await spool.accept(known(spool.allocate(NOW), imprint))
        assert await spool.forget_imprints(NOW + 600.0) == 800
        assert await spool.forget_imprints(NOW + 6000.0) == 400

    async def test_numbers_never_repeat_also_after_a_clock_step_and_a_restart(self, opener: Opener) -> None:
        spool = await opener()
        numbers = [spool.allocate(now) for now in (NOW, NOW, NOW - 86400, NOW - 86400)]
        await spool.accept(arrival(numbers[-1], leased=True))
        await spool.settle([settlement(numbers[-1])])
        assert await spool.sweep(NOW + 60) == 1
        await spool.close()
        spool = await opener()
        numbers.append(spool.allocate(NOW - 86400))
        await spool.close()
        assert numbers == sorted(set(numbers))

    async def test_a_number_is_accepted_once_and_a_bad_accept_hurts_no_other(self, spool: Spool) -> None:
        first = spool.allocate(NOW)
        numbers = [first, first, *(spool.allocate(NOW) for _ in range(20))]
        results = await asyncio.gather(*(spool.accept(arrival(n)) for n in numbers), return_exceptions=True)
        assert sum(isinstance(result, SpoolError) for result in results) == 1
        assert sum(result is None for result in results) == 21
        assert await spool.totals() == Totals(21, 21 * len(CONTENT))

    async def test_a_caller_that_goes_away_hurts_no_other(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW) for _ in range(20)]
        tasks = [asyncio.ensure_future(spool.accept(arrival(number))) for number in numbers]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results[1::2] if result is not None] == []
        await spool.settle([])
        # What was on its way is in the spool all the same: legal, as its client was told nothing.
        await spool.accept(arrival(spool.allocate(NOW)))
        assert await spool.totals() == Totals(21, 21 * len(CONTENT))

    # -- room -------------------------------------------------------------------------------------------------------

    async def test_max_size_refuses_and_room_comes_back_with_the_last_recipient(self, opener: Opener) -> None:
        spool = await opener(max_size=100)
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, content=b"x" * 60, leased=True))
        for refused in (spool.accept(arrival(spool.allocate(NOW), content=b"x" * 41)), spool.stage(1, 0, b"x" * 41)):
            with pytest.raises(SpoolFull):
                await refused
        await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 40))
        await spool.settle([settlement(number)])
        await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 60))
        await spool.close()
        spool = await opener(max_size=100)
        with pytest.raises(SpoolFull):
            spool.check_room(1)
        await spool.close()

    async def test_too_little_free_disk_refuses_but_records_outcomes(self, opener: Opener) -> None:
        spool = await opener()
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        await spool.close()
        spool = await opener(min_free_disk=1 << 62)
        with pytest.raises(SpoolFull):
            spool.check_room(0)
        with pytest.raises(SpoolFull):
            await spool.accept(arrival(spool.allocate(NOW)))
        bounce = arrival(spool.allocate(NOW), "app@example.com", sender="", bounce_of=queue_id(number))
        assert await spool.settle([settlement(number, settled(0, FAILED), bounces=(bounce,))]) == {number}
        assert (await spool.totals()).messages == 1
        await spool.close()

    # -- claim ------------------------------------------------------------------------------------------------------

    async def test_a_claim_takes_what_is_due_the_longest_due_first_and_once(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW) for _ in range(5)]
        for number in numbers:
            await spool.accept(arrival(number, leased=True))
        dues = [NOW + 5, NOW + 3, NOW + 4, NOW + 100, NOW + 6]
        for number, due in zip(numbers, dues, strict=True):
            await spool.settle([settlement(number, settled(0, WAITING, due=due))])
        assert await spool.next_due(NOW) == NOW + 3
        first = await spool.claim(NOW + 10, 3, 1_000_000)
        assert [claimed.message.number for claimed in first] == [numbers[1], numbers[2], numbers[0]]
        assert [claimed.message.envelope.recipients[0].attempts for claimed in first] == [1, 1, 1]
        second = await spool.claim(NOW + 10, 3, 1_000_000)
        assert [claimed.message.number for claimed in second] == [numbers[4]]
        assert await spool.claim(NOW + 10, 3, 1_000_000) == []
        assert await spool.next_due(NOW + 10) == NOW + 100

    async def test_a_claim_takes_all_due_recipients_of_a_message_together(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, "a@x.example", "b@x.example", "c@x.example", leased=True))
        later = settled(1, WAITING, due=NOW + 60, detail="451 later")
        now = [settled(n, WAITING, due=NOW + n, charged=False) for n in (0, 2)]
        await spool.settle([settlement(number, now[0], later, now[1], nrcpt=3)])
        (claimed,) = await spool.claim(NOW + 10, 1, 1_000_000)
        assert [(r.n, r.attempts) for r in claimed.message.envelope.recipients] == [(0, 0), (2, 0)]
        assert claimed.nrcpt == 3
        (rest,) = await spool.claim(NOW + 60, 1, 1_000_000)
        assert [(r.n, r.attempts, r.last) for r in rest.message.envelope.recipients] == [(1, 1, "451 later")]

    async def test_a_claim_takes_of_each_turn_what_it_is_told(self, spool: Spool) -> None:
        numbers: dict[int, list[int]] = {7: [], ORDINARY: [], ORDINARY + 5: []}
        for turn in (ORDINARY, ORDINARY, ORDINARY, ORDINARY + 5, 7, ORDINARY + 5):
            number = spool.allocate(NOW)
            numbers[turn].append(number)
            await spool.accept(replace(arrival(number), turn=turn))
        ahead = spool.allocate(NOW)
        await spool.accept(replace(arrival(ahead, leased=True), turn=99))
        await spool.settle([settlement(ahead, settled(0, WAITING, due=NOW + 50))])
        assert await spool.due_turns(NOW, -1, 10) == [7, ORDINARY, ORDINARY + 5]
        assert await spool.due_turns(NOW, 7, 10) == [ORDINARY, ORDINARY + 5]
        assert await spool.due_turns(NOW + 50, -1, 10) == [7, 99, ORDINARY, ORDINARY + 5]
        assert await spool.next_due(NOW, ahead=True) == NOW + 50
        claimed = await spool.claim(NOW, 10, 0, {7: 3, ORDINARY + 5: 1, ORDINARY: 2, 12345: 1})
        assert sorted((each.turn, each.message.number) for each in claimed) == [
            (7, numbers[7][0]),
            (ORDINARY, numbers[ORDINARY][0]),
            (ORDINARY, numbers[ORDINARY][1]),
            (ORDINARY + 5, numbers[ORDINARY + 5][0]),
        ]
        assert await spool.due_turns(NOW, -1, 10) == [ORDINARY, ORDINARY + 5]
        assert await spool.claim(NOW, 10, 0, {7: 1}) == []

    async def test_what_the_door_saw_of_a_message_is_kept(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        marked = arrival(number)
        marks = ("listener app", "x-campaign: news-*")
        await spool.accept(replace(marked, message=replace(marked.message, marks=marks)))
        (claimed,) = await spool.claim(NOW, 1, 0)
        assert claimed.message.marks == marks

    async def test_a_claim_brings_contents_as_long_as_they_fit(self, spool: Spool) -> None:
        for _ in range(3):
            await spool.accept(arrival(spool.allocate(NOW), content=b"x" * 100))
        claimed = await spool.claim(NOW, 10, 250)
        assert [entry.content and len(entry.content) for entry in claimed] == [100, 100, None]
        assert await spool.content(claimed[2].message.number, 0) == b"x" * 100

    async def test_an_arrival_handed_to_delivery_is_leased_from_the_start(self, spool: Spool) -> None:
        await spool.accept(arrival(spool.allocate(NOW), leased=True))
        assert await spool.claim(NOW + 10, 10, 0) == []
        assert await spool.next_due(NOW) is None
        assert await spool.counts(NOW) == {"leased": 1, "waiting": 0, "deferred": 0, "held": 0}

    async def test_leases_of_an_ended_process_are_rescued(self, opener: Opener) -> None:
        spool = await opener()
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, "a@x.example", "b@x.example", leased=True))
        await spool.close()
        spool = await opener()
        assert await spool.claim(NOW + 10, 10, 0) == []
        assert await spool.rescue(NOW + 10) == 2
        assert [claimed.message.number for claimed in await spool.claim(NOW + 10, 10, 0)] == [number]
        await spool.close()

    async def test_named_messages_are_leased_due_or_not_held_or_not(self, spool: Spool) -> None:
        deferred, held, leased, done = (spool.allocate(NOW) for _ in range(4))
        for number in (deferred, leased, done):
            await spool.accept(arrival(number, leased=True))
        await spool.accept(arrival(held, "a@x.example", "b@x.example"))
        await spool.hold([held])
        await spool.settle([settlement(deferred, settled(0, WAITING, due=NOW + 60)), settlement(done)])
        claimed = await spool.lease([held, deferred, leased, done, 99, held])
        assert [entry.message.number for entry in claimed] == [held, deferred]
        assert [(len(entry.message.envelope.recipients), entry.nrcpt, entry.content) for entry in claimed] == [
            (2, 2, None),
            (1, 1, None),
        ]
        assert await spool.counts(NOW) == {"leased": 3, "waiting": 0, "deferred": 0, "held": 0}
        assert await spool.lease([]) == []

    # -- settle -----------------------------------------------------------------------------------------------------

    async def test_the_content_goes_with_the_last_recipient_and_the_story_stays(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, "a@x.example", "b@x.example", leased=True))
        assert await spool.settle([settlement(number, settled(0), nrcpt=2)]) == frozenset()
        assert await spool.content(number, 0) == CONTENT
        assert await spool.settle([settlement(number, settled(1, FAILED), nrcpt=2)]) == {number}
        with pytest.raises(SpoolError):
            await spool.content(number, 0)
        assert await spool.totals() == Totals(0, 0, {"ses": 1})
        story = await spool.story(number)
        assert story is not None
        assert [recipient.state for recipient in story.queued.recipients] == ["relayed", "failed"]
        assert await spool.find(EVERYTHING, NOW) == []

    async def test_a_settlement_without_a_lease_changes_nothing(self, spool: Spool) -> None:
        number, bystander = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(arrival(number))
        await spool.accept(arrival(bystander, leased=True))
        bounce = arrival(spool.allocate(NOW), "app@example.com", sender="")
        failed = settlement(number, settled(0, FAILED), bounces=(bounce,))
        assert await spool.settle([failed, settlement(bystander)]) == {bystander}
        given_back = settlement(bystander, settled(0, WAITING, due=NOW, charged=False))
        assert await spool.settle([given_back, settlement(bystander), settlement(12345)]) == frozenset()
        assert await spool.totals() == Totals(1, len(CONTENT), {"ses": 1})
        assert [claimed.message.number for claimed in await spool.claim(NOW, 10, 0)] == [number]

    async def test_only_the_first_outcome_of_a_lease_counts(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        both = [settlement(number), settlement(number, settled(0, WAITING, due=NOW + 60))]
        assert await spool.settle(both) == {number}
        assert await spool.totals() == Totals(0, 0, {"ses": 1})

    async def test_a_deferral_is_kept_with_its_reply_and_counts_an_attempt(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        await spool.settle([settlement(number, settled(0, WAITING, due=NOW + 60, detail="451 later"))])
        await spool.claim(NOW + 60, 1, 0)
        await spool.settle([settlement(number, settled(0, RELAYED, attempts=2, upstream="backup"), at=NOW + 61)])
        story = await spool.story(number)
        assert story is not None
        attempts = [(a.at, a.address, a.upstream, a.status, a.detail) for a in story.attempts]
        assert attempts == [
            (NOW + 1, "to@example.net", "ses", "deferred", "451 later"),
            (NOW + 61, "to@example.net", "backup", "sent", "250 2.0.0 Ok"),
        ]
        (recipient,) = story.queued.recipients
        assert (recipient.state, recipient.attempts, recipient.due) == ("relayed", 2, None)
        assert (await spool.totals()).sent == {"backup": 1}

    async def test_what_is_given_back_keeps_its_attempts_and_leaves_no_story(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        await spool.settle([settlement(number, settled(0, WAITING, due=NOW + 5, attempts=7, charged=False))])
        story = await spool.story(number)
        assert story is not None
        assert story.attempts == ()
        assert story.queued.recipients[0].attempts == 0
        assert story.queued.recipients[0].due == NOW + 5

    async def test_bounces_come_in_with_the_failure_they_report(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        bounce = arrival(spool.allocate(NOW), "app@example.com", sender="", bounce_of=queue_id(number))
        assert await spool.settle([settlement(number, settled(0, FAILED), bounces=(bounce,))]) == {number}
        (claimed,) = await spool.claim(NOW, 10, 1_000_000)
        assert claimed.message == bounce.message
        assert claimed.content == CONTENT
        assert await spool.totals() == Totals(1, len(CONTENT))

    async def test_a_settlement_with_a_bad_bounce_is_not_half_done(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        twin = arrival(number, "app@example.com", sender="")
        with pytest.raises(SpoolError):
            await spool.settle([settlement(number, settled(0, FAILED), bounces=(twin,))])
        assert await spool.counts(NOW) == {"leased": 1, "waiting": 0, "deferred": 0, "held": 0}
        assert await spool.totals() == Totals(1, len(CONTENT))

    async def test_sent_counts_messages_per_upstream(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW) for _ in range(3)]
        for number in numbers:
            await spool.accept(arrival(number, "a@x.example", "b@x.example", leased=True))
        both = (settled(0), settled(1))
        await spool.settle([settlement(numbers[0], *both, nrcpt=2), settlement(numbers[1], *both, nrcpt=2)])
        await spool.settle([settlement(numbers[2], settled(0), settled(1, FAILED, upstream="ses"), nrcpt=2)])
        assert (await spool.totals()).sent == {"ses": 3}

    # -- operators --------------------------------------------------------------------------------------------------

    async def test_a_message_counts_as_the_first_of_leased_waiting_deferred_held(self, opener: Opener) -> None:
        spool = await opener()
        later = NOW + 100
        for states in ("wdh", "dh", "h", "w", "d", "l"):
            number = spool.allocate(NOW)
            await spool.accept(arrival(number, *(f"{c}@x.example" for c in states), leased=True))
            made = {
                "w": lambda n: settled(n, WAITING, due=NOW),
                "d": lambda n: settled(n, WAITING, due=later),
                "h": lambda n: settled(n, HELD),
            }
            rows = [made[c](n) for n, c in enumerate(states) if c != "l"]
            await spool.settle([settlement(number, *rows, nrcpt=len(states))] if rows else [])
        assert await spool.counts(NOW) == {"leased": 1, "waiting": 2, "deferred": 2, "held": 1}
        found = {
            state: [queued.recipients[0].address for queued in await spool.find(Selector(state=state), NOW)]
            for state in ("leased", "waiting", "deferred", "held")
        }
        assert found == {
            "leased": ["l@x.example"],
            "waiting": ["w@x.example", "w@x.example"],
            "deferred": ["d@x.example", "d@x.example"],
            "held": ["h@x.example"],
        }
        await spool.close()

    async def test_find_meets_all_conditions_oldest_first_and_bounded(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW + i) for i in range(6)]
        for i, number in enumerate(numbers):
            to = ("Ann@X.example", "bob@y.example") if i % 2 else ("bob@y.example",)
            await spool.accept(arrival(number, *to, leased=True, sender=f"s{i}@example.com"))
        await spool.settle([settlement(numbers[5], settled(0, WAITING, due=NOW + 60, upstream="backup"), nrcpt=2)])

        async def found(selector: Selector, limit: int | None = None) -> list[int]:
            return [queued.message.number for queued in await spool.find(selector, NOW, limit)]

        assert await found(EVERYTHING) == numbers
        assert await found(EVERYTHING, 2) == numbers[:2]
        assert await found(EVERYTHING, 0) == []
        assert await found(replace(EVERYTHING, after=numbers[1]), 2) == numbers[2:4]
        assert await found(Selector(after=numbers[1])) == []
        assert await found(Selector(state="leased", after=numbers[4])) == [numbers[5]]
        assert await found(Selector()) == []
        assert await found(Selector(recipient="ann@x.example")) == numbers[1::2]
        assert await found(Selector(domain="x.EXAMPLE"), 1) == [numbers[1]]
        assert await found(Selector(domain="example")) == []
        assert await found(Selector(sender="s3@example.com", domain="x.example")) == [numbers[3]]
        assert await found(Selector(sender="s3@example.com", recipient="nobody@x.example")) == []
        assert await found(Selector(upstream="backup")) == [numbers[5]]
        assert await found(Selector(numbers=(numbers[4], numbers[1], 99))) == [numbers[1], numbers[4]]
        assert await found(Selector(numbers=(numbers[4], numbers[1]), state="leased", sender="s1@example.com")) == [
            numbers[1]
        ]
        assert await found(Selector(arrived_before=NOW + 0.001)) == numbers
        assert await found(Selector(arrived_before=NOW)) == []

    async def test_a_list_tells_each_recipients_state_next_attempt_and_last_reply(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, "a@x.example", "b@x.example", leased=True))
        deferred = settled(0, WAITING, due=NOW + 60, detail="451 4.3.0 later")
        await spool.settle([settlement(number, deferred, settled(1), nrcpt=2)])
        (queued,) = await spool.find(EVERYTHING, NOW)
        assert (queued.message.number, queued.message.size, queued.message.arrived) == (number, len(CONTENT), NOW)
        assert queued.message.message_id == f"<{number}@example.com>"
        shown = [(r.address, r.state, r.attempts, r.due, r.upstream, r.last_reply) for r in queued.recipients]
        assert shown == [
            ("a@x.example", "deferred", 1, NOW + 60, "ses", "451 4.3.0 later"),
            ("b@x.example", "relayed", 1, None, "ses", "250 2.0.0 Ok"),
        ]

    async def test_what_was_learned_is_kept_by_upstream_and_forgotten_where_nothing_is(self, spool: Spool) -> None:
        assert await spool.learned() == {}
        slow = LearnedRecord("ses", 14.5, 16.0, NOW, "454 4.7.0 Throttling failure")
        both = replace(slow, connections=4, patience=60.0, crowded=NOW + 1, crowded_reason="421 4.7.0 too many")
        await spool.record_learned(slow)
        await spool.record_learned(replace(both, upstream="other"))
        assert await spool.learned() == {"ses": slow, "other": replace(both, upstream="other")}
        await spool.record_learned(both)
        await spool.record_learned(LearnedRecord("other", patience=60.0))
        assert await spool.learned() == {"ses": both}

    async def test_refused_logins_are_kept_by_upstream_until_others_take_their_place(self, spool: Spool) -> None:
        assert await spool.refused_logins() == {}
        await spool.record_refused_logins("ses", [NOW, NOW, NOW + 1])
        await spool.record_refused_logins("other", [NOW])
        assert await spool.refused_logins() == {"ses": (NOW, NOW, NOW + 1), "other": (NOW,)}
        await spool.record_refused_logins("ses", [NOW + 2])
        await spool.record_refused_logins("other", [])
        assert await spool.refused_logins() == {"ses": (NOW + 2,)}

    async def test_what_the_brake_holds_is_released_with_it_and_nothing_else_is(self, spool: Spool) -> None:
        news, other = Source("sender", "n_ws@x.test"), Source("sender", "nEWws@x.test")
        for at, source in ((NOW + 1, other), (NOW, news)):
            await spool.brake(BrakeRecord(source, at, "12 of 100 recipients bounced"))
        assert [each.source for each in await spool.brakes()] == [news, other]
        numbers = [spool.allocate(NOW) for _ in range(3)]
        for number, words in zip(numbers, (f"{held_by(news)}: x", f"{held_by(other)}: x", "by hand"), strict=True):
            await spool.accept(arrival(number, leased=True))
            held = settled(0, RecipientState.HELD, due=NOW, detail=words, attempts=0)
            await spool.settle([settlement(number, held)])
        assert await spool.unbrake(news, NOW + 2) == 1
        assert [each.source for each in await spool.brakes()] == [other]
        assert await spool.counts(NOW + 2) == {"leased": 0, "waiting": 1, "deferred": 0, "held": 2}
        assert [each.message.number for each in await spool.claim(NOW + 2, 10, 0)] == numbers[:1]

    async def test_hold_release_and_retry_change_what_they_name(self, spool: Spool) -> None:
        number, leased = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        await spool.accept(arrival(leased, leased=True))
        await spool.settle([settlement(number, settled(0, WAITING, due=NOW + 60))])
        both = [number, leased]
        assert await spool.hold(both) == 1
        assert await spool.claim(NOW + 100, 10, 0) == []
        assert await spool.retry(both, NOW) == 0
        assert await spool.release(both, NOW + 2) == 1
        assert await spool.next_due(NOW) == NOW + 2
        (claimed,) = await spool.claim(NOW + 2, 10, 0)
        await spool.settle([settlement(claimed.message.number, settled(0, WAITING, due=NOW + 600))])
        assert await spool.retry(both, NOW + 3) == 1
        assert await spool.retry(both, NOW + 3) == 0
        assert await spool.next_due(NOW) == NOW + 3
        assert await spool.counts(NOW + 3) == {"leased": 1, "waiting": 1, "deferred": 0, "held": 0}

    async def test_remove_ends_waiting_and_held_mail_and_spares_what_is_leased(self, spool: Spool) -> None:
        waiting, held, leased, mixed = (spool.allocate(NOW) for _ in range(4))
        for number in (waiting, held):
            await spool.accept(arrival(number))
        await spool.hold([held])
        await spool.accept(arrival(leased, leased=True))
        await spool.accept(arrival(mixed, "a@x.example", "b@x.example", leased=True))
        await spool.settle([settlement(mixed, settled(0, WAITING, due=NOW), nrcpt=2)])
        assert await spool.remove([waiting, held, leased, mixed], NOW) == 3
        assert await spool.totals() == Totals(2, 2 * len(CONTENT))
        with pytest.raises(SpoolError):
            await spool.content(waiting, 0)
        assert await spool.content(mixed, 0) == CONTENT
        assert await spool.settle([settlement(mixed, settled(1), nrcpt=2)]) == {mixed}
        story = await spool.story(waiting)
        assert story is not None
        assert [(attempt.status, attempt.at) for attempt in story.attempts] == [("removed", NOW)]

    async def test_changes_of_very_many_messages_are_whole(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW) for _ in range(1201)]
        await asyncio.gather(*(spool.accept(arrival(number, content=b"x")) for number in numbers))
        assert await spool.hold(numbers) == 1201
        assert await spool.release(numbers, NOW) == 1201
        assert await spool.remove(numbers, NOW) == 1201
        assert await spool.totals() == Totals()
        assert await spool.sweep(NOW + 60) == 1201
        assert await spool.numbers_of(f"<{numbers[7]}@example.com>") == []

    async def test_sweep_forgets_what_is_old_and_done_and_nothing_else(self, spool: Spool) -> None:
        done, still_open = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(arrival(done, leased=True))
        await spool.accept(arrival(still_open, leased=True))
        await spool.settle([settlement(done)])
        assert await spool.sweep(NOW) == 0
        assert await spool.story(done) is not None
        assert await spool.sweep(NOW + 60) == 1
        assert await spool.story(done) is None
        assert await spool.story(still_open) is not None

    async def test_messages_are_found_by_message_id_open_or_done(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        assert await spool.numbers_of(f"<{number}@example.com>") == [number]
        await spool.settle([settlement(number)])
        assert await spool.numbers_of(f"<{number}@example.com>") == [number]
        assert await spool.numbers_of("<other@example.com>") == []
        assert await spool.story(number + 1) is None

    async def test_what_waits_is_summed_up_by_turn_and_due_time(self, spool: Spool) -> None:
        one, two, three, gone = (spool.allocate(NOW) for _ in range(4))
        for number in (one, two, three, gone):
            await spool.accept(arrival(number, "b@y.example", "c@y.example", leased=number in {three, gone}))
        later = [settled(0, RELAYED), settled(1, WAITING, due=NOW + 12)]
        await spool.settle([settlement(three, *later), settlement(gone, settled(0, RELAYED), settled(1, RELAYED))])
        (held,) = [spool.allocate(NOW)]
        await spool.accept(arrival(held))
        await spool.hold([held])
        dues = sorted(
            (each.due - NOW, each.messages, each.recipients, each.example) for each in await spool.dues(NOW, 5)
        )
        assert dues == [(0, 2, 4, one), (15, 1, 1, three)]
        assert [each.due for each in await spool.dues(NOW + 60, 5)] == [NOW + 60]

    async def test_oldest_is_the_arrival_of_the_oldest_open_message(self, spool: Spool) -> None:
        assert await spool.oldest() is None
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        assert await spool.oldest() == NOW
        await spool.settle([settlement(number)])
        assert await spool.oldest() is None

    async def test_a_closed_spool_refuses_and_closes_again(self, opener: Opener) -> None:
        spool = await opener()
        await spool.close()
        await spool.close()
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: spool.accept(arrival(spool.allocate(NOW))),
            lambda: spool.claim(NOW, 1, 1),
            lambda: spool.counts(NOW),
        ]
        for call in calls:
            with pytest.raises(SpoolError):
                await call()
        with pytest.raises(SpoolError):
            spool.check_room(0)

    # -- limits -----------------------------------------------------------------------------------------------------

    async def test_what_was_used_of_limits_is_there_after_reopening(self, opener: Opener) -> None:
        spool = await opener()
        assert await spool.quotas() == {}
        windows = {1.0: [(100_000, 3)], 3600.0: [(-2, 5), (27, 1), (28, 2)]}
        await spool.record_quota(QuotaRecord("ses", 6, "boot", 100.5, NOW, windows))
        await spool.record_quota(QuotaRecord("backup", 0, "boot", 101.0, NOW, {}), lazy=True)
        await spool.close()

        spool = await opener()
        assert await spool.quotas() == {
            "ses": QuotaRecord("ses", 6, "boot", 100.5, NOW, windows),
            "backup": QuotaRecord("backup", 0, "boot", 101.0, NOW, {}),
        }
        await spool.close()

    async def test_later_use_replaces_its_buckets_and_old_ones_go(self, spool: Spool) -> None:
        first = QuotaRecord("ses", 6, "boot", 100.0, NOW, {1.0: [(1, 1)], 60.0: [(1, 1), (2, 2), (3, 3)]})
        await spool.record_quota(first)
        await spool.record_quota(replace(first, upstream="other"))
        changed = {60.0: [(3, 4), (5, 1)]}
        later = QuotaRecord("ses", 2, "boot", 101.0, NOW + 1, changed, anew=False, oldest={1.0: 2, 60.0: 2})
        for _ in range(2):
            await spool.record_quota(later)
            found = await spool.quotas()
            assert found["ses"] == QuotaRecord("ses", 2, "boot", 101.0, NOW + 1, {60.0: [(2, 2), (3, 4), (5, 1)]})
        assert found["other"] == replace(first, upstream="other")
        await spool.record_quota(QuotaRecord("ses", 0, "next", 1.0, NOW + 2, {60.0: [(1, 1)]}))
        assert (await spool.quotas())["ses"] == QuotaRecord("ses", 0, "next", 1.0, NOW + 2, {60.0: [(1, 1)]})

    # -- content begun ----------------------------------------------------------------------------------------------

    async def test_what_was_begun_is_not_rescued_but_told_of(self, opener: Opener) -> None:
        spool = await opener()
        begun, leased = spool.allocate(NOW), spool.allocate(NOW)
        await spool.accept(arrival(begun, "a@example.net", "b@example.net", "c@example.net", leased=True))
        await spool.accept(arrival(leased, leased=True))
        await spool.begin(begun, [0, 1], "ses[192.0.2.1]:25")
        await spool.close()
        for _ in range(2):  # and again, should that process end too
            spool = await opener()
            assert await spool.rescue(NOW + 1) in {2, 0}
            (found,) = await spool.begun()
            assert found.where == "ses[192.0.2.1]:25"
            assert found.claimed.message.number == begun
            assert [r.n for r in found.claimed.message.envelope.recipients] == [0, 1]
            assert (found.claimed.nrcpt, found.claimed.content) == (3, None)
            await spool.close()
        spool = await opener()
        assert {c.message.number for c in await spool.claim(NOW + 1, 10, 10_000)} == {begun, leased}
        held = settled(0, HELD, detail="in doubt"), settled(1, FAILED)
        assert await spool.settle([settlement(begun, *held, nrcpt=3)]) == frozenset()
        assert await spool.begun() == []
        story = await spool.story(begun)
        assert story is not None
        assert [r.state for r in story.queued.recipients] == ["held", "failed", "leased"]
        await spool.close()

    async def test_a_new_lease_has_begun_nothing(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        await spool.begin(number, [0], "ses[192.0.2.1]:25")
        await spool.settle([settlement(number, settled(0, WAITING, due=NOW))])
        assert len(await spool.claim(NOW, 10, 0)) == 1
        assert await spool.begun() == []
        assert await spool.rescue(NOW) == 1

    async def test_only_what_is_leased_begins(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number))
        await spool.begin(number, [0], "ses[192.0.2.1]:25")
        await spool.lease([number])
        assert await spool.begun() == []

    # -- delays -----------------------------------------------------------------------------------------------------

    async def test_who_waits_long_and_wants_to_hear_of_it(self, spool: Spool) -> None:
        numbers = [spool.allocate(NOW + n) for n in range(5)]
        tried, asked_not, held, null, young = numbers
        await spool.accept(arrival(tried, "a@example.net", "b@example.net", leased=True))
        later = settled(0, WAITING, due=NOW + 600, detail="451 4.3.0 later")
        await spool.settle([settlement(tried, later, settled(1), nrcpt=2, at=NOW + 2)])
        unwilling = replace(rich(asked_not), envelope=replace(rich(asked_not).envelope, sender="app@example.com"))
        await spool.accept(Arrival(unwilling, CONTENT))
        await spool.accept(arrival(held))
        await spool.hold([held])
        await spool.accept(arrival(null, sender=""))
        await spool.accept(arrival(young, leased=True))
        (found,) = await spool.delayed(0, NOW + 4, 10)
        assert found.message.number == tried
        assert [r.address for r in found.message.envelope.recipients] == ["a@example.net"]
        (last,) = found.last
        assert last is not None
        assert (last.at, last.detail, last.relay) == (NOW + 2, "451 4.3.0 later", "ses[192.0.2.1]:25")
        both = await spool.delayed(0, NOW + 5, 10)
        assert [each.message.number for each in both] == [tried, young]
        assert both[1].last == (None,)
        assert [e.message.number for e in await spool.delayed(0, NOW + 5, 1)] == [tried]
        assert [e.message.number for e in await spool.delayed(tried, NOW + 5, 1)] == [young]
        assert await spool.waiting_since(NOW + 3.5) == NOW + 4
        assert await spool.waiting_since(NOW + 4.5) is None

    async def test_a_delay_is_told_once_with_its_notification(self, opener: Opener) -> None:
        spool = await opener()
        number, told = spool.allocate(NOW), spool.allocate(NOW + 60)
        await spool.accept(arrival(number))
        notification = arrival(told, "app@example.com", sender="", bounce_of=queue_id(number))
        assert await spool.warn([Warned(number, (0,), NOW + 60, notification)]) == {number}
        assert await spool.delayed(0, NOW + 60, 10) == []
        await spool.close()
        spool = await opener()
        assert await spool.delayed(0, NOW + 60, 10) == []
        assert {c.message.number for c in await spool.claim(NOW + 60, 10, 10_000)} == {number, told}
        # Once it is done nobody hears that it waits.
        await spool.settle([settlement(number)])
        again = arrival(spool.allocate(NOW + 61), "app@example.com", sender="", bounce_of=queue_id(number))
        assert await spool.warn([Warned(number, (0,), NOW + 61, again)]) == frozenset()
        assert await spool.story(again.message.number) is None
        await spool.close()

    async def test_a_warning_takes_no_room_that_mail_needs(self, opener: Opener) -> None:
        spool = await opener(max_size=2 * len(CONTENT))
        number = spool.allocate(NOW)
        await spool.accept(arrival(number))
        large = arrival(spool.allocate(NOW), "app@example.com", sender="", content=CONTENT * 2, bounce_of="1")
        with pytest.raises(SpoolFull):
            await spool.warn([Warned(number, (0,), NOW, large)])
        assert len(await spool.delayed(0, NOW + 60, 10)) == 1
        await spool.close()

    # -- dead letters -----------------------------------------------------------------------------------------------

    async def test_dead_letters_are_notifications_that_failed(self, spool: Spool) -> None:
        dead, doubtful, mail = (spool.allocate(NOW) for _ in range(3))
        await spool.accept(arrival(dead, sender="", leased=True, bounce_of="ABCDEF"))
        await spool.accept(arrival(doubtful, sender="", leased=True, bounce_of="ABCDEF"))
        await spool.accept(arrival(mail, leased=True))
        bounced = replace(settled(0, HELD), status="bounced")
        await spool.settle([settlement(dead, bounced), settlement(doubtful, settled(0, HELD))])
        await spool.settle([settlement(mail, bounced)])
        found = await spool.find(Selector(state="dead"), NOW)
        assert [queued.message.number for queued in found] == [dead]
        assert len(await spool.find(Selector(state="held"), NOW)) == 3
        assert await spool.find(Selector(state="dead", arrived_before=NOW), NOW) == []
        await spool.release([dead], NOW)
        assert await spool.find(Selector(state="dead"), NOW) == []

    # -- suppression ------------------------------------------------------------------------------------------------

    async def test_suppressed_addresses_are_there_after_reopening(self, opener: Opener) -> None:
        spool = await opener()
        bounced = Suppression("Gone@x.example", Cause.BOUNCE, NOW, NOW + 60, "550 5.1.1 no")
        complained = Suppression("b@y.example", Cause.COMPLAINT, NOW + 1, None, "abuse")
        assert await spool.suppress([bounced, complained]) == 2
        assert await spool.suppress([replace(bounced, address="gone@X.example", until=NOW + 90)]) == 0
        await spool.close()
        spool = await opener()
        loaded = await spool.suppressed(0, 10)
        found = await spool.suppressions(SuppressionQuery(), 10)
        await spool.close()
        assert [entry for _, entry in loaded] == [
            Entry(digest_of("gone@x.example"), Cause.BOUNCE, NOW + 90),
            Entry(digest_of("b@y.example"), Cause.COMPLAINT, None),
        ]
        assert [each for _, each in found] == [replace(bounced, until=NOW + 90), complained]

    async def test_what_stands_until_it_is_removed_is_not_put_to_an_end(self, spool: Spool) -> None:
        await spool.suppress([Suppression("a@x.example", Cause.OPERATOR, NOW, None, "by hand")])
        await spool.suppress([Suppression("a@x.example", Cause.BOUNCE, NOW, NOW + 60, "550")])
        ((_, kept),) = await spool.suppressions(SuppressionQuery(), 10)
        assert (kept.cause, kept.until) == (Cause.OPERATOR, None)
        await spool.suppress([Suppression("a@x.example", Cause.COMPLAINT, NOW, None, "abuse")])
        ((_, kept),) = await spool.suppressions(SuppressionQuery(), 10)
        assert (kept.cause, kept.detail) == (Cause.COMPLAINT, "abuse")

    async def test_suppressions_are_found_by_what_they_have_in_common(self, spool: Spool) -> None:
        some = [
            Suppression("a@x.example", Cause.BOUNCE, NOW, NOW + 60),
            Suppression("b@x.example", Cause.COMPLAINT, NOW + 5, None),
            Suppression("c@not-x.example", Cause.BOUNCE, NOW + 9, NOW + 60),
        ]
        await spool.suppress(some)
        for query, wanted in (
            (SuppressionQuery(), some),
            (SuppressionQuery(("B@x.example", "nobody@x.example")), some[1:2]),
            (SuppressionQuery(domain="X.example"), some[:2]),
            (SuppressionQuery(cause=Cause.BOUNCE), [some[0], some[2]]),
            (SuppressionQuery(since=NOW + 5), some[1:]),
            (SuppressionQuery(domain="x.example", cause=Cause.BOUNCE), some[:1]),
        ):
            assert [each for _, each in await spool.suppressions(query, 10)] == wanted
        (first,) = await spool.suppressions(SuppressionQuery(), 1)
        rest = await spool.suppressions(SuppressionQuery(after=first[0]), 10)
        assert [each for _, each in (first, *rest)] == some
        assert [row for row, _ in await spool.suppressed(first[0], 10)] == [row for row, _ in rest]

    async def test_they_get_mail_again_when_removed_or_over(self, spool: Spool) -> None:
        await spool.suppress([Suppression(f"{n}@x.example", Cause.BOUNCE, NOW, NOW + n) for n in range(1, 4)])
        assert await spool.unsuppress([digest_of("3@X.example"), digest_of("9@x.example")]) == 1
        assert await spool.forget_suppressions(NOW + 1) == 1
        assert [each.address for _, each in await spool.suppressions(SuppressionQuery(), 10)] == ["2@x.example"]

    async def test_more_than_a_transaction_takes(self, spool: Spool) -> None:
        many = [Suppression(f"{n}@x.example", Cause.BOUNCE, NOW, NOW + 60) for n in range(1100)]
        assert await spool.suppress(many) == 1100
        assert await spool.unsuppress([each.digest for each in many[:501]]) == 501
        assert await spool.forget_suppressions(NOW + 60) == 599

    async def test_a_suppressed_recipient_is_done(self, spool: Spool) -> None:
        number = spool.allocate(NOW)
        await spool.accept(arrival(number, leased=True))
        assert await spool.settle([settlement(number, settled(0, RecipientState.SUPPRESSED))]) == {number}
        story = await spool.story(number)
        assert story is not None
        assert [each.state for each in story.queued.recipients] == ["suppressed"]
        assert (await spool.totals()).messages == 0
