"""What an upstream may do to us, and what must become of the mail: the table of tests/e2e/test_upstream_misbehaves.py.

Every behaviour is met by two messages on one session, the first one to :data:`FIRST`, the second to :data:`SECOND`.
What is not named ``bounced`` must be sent; nobody is sent to twice but where a final dot went ``unanswered``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.upstream.conversation import QUIT_TIMEOUT
from tests.peers.scripted import CLOSE, EXTENSIONS, HANG, REPLIES, RESET, Act, Script, say

FIRST = ("a@y.test", "b@y.test", "c@y.test")
SECOND = ("d@y.test",)
A, B, C = (frozenset({each}) for each in FIRST)
NOBODY: frozenset[str] = frozenset()
ALL_OF_FIRST = frozenset(FIRST)
ENVELOPE = ("MAIL", "RCPT")
STEPS = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT")

GOOD: Mapping[str, bytes] = {
    **REPLIES,
    "EHLO": b"250-peer.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
    "CONTENT": b"250 2.0.0 Ok\r\n",
}
GARBAGE: Mapping[str, bytes] = {
    "words": b"this is no SMTP\r\n",
    "two-digits": b"25 Ok\r\n",
    "four-digits": b"2500 Ok\r\n",
    "1yz": b"150 2.0.0 wait\r\n",
    "6yz": b"650 odd\r\n",
    "codes-differ": b"250-2.0.0 Ok\r\n550 5.0.0 but no\r\n",
    "octets": bytes(range(128, 256)) + b"\r\n",
    "nul": b"\0" * 100 + b"\r\n",
    "superscript-digits": "²50 Ok\r\n".encode(),
    "html": b"HTTP/1.1 400 Bad Request\r\n\r\n<html>\r\n",
    "long-line": b"250 " + b"x" * 5000 + b"\r\n",
    "no-end-of-line": b"250 " + b"x" * 300_000,
    "no-last-line": b"250-2.0.0 more\r\n" * 20_000,
}


@dataclass(frozen=True)
class Behaviour:
    """``script`` is the peer's; ``upstream`` are keys of ours; ``bounced`` recipients fail, all others are sent to.

    ``unanswered``: a final dot is, so the message may come twice, and is logged in doubt. ``eight_bit``: the messages.
    ``data``: it is about DATA, so that there is nothing to see where BDAT is spoken; ``bdat``: the other way round.
    ``breaks``: the session ends amid an envelope, with which a BDAT has left: what was not to be in doubt is, there.
    Where the server goes on behind a 421, against RFC 5321 §3.8, what left behind it by BDAT is taken twice.
    ``time_out``: ours, seconds.
    """

    script: Script = field(default_factory=dict)
    bounced: frozenset[str] = NOBODY
    unanswered: bool = False
    extensions: tuple[str, ...] = EXTENSIONS
    upstream: Mapping[str, Any] = field(default_factory=dict)
    data: bool = False
    bdat: bool = False
    breaks: bool = False
    eight_bit: bool = False
    time_out: float = 2.0


def behaviours() -> dict[str, Behaviour]:
    """All of them by name."""
    return dict([*_silence(), *_refusals(), *_nonsense(), *_oddities(), *_lies(), *_envelopes(), *_words()])


def _silence() -> Iterator[tuple[str, Behaviour]]:
    for step in STEPS:
        half = Act(GOOD[step][:6], hang=True)
        for name, act in {"hang": HANG, "close": CLOSE, "reset": RESET, "half-a-reply": half}.items():
            yield (
                f"{name}-at-{step}",
                Behaviour(
                    {step: [act]},
                    unanswered=step == "CONTENT",
                    data=step == "DATA",
                    breaks=step in ENVELOPE,
                ),
            )
    yield "hang-at-QUIT", Behaviour({"QUIT": HANG}, upstream={"max_messages_per_connection": 1}, time_out=QUIT_TIMEOUT)
    yield "close-at-QUIT", Behaviour({"QUIT": CLOSE}, upstream={"max_messages_per_connection": 1})
    refused = say("500 5.5.1 never heard of it")
    yield "QUIT-refused", Behaviour({"QUIT": refused}, upstream={"max_messages_per_connection": 1})


def _refusals() -> Iterator[tuple[str, Behaviour]]:
    for step in STEPS:
        data = step == "DATA"
        yield f"421-at-{step}", Behaviour({step: [say("421 4.3.2 closing", close=True)]}, data=data)
        yield (
            f"421-and-stays-at-{step}",
            Behaviour({step: [say("421 4.3.2 closing")]}, data=data, breaks=step in {*ENVELOPE, "CONTENT"}),
        )
        yield f"4yz-at-{step}", Behaviour({step: [say("451 4.3.0 not now")]}, data=data)
        bounced = {"GREETING": NOBODY, "EHLO": NOBODY, "RCPT": A}.get(step, ALL_OF_FIRST)
        yield f"5yz-at-{step}", Behaviour({step: [say("554 5.3.0 no")]}, bounced, data=data)
        lost = ALL_OF_FIRST if step == "CONTENT" else NOBODY
        for code in (500, 502, 503):
            # 500 to content judges the content; the others, and elsewhere, say that we are out of step.
            lost_now = lost if code == 500 else NOBODY
            if step not in {"GREETING", "EHLO"}:
                # In reply to BDAT 500 says that the command is unknown.
                plainly = data or (step == "CONTENT" and code == 500)
                yield f"{code}-at-{step}", Behaviour({step: [say(f"{code} 5.5.1 what?")]}, lost_now, data=plainly)
    yield "EHLO-unknown", Behaviour({"EHLO": say("502 5.5.1 what?"), "HELO": Act(b"250 peer.test\r\n")})
    yield "5yz-without-enhanced-code", Behaviour({"MAIL": [say("550 no")]}, ALL_OF_FIRST)
    yield "rate-454-at-MAIL", Behaviour({"MAIL": [say("454 4.7.0 Throttling failure: Maximum sending rate exceeded")]})
    again = [say("451 4.3.0 not now")] * 3
    yield "4yz-three-times", Behaviour({"CONTENT": again})


def _nonsense() -> Iterator[tuple[str, Behaviour]]:
    for step in STEPS:
        for name, octets in GARBAGE.items():
            if step in {"MAIL", "RCPT", "DATA"} or name in {"words", "two-digits", "codes-differ", "no-last-line"}:
                unanswered = step == "CONTENT"
                script = {step: [Act(octets)]}
                breaks = step in ENVELOPE
                yield f"{name}-at-{step}", Behaviour(script, unanswered=unanswered, data=step == "DATA", breaks=breaks)
    yield "3yz-at-MAIL", Behaviour({"MAIL": [say("354 go on")]})
    yield "3yz-at-RCPT", Behaviour({"RCPT": [say("354 go on")]})
    yield "3yz-at-CONTENT", Behaviour({"CONTENT": [say("354 go on")]}, unanswered=True)
    yield "2yz-at-DATA", Behaviour({"DATA": [say("250 2.0.0 Ok")]}, data=True)


def _oddities() -> Iterator[tuple[str, Behaviour]]:
    for step in STEPS:
        data = step == "DATA"
        reply = GOOD[step]
        yield f"split-at-{step}", Behaviour({step: Act(reply, split=True)}, data=data)
        code = reply[:3]
        many = b"".join(code + b"-line %d\r\n" % n for n in range(50)) + code + b" last\r\n"
        yield f"many-lines-at-{step}", Behaviour({step: Act(many)}, data=data)
        yield f"bare-line-feed-at-{step}", Behaviour({step: Act(reply.replace(b"\r\n", b"\n"))}, data=data)
        yield f"code-alone-at-{step}", Behaviour({step: Act(code + b"\r\n")}, data=data)
    yield "251-at-RCPT", Behaviour({"RCPT": say("251 2.1.5 will forward")})
    yield "252-at-RCPT", Behaviour({"RCPT": say("252 2.1.5 can't verify")})
    yield "299-at-CONTENT", Behaviour({"CONTENT": say("299 2.9.9 fine")})
    yield "200-at-MAIL", Behaviour({"MAIL": say("200 fine")})
    for step in ("EHLO", "MAIL", "RCPT", "CONTENT"):
        # A second 250 that nobody asked for: from there on replies and commands no longer belong together.
        yield f"unsolicited-at-{step}", Behaviour({step: [Act(GOOD[step] + b"250 2.0.0 Ok\r\n")]})
    yield "two-greetings", Behaviour({"GREETING": [Act(GOOD["GREETING"] * 2)]})


def _lies() -> Iterator[tuple[str, Behaviour]]:
    yield "drops-what-is-pipelined", Behaviour({"MAIL": Act(REPLIES["MAIL"], deaf=True)}, breaks=True)
    yield "SIZE-too-small", Behaviour({}, ALL_OF_FIRST | {*SECOND}, extensions=("PIPELINING", "SIZE 10"))
    yield "SIZE-of-nonsense", Behaviour({}, extensions=("PIPELINING", "SIZE very-much", "8BITMIME"))
    yield "SIZE-of-4999-digits", Behaviour({}, extensions=("PIPELINING", "SIZE " + "9" * 3000, "8BITMIME"))
    yield "552-beyond-SIZE", Behaviour({"MAIL": [say("552 5.3.4 too big")]}, ALL_OF_FIRST)
    chunking = (*EXTENSIONS, "CHUNKING")
    yield "XCHUNKING", Behaviour({}, extensions=(*EXTENSIONS, "XCHUNKING"))
    for code in (500, 502, 503):
        script = {"CONTENT": [say(f"{code} 5.5.1 BDAT?")]}
        yield f"CHUNKING-answered-{code}", Behaviour(script, extensions=chunking, bdat=True)
    yield "LIMITS-of-one", Behaviour({}, extensions=(*EXTENSIONS, "LIMITS RCPTMAX=1 MAILMAX=1"))
    yield "LIMITS-of-nonsense", Behaviour({}, extensions=(*EXTENSIONS, "LIMITS RCPTMAX= =5 MAILMAX=-1 X"))
    yield "200-extensions", Behaviour({}, extensions=(*EXTENSIONS, *(f"X-{n} yes" for n in range(200))))
    yield "AUTH-of-nonsense", Behaviour({}, extensions=(*EXTENSIONS, "AUTH " + "= " * 500))
    yield "8BITMIME-refused-after-all", Behaviour({"CONTENT": [say("554 5.6.1 no 8bit")]}, ALL_OF_FIRST, eight_bit=True)
    yield "no-8BITMIME", Behaviour({}, ALL_OF_FIRST | {*SECOND}, extensions=("PIPELINING",), eight_bit=True)
    yield "no-extensions", Behaviour({}, extensions=())


def _envelopes() -> Iterator[tuple[str, Behaviour]]:
    no, later = say("550 5.1.1 unknown"), say("450 4.2.0 later")
    some: Script = {"RCPT b@y.test": no, "RCPT c@y.test": [later]}
    yield "RCPT-250-550-450", Behaviour(some, B)
    yield "RCPT-550-250-250", Behaviour({"RCPT a@y.test": no}, A)
    yield "RCPT-250-250-550", Behaviour({"RCPT c@y.test": no}, C)
    yield "RCPT-mixed-then-4yz-content", Behaviour({**some, "CONTENT": [say("451 4.3.0 not now")]}, B)
    yield "RCPT-mixed-then-5yz-content", Behaviour({**some, "CONTENT": [say("554 5.6.0 no")]}, A | B)
    yield "RCPT-mixed-then-5yz-data", Behaviour({**some, "DATA": [say("554 5.6.0 no")]}, A | B, data=True)
    yield "RCPT-mixed-then-close", Behaviour({**some, "CONTENT": [CLOSE]}, B, unanswered=True)
    yield "RCPT-421-in-the-midst", Behaviour({"RCPT b@y.test": [say("421 4.3.2 closing", close=True)]})
    yield "RCPT-550-then-421", Behaviour({"RCPT a@y.test": no, "RCPT b@y.test": [say("421 4.3.2 bye", close=True)]}, A)
    yield "RCPT-all-refused", Behaviour({f"RCPT {each}": no for each in FIRST}, ALL_OF_FIRST)
    yield "RCPT-452-too-many", Behaviour({"RCPT c@y.test": [say("452 4.5.3 too many")]})
    yield "RCPT-552-too-many", Behaviour({"RCPT c@y.test": [say("552 5.5.3 too many")]})
    nobody = {f"RCPT {each}": no for each in FIRST}
    yield "all-refused-yet-354", Behaviour({**nobody, "DATA": Act(REPLIES["DATA"])}, ALL_OF_FIRST, data=True)
    lone_dot_taken = {**nobody, "DATA": Act(REPLIES["DATA"]), "CONTENT": Act(b"250 2.0.0 Ok\r\n")}
    yield "all-refused-yet-taken", Behaviour(lone_dot_taken, ALL_OF_FIRST, data=True)
    stray = {"DATA": [say("500 5.5.1 no DATA")], "MAIL": [Act(REPLIES["MAIL"])]}
    yield "DATA-unknown-once", Behaviour(stray, data=True)
    yield (
        "RSET-refused",
        Behaviour({"RSET": say("500 5.5.1 what?"), "DATA": [say("554 5.3.0 no")]}, ALL_OF_FIRST, data=True),
    )


def _words() -> Iterator[tuple[str, Behaviour]]:
    feigned = "550 5.1.1 no, status=sent (250 Ok) to=<a@y.test>, relay=x, dsn=2.0.0"
    for name, text in {
        "a-log-line": feigned,
        "ANSI": "550 5.1.1 \x1b[2J\x1b]0;owned\x07 gone",
        "carriage-returns": "550 5.1.1 one\rtwo\rthree",
        "HTML": "550 5.1.1 <script>alert(1)</script>",
        "format": "550 5.1.1 %s %n {0} %(x)s",
        "unicode": "550 5.1.1 \u202e\u2028\x85 \ufeff weird",
        "4000-octets": "550 5.1.1 " + "y" * 4000,
    }.items():
        yield f"says-{name}", Behaviour({"RCPT a@y.test": say(text)}, A)
    yield "says-no-UTF-8", Behaviour({"RCPT a@y.test": Act(b"550 5.1.1 \xff\xfe\xc3(\r\n")}, A)
