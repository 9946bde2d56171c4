from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.feedback.suppressed import SHARDS, Suppressed
from relay.suppression import Cause, Entry, digest_of

NOW = 1_800_000_000.0
DIGESTS = st.integers(0, 40).map(lambda n: digest_of(f"{n}@x.example"))
ENDS = st.one_of(st.none(), st.integers(1, 9).map(lambda n: NOW + 10.0 * n))
ENTRIES = st.builds(Entry, DIGESTS, st.sampled_from(Cause), ENDS)


def test_capitals_make_no_other_address() -> None:
    assert digest_of("Ops@Example.COM") == digest_of("ops@example.com")
    assert digest_of("ops+1@example.com") != digest_of("ops@example.com")
    assert 0 <= digest_of("ops@example.com") < 2**63


@given(st.lists(st.one_of(ENTRIES, DIGESTS)), st.integers(0, 100))
def test_it_knows_what_a_dictionary_would(steps: list[Entry | int], later: int) -> None:
    held, known = Suppressed(), dict[int, Entry]()
    for step in steps:
        if isinstance(step, int):
            assert held.remove(step) == (known.pop(step, None) is not None)
            continue
        there = known.get(step.digest)
        lasts = there is None or step.until is None or (there.until is not None and step.until >= there.until)
        assert held.add(step) == lasts
        if lasts:
            known[step.digest] = step
    now = NOW + later
    assert len(held) == len(known)
    over = {digest for digest, each in known.items() if each.until is not None and each.until <= now}
    for n in range(41):
        digest = digest_of(f"{n}@x.example")
        assert held.find(digest, now) == (None if digest in over else known.get(digest))
    for shard in range(SHARDS):
        held.forget(shard, now)
    assert len(held) == len(known) - len(over)
    assert all(held.find(digest, now) == each for digest, each in known.items() if digest not in over)
