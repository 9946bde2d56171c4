"""Webhooks: whose notifications are acted on, and which are not."""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from relay.clock import SystemClock
from relay.daemon.feedback import BODY_MOST, FeedbackDesk, fetcher
from relay.events import Reported
from relay.feedback import Unbelievable
from relay.feedback.sns import read_message
from relay.outcome import unavailable
from relay.settings import FeedbackSettings, ListenerSettings, Secret, Settings, SuppressionSettings, UpstreamSettings
from relay.suppression import digest_of
from relay.upstream import UpstreamUnavailable
from tests.delivery.scene import START, FakeUpstream, Scene

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
COMPLAINT = json.dumps(
    {
        "notificationType": "Complaint",
        "mail": {"source": "a@x.test"},
        "complaint": {"complainedRecipients": [{"emailAddress": "b@y.test"}], "complaintFeedbackType": "abuse"},
    }
)
SETTINGS = Settings(
    "relay.test",
    (UpstreamSettings("up", kind="simulator"),),
    (ListenerSettings(),),
    suppression=SuppressionSettings(),
    feedback=(
        FeedbackSettings("ses", "ses", topics=(TOPIC,)),
        FeedbackSettings("sp", "sparkpost", "up", token=Secret("t0ken")),
    ),
)


def pem(key: rsa.RSAPrivateKey, at: float = START) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begins = datetime.fromtimestamp(at, UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begins).not_valid_after(begins + timedelta(days=1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def signed(key: rsa.RSAPrivateKey, version: str = "2", **changes: Any) -> dict[str, Any]:
    message = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": COMPLAINT,
        "Timestamp": "2012-05-02T00:54:06.655Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
    } | changes
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    hashed = SHA1() if version == "1" else SHA256()
    message["Signature"] = b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashed)).decode()
    return message


class Web:
    """Who answers where; counts what is asked."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self.pages = {CERTIFICATE: pem(key), SUBSCRIBE: b"<ConfirmSubscriptionResponse/>"}
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.pages:
            raise UpstreamUnavailable(unavailable("no answer"))
        return self.pages[url]


class Stage:
    def __init__(self, key: rsa.RSAPrivateKey, settings: Settings = SETTINGS) -> None:
        self.scene = Scene(FakeUpstream("up"))
        self.web = Web(key)
        scene = self.scene
        self.desk = FeedbackDesk(scene.spool, scene.clock, scene.events.append, scene.engine, settings, self.web.fetch)

    async def post(self, message: object, provider: str = "ses", **headers: str) -> int:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        status = await self.desk.take(
            provider, {name.replace("_", "-"): value for name, value in headers.items()}, body
        )
        await self.desk.suppressing.written()
        return status

    @property
    def heard(self) -> int:
        return len(self.scene.seen(Reported))


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_complaint_of_ses_suppresses(key: rsa.RSAPrivateKey, version: str) -> None:
    stage = Stage(key)
    assert await stage.post(signed(key, version, Subject="Amazon SES Email Event")) == 200
    assert stage.scene.seen(Reported) == [Reported(START, "", "b@y.test", "complaint", "ses", "complaint abuse")]
    assert digest_of("b@y.test") in stage.scene.spool.listed
    assert stage.web.asked == [CERTIFICATE]


async def test_one_that_comes_again_counts_once(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key)
    message = signed(key)
    assert [await stage.post(message) for _ in range(3)] == [200] * 3
    assert stage.heard == 1
    assert stage.web.asked == [CERTIFICATE], "the certificate is remembered"
    await stage.post(signed(key, MessageId="another"))
    assert stage.heard == 2


FORGERIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another text": lambda m: m | {"Message": COMPLAINT.replace("b@y.test", "c@y.test")},
    "a subject that was not there": lambda m: m | {"Subject": "x"},
    "another topic": lambda m: m | {"TopicArn": TOPIC.replace("mail", "else")},
    "no signature": lambda m: m | {"Signature": ""},
    "another's signature": lambda m: m | {"Signature": b64encode(bytes(256)).decode()},
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_forgeries_are_401(key: rsa.RSAPrivateKey, name: str) -> None:
    stage = Stage(key)
    assert await stage.post(FORGERIES[name](signed(key))) == 401
    assert not stage.heard


@pytest.mark.parametrize(
    "changes",
    [
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem"},
        {"SigningCertURL": "https://evil.example/sns.eu-west-1.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://x@sns.eu-west-1.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com:444/x.pem"},
        {"SigningCertURL": "http://sns.eu-west-1.amazonaws.com/x.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/x.txt"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/x\r\n.pem"},
        {"SigningCertURL": "https://[sns/x.pem"},
        {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": "https://169.254.169.254/latest/"},
        {"Type": "SubscriptionConfirmation"},
        {"Type": "Else"},
        {"SignatureVersion": "3"},
        {"MessageId": 3},
    ],
)
async def test_what_amazon_would_not_send_is_400_and_nothing_is_asked(
    key: rsa.RSAPrivateKey, changes: dict[str, Any]
) -> None:
    stage = Stage(key)
    assert await stage.post(signed(key) | changes) == 400
    assert not stage.web.asked
    assert not stage.heard


async def test_bodies_that_are_none(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key)
    for body in (b"", b"\xff", b"[]", b"{}", b"[" * 100_000):
        assert await stage.post(body) == 400
    assert await stage.post(b"x" * (BODY_MOST + 1)) == 413
    assert await stage.post(signed(key, Message="no JSON")) == 400
    with pytest.raises(Unbelievable):
        read_message(b"x" * 1_000_001)


async def test_a_certificate_that_is_none_or_over_proves_nothing(key: rsa.RSAPrivateKey) -> None:
    for certificate in (b"<html>", pem(key, START - 172_800), pem(key, START + 60)):
        stage = Stage(key)
        stage.web.pages[CERTIFICATE] = certificate
        assert await stage.post(signed(key)) == 401


async def test_where_it_can_not_be_had_it_is_to_come_again(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key)
    certificate = stage.web.pages.pop(CERTIFICATE)
    assert await stage.post(signed(key)) == 503
    stage.web.pages[CERTIFICATE] = certificate
    assert await stage.post(signed(key)) == 200


async def test_a_subscription_to_our_topic_is_confirmed(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key)
    asked = {"Type": "SubscriptionConfirmation", "Token": "t", "Message": "You have chosen …"}
    assert await stage.post(signed(key, **asked, SubscribeURL=SUBSCRIBE)) == 200
    assert stage.web.asked == [CERTIFICATE, SUBSCRIBE]
    others = signed(key, **asked, SubscribeURL=SUBSCRIBE, TopicArn=TOPIC.replace("1234", "4321"))
    assert await stage.post(others) == 401
    assert stage.web.asked == [CERTIFICATE, SUBSCRIBE]
    tried = "Successfully validated SNS topic for Amazon SES event publishing."
    assert await stage.post(signed(key, Message=tried)) == 200


SPARKPOST = [{"msys": {"message_event": {"type": "spam_complaint", "rcpt_to": "b@y.test"}}}]


async def test_sparkpost_by_its_token(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key)
    assert await stage.post(SPARKPOST, "sp") == 401
    assert await stage.post(SPARKPOST, "sp", x_messagesystems_webhook_token="t0ken") == 200
    assert stage.heard == 1
    for _ in range(2):
        batch = {"x_messagesystems_webhook_token": "t0ken", "x_messagesystems_batch_id": "7"}
        assert await stage.post(SPARKPOST, "sp", **batch) == 200
    assert stage.heard == 2
    assert await stage.post({"no": "batch"}, "sp", x_messagesystems_webhook_token="t0ken") == 400


async def test_nobody_of_that_name_until_the_settings_say_so(key: rsa.RSAPrivateKey) -> None:
    stage = Stage(key, replace(SETTINGS, feedback=(), suppression=None))
    asked = [stage.desk.doorkeeper]
    assert await stage.post(signed(key)) == 404
    stage.desk.configure(SETTINGS)
    asked.append(stage.desk.doorkeeper)
    assert asked == [None, stage.desk.suppressing]
    assert await stage.post(signed(key)) == 200


async def test_pages_come_over_https_from_whom_is_vouched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, asked = trustme.CA(), list[bytes]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.partition(b"\r\n")[0])
        status = b"200 OK" if b"/x.pem" in head else b"302 Found\r\nLocation: /x.pem"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    place = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    fetch = fetcher(SystemClock())
    with pytest.raises(UpstreamUnavailable, match="not verified"):
        await fetch(f"{place}/x.pem")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert await fetch(f"{place}/x.pem?a=b") == b"page"
    with pytest.raises(UpstreamUnavailable, match="302"):
        await fetch(f"{place}/elsewhere")
    assert asked == [b"GET /x.pem?a=b HTTP/1.1", b"GET /elsewhere HTTP/1.1"]
    server.close()
    await server.wait_closed()
    with pytest.raises(UpstreamUnavailable):
        await fetch(f"{place}/x.pem")
