"""What a listener grants: priorities, and limits that hold in every window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.listener.submitting import KEPT, Submissions
from relay.mail import Client, Priority
from relay.settings import Limit, ListenerSettings

LIMIT = Limit(3, 10.0, "3/10s")
APP = ListenerSettings(submit_limits=(LIMIT,))


class MovedClock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.at

    def monotonic(self) -> float:
        return self.at


def client(address: str = "192.0.2.7", user: str = "", listener: str = "app") -> Client:
    return Client("web1", address, listener=listener, user=user)


def submit(submissions: Submissions, who: Client, *, accepted: bool = True) -> bool:
    if submissions.refusal(who) is not None or submissions.begin(who) is not None:
        return False
    submissions.end(who, accepted=accepted)
    return True


def test_one_too_many_hears_when_there_is_room() -> None:
    clock = MovedClock()
    submissions = Submissions(clock, [APP])
    for _ in range(3):
        assert submit(submissions, client())
        clock.at += 1.0
    refusal = submissions.refusal(client())
    assert refusal is not None
    assert str(refusal).startswith("452 4.7.1 Error: no more than 3/10s from you; try again in 8 s, at 20")
    clock.at += 7.1
    assert submit(submissions, client())
    assert not submit(submissions, client())


def test_users_clients_and_listeners_are_counted_apart() -> None:
    submissions = Submissions(MovedClock(), [APP, ListenerSettings("free")])
    one = client(user="one")
    assert [submit(submissions, one) for _ in range(4)] == [True, True, True, False]
    assert not submit(submissions, client("198.51.100.1", user="one")), "wherever the user comes from"
    assert submit(submissions, client(user="two"))
    assert submit(submissions, client())
    assert all(submit(submissions, client(listener="free")) for _ in range(20))


def test_what_was_not_accepted_costs_nothing_and_what_is_coming_counts() -> None:
    submissions = Submissions(MovedClock(), [APP])
    assert all(submit(submissions, client(), accepted=False) for _ in range(9))
    assert [submissions.begin(client()) for _ in range(3)] == [None, None, None]
    refusal = submissions.begin(client())
    assert refusal is not None
    assert "try again in 2 s" in refusal.text
    submissions.end(client(), accepted=False)
    assert submissions.begin(client()) is None


def test_a_reload_changes_the_limit_and_keeps_what_was_used() -> None:
    submissions = Submissions(MovedClock(), [APP])
    for _ in range(3):
        submit(submissions, client())
    submissions.configure([ListenerSettings(submit_limits=(Limit(4, 10.0, "4/10s"),), priority="bulk")])
    assert submissions.priority(client()) is Priority.BULK
    assert [submit(submissions, client()) for _ in range(2)] == [True, False]
    submissions.configure([ListenerSettings()])
    assert submissions.priority(client()) is Priority.NORMAL
    assert submit(submissions, client())


def test_who_came_once_is_forgotten() -> None:
    clock = MovedClock()
    submissions = Submissions(clock, [APP])
    for n in range(KEPT + 5):
        submit(submissions, client(f"c{n}"))
        clock.at += 0.01
    assert len(submissions._uses) < KEPT


@given(st.lists(st.floats(0.0, 4.0), max_size=60))
def test_in_no_window_are_there_more(gaps: list[float]) -> None:
    clock = MovedClock()
    submissions = Submissions(clock, [APP])
    times = []
    for gap in gaps:
        clock.at += gap
        if submit(submissions, client()):
            times.append(clock.at)
    for first, fourth in zip(times, times[3:], strict=False):
        assert fourth - first > 10.0
