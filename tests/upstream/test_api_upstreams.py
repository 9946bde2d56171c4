"""``kind = "ses"`` and ``kind = "sparkpost"`` against scripted servers: the wire, the connection, every way to fail."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.clock import SystemClock
from relay.mail import Body, Envelope, Message, Recipient
from relay.outcome import Outcome, Scope, Trouble, Verdict
from relay.settings import Secret, UpstreamSettings
from relay.upstream import ContentWithheld, DeliveryRequest, Finished, ServerLimit, Told, UpstreamUnavailable
from relay.upstream.connecting import Connector
from relay.upstream.http.upstream import ApiUpstream
from relay.upstream.names import Names, NoSuchHost
from relay.upstream.ses.api import SesApi
from relay.upstream.sparkpost.api import SparkPostApi
from relay.upstream.watched import Watched
from tests.peers.api import (
    API_KEY,
    CLOSE,
    CUT,
    HANG,
    KEY_ID,
    REGION,
    SECRET,
    Act,
    Answer,
    ApiPeer,
    SesPeer,
    SparkPostPeer,
    ses_error,
)
from tests.upstream.doors import HOST, LOOPS, Certificates, Observer, run

KINDS: dict[str, type[ApiPeer]] = {"ses": SesPeer, "sparkpost": SparkPostPeer}
BOTH = pytest.mark.parametrize("kind", KINDS)
CONTENT = 'Subject: Grüße\r\n\r\n"quoted" \\ \x00 and {{braces}}\r\n'.encode()


async def _nowhere(name: str, _record: object) -> Any:
    raise NoSuchHost(name)


def unheard(limits: Sequence[ServerLimit]) -> None:
    """Nobody asks."""


def upstream(
    kind: str, port: int, *, scheme: str = "http", host: str = "127.0.0.1", told: Told = unheard, **settings: Any
) -> ApiUpstream:
    keys: dict[str, Any] = {"api_key": Secret(API_KEY)}
    if kind == "ses":
        keys = {"region": REGION, "access_key_id": Secret(KEY_ID), "secret_access_key": Secret(SECRET)}
    given = {"kind": kind, "endpoint": f"{scheme}://{host}:{port}", "connect_timeout": 5.0, **keys, **settings}
    clock = SystemClock()
    names = Names(_nowhere, Watched((), lambda: {HOST: ("127.0.0.1",)}), clock.monotonic)
    connector = Connector(names, clock.monotonic, lambda: 0.5)
    read = UpstreamSettings("api", **given)
    api = SesApi(read, clock, told) if kind == "ses" else SparkPostApi(read, clock, told)
    return ApiUpstream(read, api, connector)


def message(*recipients: str, sender: str = "a@x.test", size: int = len(CONTENT), **envelope: Any) -> Message:
    names = recipients or ("b@y.test",)
    each = tuple(Recipient(n, name) for n, name in enumerate(names))
    return Message(1 << 30, Envelope(sender, each, body=Body.EIGHT_BIT, **envelope), size, 0.0)


async def ended(observer: Observer, count: int = 1) -> list[Finished]:
    async with asyncio.timeout(10):
        while len(observer.ends) < count:
            observer.changed.clear()
            await observer.changed.wait()
    return observer.ends


async def over(observer: Observer) -> Outcome | None:
    async with asyncio.timeout(10):
        while not observer.over:
            observer.changed.clear()
            await observer.changed.wait()
    await asyncio.sleep(0.02)  # the transport closes its socket in the loop's next turns
    (why,) = observer.over
    return why


async def relay_one(door: ApiUpstream, request: DeliveryRequest | None = None) -> tuple[Finished, Outcome | None]:
    observer = Observer()
    session = await door.connect(observer)
    session.begin(request or DeliveryRequest(message(), CONTENT))
    (end,) = await ended(observer)
    session.retire()
    return end, await over(observer)


async def outcomes_of(
    kind: str, acts: Sequence[Act], *recipients: str, **settings: Any
) -> tuple[tuple[Outcome, ...], Outcome | None]:
    with KINDS[kind](acts=list(acts)) as peer:
        request = DeliveryRequest(message(*recipients), CONTENT)
        end, why = await relay_one(upstream(kind, peer.port, **settings), request)
        assert len(peer.posts) == 1
    assert not any(secret in str((end.outcomes, why)) for secret in (SECRET, API_KEY))
    return end.outcomes, why


@pytest.mark.parametrize("on", LOOPS)
@BOTH
def test_a_message_over_tls(kind: str, on: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with KINDS[kind](tls=certificates.server()) as peer:
        door = upstream(kind, peer.port, scheme="https", host=HOST, tls_ca=certificates.trust)
        end, why = run(on, relay_one(door))
    assert why is None
    assert end.relay == f"api[127.0.0.1]:{peer.port}"
    assert end.conn_use == 1
    assert end.setup > 0
    (outcome,) = end.outcomes
    assert (outcome.verdict, outcome.dsn) == (Verdict.RELAYED, "2.0.0")
    assert outcome.detail.startswith("HTTP 200 Ok ")
    assert peer.content(peer.posts[0]) == CONTENT  # type: ignore[attr-defined]


@BOTH
async def test_a_certificate_of_a_stranger(kind: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with KINDS[kind](tls=certificates.server(stranger=True)) as peer:
        door = upstream(kind, peer.port, scheme="https", host=HOST, tls_ca=certificates.trust)
        with pytest.raises(UpstreamUnavailable, match=r"server certificate of peer.test\[127.0.0.1\] not verified"):
            await door.connect(Observer())
        await asyncio.sleep(0.02)
    assert not peer.asked


def test_what_is_said_to_ses() -> None:
    async def go() -> None:
        with SesPeer() as peer:
            door = upstream("ses", peer.port, configuration_set="bulk")
            await relay_one(door, DeliveryRequest(message("b@y.test", "c@y.test"), CONTENT, prefix=b"DKIM: 1\r\n"))
            await relay_one(door, DeliveryRequest(message(sender=""), CONTENT))
        asked, null = peer.posts
        assert asked.path == "/v2/email/outbound-emails"
        assert peer.content(asked) == b"DKIM: 1\r\n" + CONTENT
        said = asked.json()
        del said["Content"]
        assert said == {
            "Destination": {"ToAddresses": ["b@y.test", "c@y.test"]},
            "FeedbackForwardingEmailAddress": "a@x.test",
            "ConfigurationSetName": "bulk",
        }
        assert "FeedbackForwardingEmailAddress" not in null.json()

    run("asyncio", go())


async def test_what_is_said_to_sparkpost() -> None:
    with SparkPostPeer() as peer:
        door = upstream("sparkpost", peer.port, options=(("ip_pool", "a"), ("open_tracking", True)))
        await relay_one(door, DeliveryRequest(message("b@y.test", "c@y.test"), CONTENT))
        await relay_one(upstream("sparkpost", peer.port, return_path="sender"))
    asked, named = peer.posts
    assert asked.path == "/api/v1/transmissions?num_rcpt_errors=2"
    said = asked.json()
    assert said.pop("content") == {"email_rfc822": CONTENT.decode()}
    assert said == {
        "options": {"ip_pool": "a", "open_tracking": True, "click_tracking": False, "perform_substitutions": False},
        "recipients": [{"address": {"email": "b@y.test"}}, {"address": {"email": "c@y.test"}}],
    }
    assert named.json()["return_path"] == "a@x.test"


@BOTH
async def test_a_large_message_is_read_by_parts_and_arrives_whole(kind: str) -> None:
    chance = random.Random(7)
    text = "".join(chance.choice('aé€😀"\\\r\n') for _ in range(700_000)).encode()
    cuts = sorted(chance.sample(range(len(text)), 5))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    async def read_part(n: int) -> bytes:
        return parts[n]

    with KINDS[kind]() as peer:
        request = DeliveryRequest(message(size=len(text)), None, len(parts), read_part, b"X: y\r\n")
        end, why = await relay_one(upstream(kind, peer.port), request)
    assert why is None
    assert end.outcomes[0].verdict is Verdict.RELAYED, end
    assert peer.content(peer.posts[0]) == b"X: y\r\n" + text  # type: ignore[attr-defined]


@BOTH
@pytest.mark.parametrize("broken_at", [1, 5])
async def test_content_that_cannot_be_read_was_not_sent(kind: str, broken_at: int) -> None:
    calls = 0

    async def read_part(_n: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == broken_at:
            raise OSError(5, "Input/output error")
        return b"x" * 200_000

    with KINDS[kind]() as peer:
        request = DeliveryRequest(message(size=600_000), None, 3, read_part)
        end, why = await relay_one(upstream(kind, peer.port), request)
    (outcome,) = end.outcomes
    assert outcome.detail.startswith("content can't be read (OSError)")
    assert (outcome.scope, outcome.in_doubt) == (Scope.SESSION, False)
    assert why is not None
    assert not peer.posts


@BOTH
async def test_one_connection_carries_many_and_retires_at_its_cap(kind: str) -> None:
    with KINDS[kind]() as peer:
        observer = Observer()
        session = await upstream(kind, peer.port, max_messages_per_connection=3).connect(observer)
        for n in range(3):
            assert session.capacity == 1
            session.begin(DeliveryRequest(message(), CONTENT))
            assert (session.capacity, session.in_flight) == (0, 1)
            await ended(observer, n + 1)
        assert session.capacity == 0
        assert await over(observer) is None
    assert [end.conn_use for end in observer.ends] == [1, 2, 3]
    assert [end.setup > 0 for end in observer.ends] == [True, False, False]
    assert {each.connection for each in peer.asked} == {1}


@BOTH
async def test_an_idle_connection_ends_without_trouble(kind: str) -> None:
    with KINDS[kind]() as peer:
        observer = Observer()
        await upstream(kind, peer.port, idle_timeout=0.05).connect(observer)
        assert await over(observer) is None
    assert peer.connections == 1


@BOTH
async def test_a_connection_that_the_server_ends_is_not_used_again(kind: str) -> None:
    with KINDS[kind]() as peer:
        peer.acts = [Answer(200, {}, {"Connection": "close"})]
        observer = Observer()
        session = await upstream(kind, peer.port).connect(observer)
        session.begin(DeliveryRequest(message(), CONTENT))
        await ended(observer)
        assert session.capacity == 0
        assert await over(observer) is None


@BOTH
async def test_a_server_of_one_answer_a_connection(kind: str) -> None:
    with KINDS[kind](account=Answer(404, None, {"Connection": "close"})) as peer:
        end, why = await relay_one(upstream(kind, peer.port))
    assert why is None
    assert end.outcomes[0].verdict is Verdict.RELAYED
    assert [(each.method, each.connection) for each in peer.asked] == [("GET", 1), ("POST", 2)]


@BOTH
async def test_nobody_there(kind: str) -> None:
    with KINDS[kind]() as peer:
        port = peer.port
    with pytest.raises(UpstreamUnavailable, match="Connection refused") as caught:
        await upstream(kind, port).connect(Observer())
    assert caught.value.outcome.scope is Scope.UPSTREAM


@BOTH
@pytest.mark.parametrize("act", [CLOSE, CUT])
async def test_a_connection_that_breaks_after_the_post_is_in_doubt(kind: str, act: str) -> None:
    (outcome,), why = await outcomes_of(kind, [act])
    assert outcome.in_doubt
    assert (outcome.verdict, outcome.scope) == (Verdict.DEFERRED, Scope.MESSAGE)
    assert outcome.detail.startswith("in doubt: ")
    assert why is not None
    assert why.scope is Scope.SESSION


@BOTH
async def test_silence_after_the_post_is_in_doubt(kind: str) -> None:
    (outcome,), _ = await outcomes_of(kind, [HANG], final_reply_timeout=0.2)
    assert outcome.in_doubt
    assert outcome.detail == "in doubt: conversation timed out with api[127.0.0.1]"


@BOTH
async def test_abort_tells_at_once(kind: str) -> None:
    with KINDS[kind](acts=[HANG]) as peer:
        observer = Observer()
        session = await upstream(kind, peer.port).connect(observer)
        session.begin(DeliveryRequest(message(), CONTENT))
        await asyncio.to_thread(peer.heard.wait, 10)
        session.abort("relay stopped")
        (end,) = observer.ends
        assert end.outcomes[0].in_doubt
        assert await over(observer) is not None
        idle = Observer()
        (await upstream(kind, peer.port).connect(idle)).abort("relay stopped")
        assert not idle.ends
        await over(idle)


@BOTH
@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateways_word_leaves_it_in_doubt(kind: str, status: int) -> None:
    (outcome,), why = await outcomes_of(kind, [Answer(status, {"message": "Endpoint request timed out"})])
    assert outcome.in_doubt
    assert why is None


Case = tuple[Act, Verdict, Scope, str, Trouble | None]
D, F, M, U = Verdict.DEFERRED, Verdict.FAILED, Scope.MESSAGE, Scope.UPSTREAM
IDENTITY = (
    "User: arn:aws:iam::1:user/r is not authorized to perform `ses:SendEmail' on resource"
    " `arn:aws:ses:eu-west-1:1:identity/x.test'"
)
SES: list[Case] = [
    (ses_error(429, "TooManyRequestsException", "Maximum sending rate exceeded."), D, U, "4.7.0", Trouble.RATE),
    (ses_error(400, "LimitExceededException", "Daily message quota exceeded."), D, U, "4.7.0", Trouble.QUOTA),
    (ses_error(400, "ThrottlingException", "Rate exceeded"), D, U, "4.7.0", Trouble.RATE),
    (ses_error(400, "AccountSuspendedException", "restricted"), D, U, "4.7.0", Trouble.ACCOUNT),
    (ses_error(400, "SendingPausedException", "paused"), D, U, "4.7.0", Trouble.ACCOUNT),
    (ses_error(400, "MessageRejected", "Sending suspended for this account."), D, U, "4.7.0", Trouble.ACCOUNT),
    (ses_error(400, "MessageRejected", "Transaction failed: bad body"), F, M, "5.6.0", None),
    (ses_error(400, "MessageRejected", "Email address is not verified."), F, M, "5.7.1", None),
    (ses_error(400, "BadRequestException", "Missing final '@domain'"), F, M, "5.5.0", None),
    (ses_error(400, "MailFromDomainNotVerifiedException", "no MX"), D, M, "4.4.4", None),
    (ses_error(404, "NotFoundException", "Configuration set <x> does not exist."), D, U, "4.3.5", Trouble.ACCOUNT),
    (ses_error(403, "SignatureDoesNotMatch", "no"), D, U, "4.7.0", Trouble.AUTH),
    (ses_error(403, "ExpiredTokenException", "The security token is expired"), D, U, "4.7.0", Trouble.AUTH),
    (ses_error(403, "AccessDeniedException", "not authorized"), D, U, "4.7.0", Trouble.AUTH),
    (ses_error(403, "AccessDeniedException", IDENTITY), D, M, "4.7.1", None),
    (Answer(400, {"__type": "com.amazon#BadRequestException", "Message": "no"}), F, M, "5.5.0", None),
]
SPARKPOST: list[Case] = [
    (
        Answer(420, {"errors": [{"message": "Exceed Sending Limit (hourly)", "code": "2101"}]}),
        D,
        U,
        "4.7.0",
        Trouble.QUOTA,
    ),
    (Answer(401, {"errors": [{"message": "Unauthorized."}]}), D, U, "4.7.0", Trouble.AUTH),
    (Answer(403, {"errors": [{"message": "Forbidden."}]}), D, U, "4.7.0", Trouble.AUTH),
    (Answer(403, {"errors": [{"message": "Account suspended"}]}), D, U, "4.7.0", Trouble.ACCOUNT),
    (Answer(400, {"errors": [{"message": "Invalid domain", "code": "7001"}]}), F, M, "5.7.1", None),
    (Answer(422, {"errors": [{"message": "required field is missing", "code": "1400"}]}), F, M, "5.0.0", None),
]
EACH: list[Case] = [
    (Answer(429, {}, {"Retry-After": "7"}), D, U, "4.7.0", Trouble.RATE),
    (Answer(500, {}), D, M, "4.3.0", None),
    (Answer(503, {}), D, U, "4.3.0", None),
    (Answer(408, {}), D, Scope.SESSION, "4.4.2", None),
    (Answer(413, {}), F, M, "5.3.4", None),
    (Answer(302, {}, {"Location": "http://127.0.0.1:1/"}), D, U, "4.3.0", None),
    (Answer(407, {}), D, U, "4.3.0", None),
]


@pytest.mark.parametrize(
    ("kind", "act", "verdict", "scope", "dsn", "trouble"),
    [
        *(("ses", *case) for case in [*SES, *EACH]),
        *(("sparkpost", *case) for case in [*SPARKPOST, *EACH]),
    ],
)
async def test_each_documented_error(
    kind: str, act: Answer, verdict: Verdict, scope: Scope, dsn: str, trouble: Trouble | None
) -> None:
    (outcome,), why = await outcomes_of(kind, [act])
    assert (outcome.verdict, outcome.scope, outcome.dsn, outcome.trouble) == (verdict, scope, dsn, trouble)
    assert outcome.detail.startswith(f"host api[127.0.0.1] said: HTTP {act.status} ")
    assert not outcome.in_doubt
    assert outcome.unfit == (act.status == 413)
    assert why == (outcome if scope is Scope.UPSTREAM else None)
    assert outcome.wait == (7.0 if act.fields.get("Retry-After") else None)


@BOTH
@pytest.mark.parametrize(
    ("act", "sent"), [(Answer(429), False), (Answer(403), False), (Answer(500), True), (Answer(503), True), (CUT, True)]
)
async def test_what_the_provider_does_not_count_costs_no_permit(kind: str, act: Act, sent: bool) -> None:
    with KINDS[kind](acts=[act]) as peer:
        end, _ = await relay_one(upstream(kind, peer.port))
    assert end.content_sent is sent


async def test_ses_names_unverified_recipients_and_the_others_go_again() -> None:
    text = "Email address is not verified. The following identities failed the check in region EU-WEST-1: C@y.test"
    outcomes, why = await outcomes_of("ses", [ses_error(400, "MessageRejected", text)], "b@y.test", "c@y.test")
    assert [(each.verdict, each.scope) for each in outcomes] == [
        (Verdict.DEFERRED, Scope.SESSION),
        (Verdict.FAILED, Scope.RECIPIENT),
    ]
    assert why is None
    outcomes, _ = await outcomes_of(
        "ses", [ses_error(400, "MessageRejected", text.replace("C@y", "a@x"))], "b@y.test", "c@y.test"
    )
    assert {each.verdict for each in outcomes} == {Verdict.FAILED}


@pytest.mark.parametrize(
    ("kind", "act", "in_doubt"),
    [
        ("ses", ses_error(400, "BadRequestException", "Illegal address"), False),
        (
            "sparkpost",
            Answer(422, {"errors": [{"description": "address.email is required for each recipient"}]}),
            False,
        ),
        (
            "sparkpost",
            Answer(200, {"results": {"total_rejected_recipients": 1, "rcpt_to_errors": [{"message": "missing"}]}}),
            True,
        ),
    ],
)
async def test_one_of_several_refused_without_its_name_sends_them_one_by_one(
    kind: str, act: Answer, in_doubt: bool
) -> None:
    with KINDS[kind](acts=[act]) as peer:
        door = upstream(kind, peer.port)
        observer = Observer()
        session = await door.connect(observer)
        assert session.max_recipients > 1
        session.begin(DeliveryRequest(message("b@y.test", "c@y.test"), CONTENT))
        (end,) = await ended(observer)
        assert await over(observer) is None
        again = Observer()
        narrow = await door.connect(again)
        assert narrow.max_recipients == 1
        narrow.retire()
        await over(again)
    assert {(each.verdict, each.in_doubt) for each in end.outcomes} == {(Verdict.DEFERRED, in_doubt)}
    assert {each.scope for each in end.outcomes} == {Scope.MESSAGE if in_doubt else Scope.SESSION}


async def test_sparkpost_tells_which_recipients_it_rejected() -> None:
    errors = [{"message": "invalid", "description": "c@y.test is no address", "code": "1300"}]
    results = {"total_rejected_recipients": 1, "total_accepted_recipients": 1, "id": "1", "rcpt_to_errors": errors}
    outcomes, _ = await outcomes_of("sparkpost", [Answer(200, {"results": results})], "b@y.test", "c@y.test")
    assert [each.verdict for each in outcomes] == [Verdict.RELAYED, Verdict.FAILED]
    assert outcomes[1].detail.endswith("invalid: c@y.test is no address (1300)")
    results |= {"total_rejected_recipients": 2, "total_accepted_recipients": 0}
    outcomes, _ = await outcomes_of("sparkpost", [Answer(200, {"results": results})], "b@y.test", "c@y.test")
    assert {(each.verdict, each.scope) for each in outcomes} == {(Verdict.FAILED, Scope.RECIPIENT)}


async def test_what_an_api_cannot_have_goes_to_the_next_upstream() -> None:
    async def unfit(kind: str, sent: Message, content: bytes) -> Outcome:
        with KINDS[kind]() as peer:
            end, why = await relay_one(upstream(kind, peer.port, max_message_size=1000), DeliveryRequest(sent, content))
            assert not peer.posts
        assert why is None
        assert end.outcomes[0].unfit
        return end.outcomes[0]

    assert (await unfit("sparkpost", message(), b"Subject: x\r\n\r\n\xff\xfe")).dsn == "5.6.3"
    for kind in KINDS:
        assert (await unfit(kind, message(smtputf8=True), CONTENT)).dsn == "5.6.7"
        assert (await unfit(kind, message(size=1001), CONTENT)).dsn == "5.3.4"


async def test_before_content_is_awaited_and_may_forbid_it() -> None:
    async def forbid() -> None:
        raise OSError(28, "No space left on device")

    with SesPeer() as peer:
        end, _ = await relay_one(upstream("ses", peer.port), DeliveryRequest(message(), CONTENT, before_content=forbid))
    assert not peer.posts
    assert end.outcomes[0].scope is Scope.SESSION


async def test_content_that_is_withheld_is_nobodys_trouble() -> None:
    async def withhold() -> None:
        raise ContentWithheld("too late")

    with SesPeer() as peer:
        request = DeliveryRequest(message(), CONTENT, before_content=withhold)
        end, why = await relay_one(upstream("ses", peer.port), request)
    assert (peer.posts, why) == ([], None)
    assert (end.outcomes[0].scope, end.outcomes[0].in_doubt) == (Scope.SESSION, False)
    assert not end.content_sent


QUOTA = {"SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 1200.0}}
DAY = {"used": 22003, "limit": 50000, "start": "2016-03-16T05:30:00.932Z", "end": "2016-03-17T05:30:00.932Z"}


@pytest.mark.parametrize(
    ("kind", "account", "limits"),
    [
        ("ses", Answer(200, QUOTA), [(14.0, 1.0, None), (50000.0, 86400.0, 1200.0)]),
        ("ses", ses_error(403, "AccessDeniedException", "no ses:GetAccount"), []),
        ("sparkpost", Answer(200, {"results": {"usage": {"day": DAY}}}), [(50000, 86400.0, 22003)]),
        ("sparkpost", Answer(403, {"errors": [{"message": "Forbidden."}]}), []),
    ],
)
async def test_the_accounts_limits_are_read_once_in_a_while(
    kind: str, account: Answer, limits: list[tuple[float, float, float | None]]
) -> None:
    with KINDS[kind](account=account) as peer:
        heard: list[ServerLimit] = []
        door = upstream(kind, peer.port, told=heard.extend)
        await relay_one(door)
        await relay_one(door)
    assert [(each.count, each.window, each.used) for each in heard] == limits
    assert len(peer.asked) - len(peer.posts) == 1


@pytest.mark.parametrize(
    ("kind", "account", "trouble"),
    [
        ("ses", ses_error(403, "UnrecognizedClientException", "The security token is invalid."), Trouble.AUTH),
        ("ses", Answer(200, {"SendingEnabled": False}), Trouble.ACCOUNT),
        ("ses", Answer(200, {"EnforcementStatus": "SHUTDOWN"}), Trouble.ACCOUNT),
        ("sparkpost", Answer(401, {"errors": [{"message": "Unauthorized."}]}), Trouble.AUTH),
    ],
)
async def test_an_account_that_may_not_send_is_no_session(kind: str, account: Answer, trouble: Trouble) -> None:
    with KINDS[kind](account=account) as peer:
        with pytest.raises(UpstreamUnavailable) as caught:
            await upstream(kind, peer.port).connect(Observer())
        await asyncio.sleep(0.02)
    assert caught.value.outcome.trouble is trouble
    assert caught.value.outcome.scope is Scope.UPSTREAM
    assert not any(secret in str(caught.value) for secret in (SECRET, API_KEY))


async def test_credentials_of_aws_default_chain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "session-token",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    chain: dict[str, Any] = {"access_key_id": None, "secret_access_key": None}
    with SesPeer() as peer:
        end, _ = await relay_one(upstream("ses", peer.port, **chain))
        assert end.outcomes[0].verdict is Verdict.RELAYED
        assert peer.posts[0].fields["x-amz-security-token"] == "session-token"
        expired = ses_error(403, "ExpiredTokenException", "The security token included in the request is expired")
        peer.acts = [expired, expired]
        door = upstream("ses", peer.port, **chain)
        again, why = await relay_one(door)
        assert (again.outcomes[0].scope, why) == (Scope.SESSION, None)
        assert (await relay_one(door))[0].outcomes[0].trouble is Trouble.AUTH
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(UpstreamUnavailable, match="no AWS credentials") as caught:
            await upstream("ses", peer.port, **chain).connect(Observer())
        await asyncio.sleep(0.02)
    assert caught.value.outcome.trouble is Trouble.AUTH


def test_secrets_are_in_no_repr() -> None:
    for kind in KINDS:
        door = upstream(kind, 1)
        assert not any(secret in f"{door!r} {vars(door)!r} {vars(door._api)!r}" for secret in (SECRET, API_KEY))


def test_who_needs_no_api_loads_none() -> None:
    program = (
        "import sys, relay.daemon.serving, relay.upstream.smtp, relay.config;"
        "sys.exit(', '.join({'aiohttp', 'botocore'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
