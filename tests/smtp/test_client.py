"""The client machine, fed by hand: what it sends when, and what the replies make of each recipient."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import Body, Envelope, Recipient
from relay.outcome import Outcome, Scope, Verdict
from relay.smtp.capabilities import Capabilities, cannot_take, capabilities_of
from relay.smtp.client import ClientSession, Pipelining
from relay.smtp.steps import Done

CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
STUFFED = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
ALL = Capabilities(pipelining=True, size=True, eightbit=True, smtputf8=True, chunking=True)


def envelope(*addresses: str, body: Body = Body.SEVEN_BIT) -> Envelope:
    return Envelope("a@x.test", tuple(Recipient(n, address) for n, address in enumerate(addresses)), body)


def session(mode: Pipelining, capabilities: Capabilities = ALL) -> ClientSession[str]:
    return ClientSession(capabilities, mode, host="up[192.0.2.1]")


def sent(machine: ClientSession[str]) -> bytes:
    return b"".join(machine.bytes_to_send())


def verdicts(done: Sequence[Done[str]]) -> list[tuple[str, list[str]]]:
    return [(each.key, [outcome.verdict.value for outcome in each.outcomes]) for each in done]


def begun(mode: Pipelining, *addresses: str) -> ClientSession[str]:
    machine = session(mode)
    machine.begin("m1", envelope(*(addresses or ("b@y.test",))), CONTENT, len(CONTENT))
    return machine


def test_one_command_at_a_time_without_pipelining() -> None:
    machine = begun(Pipelining.OFF)
    for expected, reply in (
        (b"MAIL FROM:<a@x.test> SIZE=20\r\n", b"250 ok\r\n"),
        (b"RCPT TO:<b@y.test>\r\n", b"250 ok\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
    ):
        assert sent(machine) == expected
        assert sent(machine) == b""
        assert machine.receive(reply) == []
    assert sent(machine) == STUFFED
    assert verdicts(machine.receive(b"250 2.0.0 taken\r\n")) == [("m1", ["relayed"])]


def test_a_server_that_offers_no_pipelining_gets_none() -> None:
    machine = session(Pipelining.CHAINED, Capabilities())
    machine.begin("m1", envelope("b@y.test"), CONTENT, len(CONTENT))
    assert sent(machine) == b"MAIL FROM:<a@x.test>\r\n"


def test_within_a_message_envelope_and_content_are_two_groups() -> None:
    machine = begun(Pipelining.WITHIN)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    assert sent(machine) == b"MAIL FROM:<a@x.test> SIZE=20\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
    assert machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n") == []
    assert sent(machine) == STUFFED
    assert sent(machine) == b"", "the next MAIL waits for the verdict"
    assert verdicts(machine.receive(b"250 taken\r\n")) == [("m1", ["relayed"])]
    assert sent(machine).startswith(b"MAIL FROM")


def test_chained_content_leads_the_next_group() -> None:
    machine = begun(Pipelining.CHAINED)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    assert sent(machine).endswith(b"DATA\r\n"), "DATA is last in its group"
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert sent(machine) == STUFFED + b"MAIL FROM:<a@x.test> SIZE=20\r\nRCPT TO:<c@y.test>\r\nDATA\r\n"
    assert verdicts(machine.receive(b"250 taken\r\n250 ok\r\n250 ok\r\n354 go\r\n")) == [("m1", ["relayed"])]
    assert sent(machine) == STUFFED


@pytest.mark.parametrize("mode", list(Pipelining))
def test_each_recipient_has_its_own_outcome(mode: Pipelining) -> None:
    machine = begun(mode, "b@y.test", "c@y.test", "d@y.test")
    replies = [
        b"250 ok\r\n",
        b"550 5.1.1 unknown\r\n",
        b"451 4.2.0 later\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
        b"250 ok\r\n",
    ]
    if mode is Pipelining.WINDOWED:
        replies.remove(b"354 go\r\n")
    done: list[Done[str]] = []
    for reply in replies:
        sent(machine)
        done += machine.receive(reply)
    assert verdicts(done) == [("m1", ["failed", "deferred", "relayed"])]
    assert done[0].outcomes[0].dsn == "5.1.1"


def test_a_354_without_a_recipient_is_answered_by_a_lone_dot() -> None:
    machine = begun(Pipelining.CHAINED)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    sent(machine)
    assert machine.receive(b"250 ok\r\n550 5.1.1 no\r\n354 go\r\n") == []
    assert sent(machine).startswith(b".\r\nMAIL FROM"), "no octet of the content goes to a server without a recipient"
    done = machine.receive(b"250 queued, it says\r\n")
    assert verdicts(done) == [("m1", ["failed"])], "a 250 to the lone dot relays nothing"


def test_content_never_goes_out_before_the_354() -> None:
    machine = begun(Pipelining.CHAINED)
    sent(machine)
    done = machine.receive(b"250 ok\r\n250 ok\r\n554 5.3.0 not now\r\n")
    assert sent(machine) == b""
    assert verdicts(done) == [("m1", ["failed"])]


def test_reset_after_an_interrupted_transaction_and_never_as_a_probe() -> None:
    machine = begun(Pipelining.CHAINED)
    assert b"RSET" not in sent(machine)
    machine.receive(b"250 ok\r\n250 ok\r\n451 4.3.0 not now\r\n")
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    assert sent(machine).startswith(b"RSET\r\nMAIL FROM")
    assert verdicts(machine.receive(b"250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n")) == []
    assert sent(machine) == STUFFED


@pytest.mark.parametrize("mode", [Pipelining.OFF, Pipelining.WITHIN])
def test_a_refused_sender_refuses_all_recipients(mode: Pipelining) -> None:
    machine = begun(mode, "b@y.test", "c@y.test")
    out = sent(machine)
    done = machine.receive(b"550 5.7.1 not you\r\n")
    if mode is not Pipelining.OFF:
        assert done == []
        done = machine.receive(b"503 x\r\n503 x\r\n503 x\r\n")
    assert verdicts(done) == [("m1", ["failed", "failed"])], out
    assert not machine.over, "503 to what was pipelined behind a refusal is no loss of step"


def test_a_421_belongs_to_the_session() -> None:
    machine = begun(Pipelining.CHAINED)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    sent(machine)
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    sent(machine)
    done = machine.receive(b"421 4.3.2 going down\r\n")
    assert verdicts(done) == [("m1", ["deferred"]), ("m2", ["deferred"])]
    assert {outcome.scope for each in done for outcome in each.outcomes} == {Scope.SESSION}
    assert not any(outcome.in_doubt for each in done for outcome in each.outcomes), "the dot was answered, by 421"
    assert machine.over is not None


def test_only_an_unanswered_dot_is_in_doubt() -> None:
    machine = begun(Pipelining.CHAINED)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    sent(machine)
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    sent(machine)
    first, second = machine.lost("lost connection")
    assert first.outcomes[0].in_doubt
    assert first.outcomes[0].scope is Scope.MESSAGE
    assert not second.outcomes[0].in_doubt
    assert second.outcomes[0].scope is Scope.SESSION


def test_a_refused_recipient_stays_refused_when_the_dot_goes_unanswered() -> None:
    machine = begun(Pipelining.WITHIN, "b@y.test", "c@y.test")
    sent(machine)
    machine.receive(b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n")
    sent(machine)
    (done,) = machine.lost("lost connection")
    assert [outcome.verdict for outcome in done.outcomes] == [Verdict.FAILED, Verdict.DEFERRED]
    assert [outcome.in_doubt for outcome in done.outcomes] == [False, True]


@pytest.mark.parametrize("said", [b"250 hello\r\n", b"garbage\r\n", b"99 no\r\n", b"250-a\r\n550 b\r\n", b"x" * 5000])
def test_what_nobody_asked_for_ends_the_session(said: bytes) -> None:
    machine = session(Pipelining.CHAINED)
    machine.receive(said)
    assert machine.over is not None


@pytest.mark.parametrize("said", [b"garbage\r\n", b"354 again\r\n", b"25\r\n", b"250-a\r\n251 b\r\n"])
def test_nonsense_after_the_dot_leaves_it_in_doubt(said: bytes) -> None:
    machine = begun(Pipelining.WITHIN)
    sent(machine)
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    sent(machine)
    (done,) = machine.receive(said)
    assert done.outcomes[0].in_doubt
    assert machine.over is not None


def test_many_recipients_do_not_flood_the_server() -> None:
    machine = begun(Pipelining.CHAINED, *(f"user{n:04}@y.test" for n in range(2000)))
    first = sent(machine)
    assert len(first) < 20_000
    machine.receive(b"250 ok\r\n" * first.count(b"\r\n"))
    assert sent(machine).startswith(b"RCPT TO:")


def test_large_content_is_fed_piece_by_piece() -> None:
    machine = session(Pipelining.CHAINED)
    machine.begin("m1", envelope("b@y.test"), None, 9)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    sent(machine)
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert sent(machine) == b""
    assert machine.wants_content == "m1"
    wire = machine.feed_content(b"abc\r\n") + machine.feed_content(b".x\r") + machine.feed_content(b"\n")
    before = machine.awaits_final_reply
    wire += machine.end_content()
    assert wire == b"abc\r\n..x\r\n.\r\n"
    assert (before, machine.awaits_final_reply) == (False, True)
    assert sent(machine).startswith(b"MAIL FROM"), "the next envelope follows the streamed content"
    assert verdicts(machine.receive(b"250 ok\r\n")) == [("m1", ["relayed"])]


def test_a_broken_stream_is_not_in_doubt() -> None:
    machine = session(Pipelining.OFF)
    machine.begin("m1", envelope("b@y.test"), None, 9)
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        sent(machine)
        machine.receive(reply)
    sent(machine)
    machine.feed_content(b"abc\r\n")
    (done,) = machine.lost("lost connection")
    assert not done.outcomes[0].in_doubt


def test_what_was_not_begun_can_be_taken_back() -> None:
    machine = begun(Pipelining.CHAINED)
    machine.begin("m2", envelope("c@y.test"), CONTENT, len(CONTENT))
    sent(machine)
    assert [(each.key, each.untouched) for each in machine.withdraw()] == [("m2", True)]
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert sent(machine) == STUFFED


def test_extension_parameters_only_where_offered() -> None:
    machine = session(Pipelining.OFF, Capabilities(eightbit=True))
    machine.begin("m1", envelope("b@y.test", body=Body.EIGHT_BIT), CONTENT, 20)
    assert sent(machine) == b"MAIL FROM:<a@x.test> BODY=8BITMIME\r\n"


def test_control_characters_never_become_commands() -> None:
    with pytest.raises(ValueError, match="control"):
        session(Pipelining.OFF).begin("m1", envelope("b@y.test>\r\nRCPT TO:<evil@x.test"), CONTENT, 20)


@pytest.mark.parametrize("odd", ["\u200b", "\u00a0", "\u2028", "\ue000", "\ufeff"])
def test_what_cannot_be_printed_can_be_an_address(odd: str) -> None:
    machine = session(Pipelining.OFF)
    machine.begin("m1", envelope(f"b{odd}@y.test"), CONTENT, 20)
    sent(machine)
    machine.receive(b"250 ok\r\n")
    assert sent(machine) == f"RCPT TO:<b{odd}@y.test>\r\n".encode()


@pytest.mark.parametrize(
    ("capabilities", "asked", "content", "dsn"),
    [
        (Capabilities(size=True, max_size=10), envelope("b@y.test"), CONTENT, "5.3.4"),
        (Capabilities(), Envelope("", (), smtputf8=True), CONTENT, "5.6.7"),
        (Capabilities(), envelope("b@y.test", body=Body.EIGHT_BIT), b"\xff", "5.6.3"),
        (Capabilities(), envelope("b@y.test", body=Body.EIGHT_BIT), CONTENT, None),
        (ALL, envelope("b@y.test", body=Body.EIGHT_BIT), b"\xff", None),
    ],
)
def test_what_a_server_cannot_take(
    capabilities: Capabilities, asked: Envelope, content: bytes, dsn: str | None
) -> None:
    outcome = cannot_take(capabilities, asked, content, 20, host="up")
    assert (outcome and outcome.dsn) == dsn


def test_capabilities_are_read_in_any_case() -> None:
    assert capabilities_of({"PIPELINING": "", "Size": "1000", "x": "y"}) == Capabilities(
        pipelining=True, size=True, max_size=1000
    )
    assert capabilities_of({"size": "²"}).max_size == 0
    limited = capabilities_of({"LIMITS": "RCPTMAX=50 mailmax=5 X=y RCPTDOMAINMAX=1"})
    assert (limited.max_recipients, limited.max_messages) == (50, 5)


# -- windowed --------------------------------------------------------------------------------------------------------
CHUNKING = Capabilities(pipelining=True, size=True, chunking=True)
ONE = b"MAIL FROM:<a@x.test> SIZE=20\r\nRCPT TO:<b@y.test>\r\nBDAT 20 LAST\r\n" + CONTENT


def windowed(count: int, *addresses: str, window: int = 3) -> ClientSession[str]:
    machine: ClientSession[str] = ClientSession(CHUNKING, Pipelining.WINDOWED, host="up", window=window)
    for n in range(count):
        machine.begin(f"m{n}", envelope(*(addresses or ("b@y.test",))), CONTENT, len(CONTENT))
    return machine


def test_windowed_messages_go_out_whole_without_waiting() -> None:
    machine = windowed(2)
    assert sent(machine) == ONE + b"RSET\r\n" + ONE, "no 354 to wait for, dots untouched"
    assert machine.depth == 3
    assert verdicts(machine.receive(b"250 ok\r\n250 ok\r\n250 taken\r\n")) == [("m0", ["relayed"])]
    assert verdicts(machine.receive(b"250 reset\r\n250 ok\r\n250 ok\r\n250 taken\r\n")) == [("m1", ["relayed"])]
    machine.begin("m2", envelope("b@y.test"), CONTENT, len(CONTENT))
    assert sent(machine) == ONE, "all was answered: no RSET"


def test_windowing_needs_both_extensions() -> None:
    for capabilities, depth in ((Capabilities(chunking=True), 1), (Capabilities(pipelining=True), 2)):
        assert ClientSession[str](capabilities, Pipelining.WINDOWED, host="up").depth == depth


def test_a_refused_envelope_never_takes_the_next_messages_content() -> None:
    machine = windowed(2)
    assert sent(machine).count(b"RSET\r\nMAIL") == 1
    done = machine.receive(b"250 ok\r\n550 5.1.1 no\r\n503 5.5.1 no recipients\r\n250 reset\r\n250 ok\r\n250 ok\r\n")
    assert verdicts(done) == [("m0", ["failed"])]
    assert machine.over is None, "503 to a BDAT without recipients is no loss of step"
    assert verdicts(machine.receive(b"250 taken\r\n")) == [("m1", ["relayed"])]


def test_all_that_was_sent_and_not_answered_is_in_doubt() -> None:
    machine = windowed(3)
    sent(machine)
    done = machine.receive(b"250 ok\r\n250 ok\r\n250 taken\r\n") + machine.lost("lost connection")
    assert [(each.key, each.outcomes[0].in_doubt) for each in done] == [("m0", False), ("m1", True), ("m2", True)]


def test_behind_a_421_nothing_was_heard() -> None:
    machine = windowed(3)
    sent(machine)
    done = machine.receive(b"250 ok\r\n250 ok\r\n421 4.3.2 bye\r\n")
    assert [each.outcomes[0].in_doubt for each in done] == [False, False, False]


def test_a_session_out_of_step_still_hears_what_became_of_the_others() -> None:
    machine = windowed(2)
    sent(machine)
    assert machine.receive(b"530 5.7.0 authenticate\r\n503 x\r\n503 x\r\n") == [
        Done("m0", (machine._closing,))  # type: ignore[arg-type]
    ]
    assert machine.depth == 0
    assert verdicts(machine.receive(b"250 reset\r\n250 ok\r\n250 ok\r\n250 taken\r\n")) == [("m1", ["relayed"])]
    assert machine.over is not None


def test_large_content_is_streamed_as_one_chunk() -> None:
    machine: ClientSession[str] = ClientSession(CHUNKING, Pipelining.WINDOWED, host="up")
    machine.begin("m1", envelope("b@y.test"), None, 9)
    assert sent(machine).endswith(b"BDAT 9 LAST\r\n")
    assert machine.wants_content == "m1"
    assert machine.receive(b"250 ok\r\n550 5.1.1 no\r\n") == []
    assert machine.feed_content(b".abc\r\n") + machine.feed_content(b".x\n") == b".abc\r\n.x\n"
    assert machine.end_content() == b""
    assert verdicts(machine.receive(b"554 5.5.1 no recipients\r\n")) == [("m1", ["failed"])]


def test_a_window_holds_content_back_beyond_its_octets() -> None:
    machine: ClientSession[str] = ClientSession(CHUNKING, Pipelining.WINDOWED, host="up", window=8)
    for n in range(8):
        machine.begin(f"m{n}", envelope("b@y.test"), b"x" * 600_000, 600_000)
    assert sent(machine).count(b"LAST\r\n") == 2


def test_dsn_parameters_are_passed_on_where_offered() -> None:
    asked = Envelope("a@x.test", (Recipient(0, "b@y.test", "NEVER", "rfc822;b+2Bx@y.test"),), ret="HDRS", envid="q+3Dr")
    for capabilities, expected in (
        (Capabilities(dsn=True, pipelining=True), b"RET=HDRS ENVID=q+3Dr\r\nRCPT TO:<b@y.test> NOTIFY=NEVER ORCPT="),
        (Capabilities(pipelining=True), b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"),
    ):
        machine = session(Pipelining.WITHIN, capabilities)
        machine.begin("m1", asked, CONTENT, 20)
        assert expected in sent(machine)


# -- properties ------------------------------------------------------------------------------------------------------
REPLIES = st.sampled_from(
    [
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250-a\r\n250 b\r\n",
        b"354 go\r\n",
        b"354 go\r\n",
        b"550 5.1.1 no\r\n",
        b"451 later\r\n",
        b"421 bye\r\n",
        b"503 order\r\n",
        b"junk\r\n",
        b"530 auth\r\n",
    ]
)


def pieces(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def run(mode: Pipelining, stream: bytes, cuts: Sequence[int], counts: Sequence[int]) -> list[tuple[str, list[Outcome]]]:
    machine = session(mode)
    for n, count in enumerate(counts):
        machine.begin(f"m{n}", envelope(*(f"r{i}@y.test" for i in range(count))), CONTENT, len(CONTENT))
    done: list[Done[str]] = []
    machine.bytes_to_send()
    for piece in pieces(stream, cuts):
        done += machine.receive(piece)
        machine.bytes_to_send()
    done += machine.lost("lost connection")
    return [(each.key, list(each.outcomes)) for each in done]


@given(
    st.sampled_from(list(Pipelining)),
    st.lists(REPLIES, max_size=24),
    st.lists(st.integers(0, 10_000), max_size=6),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(0, 10_000),
)
def test_exactly_one_outcome_per_recipient_whatever_the_server_says(
    mode: Pipelining, replies: list[bytes], cuts: list[int], counts: list[int], prefix: int
) -> None:
    stream = b"".join(replies)
    ended = run(mode, stream[: prefix % (len(stream) + 1)], cuts, counts)
    assert [(key, len(outcomes)) for key, outcomes in ended] == [(f"m{n}", count) for n, count in enumerate(counts)]


@given(
    st.sampled_from(list(Pipelining)),
    st.lists(REPLIES, max_size=24),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_nothing_is_relayed_without_a_reply_to_its_content(
    mode: Pipelining, replies: list[bytes], counts: list[int]
) -> None:
    machine = session(mode)
    for n, count in enumerate(counts):
        machine.begin(f"m{n}", envelope(*(f"r{i}@y.test" for i in range(count))), b"content\r\n", 9)
    contents = sent(machine).count(b"content\r\n")
    relayed = 0
    for reply in replies:
        relayed += sum(any(o.verdict is Verdict.RELAYED for o in d.outcomes) for d in machine.receive(reply))
        assert relayed <= contents
        contents += sent(machine).count(b"content\r\n")


@given(st.lists(REPLIES, min_size=6, max_size=6), st.lists(st.integers(0, 10_000), max_size=8), st.integers(1, 3))
def test_any_split_of_the_same_bytes_gives_the_same_outcomes(replies: list[bytes], cuts: list[int], count: int) -> None:
    def outcomes(edges: Sequence[int]) -> list[Done[str]]:
        machine = begun(Pipelining.WITHIN, *(f"r{n}@y.test" for n in range(count)))
        done: list[Done[str]] = []
        for group in (replies[: count + 2], replies[count + 2 : count + 3]):
            sent(machine)
            for piece in pieces(b"".join(group), edges):
                done += machine.receive(piece)
        return done + machine.lost("lost connection")

    assert outcomes(cuts) == outcomes([])
