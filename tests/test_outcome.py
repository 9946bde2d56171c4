"""What a reply means: the table, line by line."""

from __future__ import annotations

import re

import pytest

from relay.outcome import (
    Command,
    Reply,
    ReplyRule,
    Scope,
    Trouble,
    Verdict,
    classify,
    expired,
    lost,
    parse_reply,
    unavailable,
)

R, M, S, U = Scope.RECIPIENT, Scope.MESSAGE, Scope.SESSION, Scope.UPSTREAM


@pytest.mark.parametrize(
    ("line", "command", "verdict", "scope", "dsn"),
    [
        ("250 2.0.0 Ok", Command.CONTENT, Verdict.RELAYED, R, "2.0.0"),
        ("250 Ok", Command.CONTENT, Verdict.RELAYED, R, "2.0.0"),
        ("251 will forward", Command.RCPT, Verdict.RELAYED, R, "2.0.0"),
        ("550 5.1.1 unknown", Command.RCPT, Verdict.FAILED, R, "5.1.1"),
        ("550 unknown", Command.RCPT, Verdict.FAILED, R, "5.0.0"),
        ("550 4.1.1 contradicts itself", Command.RCPT, Verdict.FAILED, R, "5.0.0"),
        ("450 4.2.0 greylisted", Command.RCPT, Verdict.DEFERRED, R, "4.2.0"),
        ("452 4.5.3 too many", Command.RCPT, Verdict.DEFERRED, R, "4.5.3"),
        ("552 5.2.2 too many", Command.RCPT, Verdict.DEFERRED, R, "4.0.0"),
        ("552 5.3.4 too big", Command.CONTENT, Verdict.FAILED, M, "5.3.4"),
        ("554 5.7.1 spam", Command.CONTENT, Verdict.FAILED, M, "5.7.1"),
        ("451 4.3.0 later", Command.CONTENT, Verdict.DEFERRED, M, "4.3.0"),
        ("553 5.7.1 sender", Command.MAIL, Verdict.FAILED, M, "5.7.1"),
        ("421 4.3.2 closing", Command.RCPT, Verdict.DEFERRED, S, "4.3.2"),
        ("421 4.3.2 closing", Command.CONTENT, Verdict.DEFERRED, S, "4.3.2"),
        ("503 5.5.1 order", Command.MAIL, Verdict.DEFERRED, S, "4.0.0"),
        ("500 5.5.2 line too long", Command.CONTENT, Verdict.FAILED, M, "5.5.2"),
        ("500 5.5.2 what", Command.BDAT, Verdict.DEFERRED, S, "4.0.0"),
        ("500 5.5.2 what", Command.RCPT, Verdict.DEFERRED, S, "4.0.0"),
        ("354 go", Command.MAIL, Verdict.DEFERRED, S, "4.0.0"),
        ("250 ok", Command.DATA, Verdict.DEFERRED, S, "4.0.0"),
        ("530 5.7.0 authenticate", Command.MAIL, Verdict.DEFERRED, U, "4.0.0"),
        ("535 5.7.8 wrong", Command.AUTH, Verdict.DEFERRED, U, "4.0.0"),
        ("554 no", Command.GREETING, Verdict.DEFERRED, U, "4.0.0"),
    ],
)
def test_classify(line: str, command: Command, verdict: Verdict, scope: Scope, dsn: str) -> None:
    outcome = classify(parse_reply(int(line[:3]), [line[4:]]), command, host="up[192.0.2.1]")
    assert (outcome.verdict, outcome.scope, outcome.dsn) == (verdict, scope, dsn)
    assert not outcome.in_doubt


def test_a_refusal_names_host_and_command_as_postfix_does() -> None:
    outcome = classify(Reply(550, "unknown", "5.1.1"), Command.RCPT, host="up[192.0.2.1]")
    assert outcome.detail == "host up[192.0.2.1] said: 550 5.1.1 unknown (in reply to RCPT TO command)"


def test_success_shows_the_reply() -> None:
    assert classify(Reply(250, "Ok <0100>", "2.0.0"), Command.CONTENT, host="x").detail == "250 2.0.0 Ok <0100>"


def test_a_lost_dot_is_in_doubt_and_its_own_attempt() -> None:
    doubt = lost("lost connection", host="up[192.0.2.1]", in_doubt=True)
    assert (doubt.in_doubt, doubt.scope, doubt.verdict) == (True, M, Verdict.DEFERRED)
    assert doubt.detail == "in doubt: lost connection with up[192.0.2.1]"
    assert lost("lost connection", host="x").scope is S


def test_trouble_with_the_upstream_fails_nobody() -> None:
    assert unavailable("connect to x: refused").verdict is Verdict.DEFERRED


def test_expiry_is_5_4_7_with_the_last_reply() -> None:
    assert (expired("451 later").dsn, expired("451 later").detail) == ("5.4.7", "451 later")
    assert expired("").detail == "delivery time expired"
    last = classify(Reply(451, "later (or never)", "4.3.0"), Command.RCPT, host="up[192.0.2.1]").detail
    assert expired(last).reply == Reply(451, "later (or never)", "4.3.0")
    assert expired("connect to up[192.0.2.1]:25: Connection refused").reply is None


def test_foreign_text_is_cut_and_printable() -> None:
    reply = parse_reply(250, ["a\x1b[31mb\x00", "x" * 1000])
    assert reply.text.isprintable()
    assert len(reply.text) <= 500


def test_a_login_that_is_refused_is_the_accounts_trouble() -> None:
    assert classify(Reply(535, "wrong", "5.7.8"), Command.AUTH).trouble is Trouble.AUTH
    assert classify(Reply(454, "later", "4.7.0"), Command.AUTH).trouble is Trouble.AUTH
    assert classify(Reply(530, "authenticate", "5.7.0"), Command.MAIL).trouble is Trouble.AUTH
    assert classify(Reply(454, "slower", "4.7.0"), Command.MAIL).trouble is Trouble.RATE
    assert classify(Reply(554, "no", None), Command.GREETING).trouble is None, "its health, not our account"


def test_a_rule_is_asked_before_the_digits_and_in_its_commands_alone() -> None:
    rules = (ReplyRule(Trouble.QUOTA, re.compile("^550 5.4.5 Daily"), frozenset({Command.CONTENT})),)
    reply = Reply(550, "Daily limit", "5.4.5")
    paused = classify(reply, Command.CONTENT, host="up", rules=rules)
    assert (paused.verdict, paused.scope, paused.trouble) == (Verdict.DEFERRED, U, Trouble.QUOTA)
    assert paused.detail == "host up said: 550 5.4.5 Daily limit (in reply to end of DATA command)"
    assert classify(reply, Command.RCPT, rules=rules).verdict is Verdict.FAILED
    assert classify(Reply(250, "5.4.5 Daily", None), Command.CONTENT, rules=rules).verdict is Verdict.RELAYED
