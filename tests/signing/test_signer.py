"""Who is signed for, by which keys, as which upstream wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from relay.clock import SystemClock
from relay.dkim.verifying import verify
from relay.events import Event, Notice
from relay.mail import UNSIGNED, Signatures
from relay.outcome import Reply
from relay.settings import DkimKeySettings, DkimSettings, UpstreamDkimSettings, UpstreamSettings
from relay.signing.keys import KeyUnusable, PrivateKey, load_key, make_key, write_key
from relay.signing.scribe import Scribe
from relay.signing.signer import AHEAD, Signer

HEADER = b"From: Ann <a@example.com>\r\nTo: b@y.test\r\nDate: z\r\nMessage-ID: <m@x>\r\n"
BODY = b"hello\r\n" * 20_000
MAIN = UpstreamSettings("main")
SES = UpstreamSettings("ses", dkim=UpstreamDkimSettings(1, ("date", "message-id"), alone=True))


class Office:
    """A signer with two keys for example.com."""

    def __init__(self, folder: Path, unsigned: Literal["send", "defer", "refuse"] = "send", *kinds: str) -> None:
        self.events: list[Event] = []
        keys = []
        for kind in kinds or ("ed25519", "rsa"):
            path = folder / f"{kind}.pem"
            write_key(path, make_key(kind, "rsa", 1024) if kind == "rsa" else make_key(kind, "ed25519"))
            keys.append(DkimKeySettings(kind, str(path)))
        self.domain = DkimSettings("example.com", tuple(keys), unsigned=unsigned)
        self.signer = Signer([self.domain], [MAIN, SES], SystemClock(), self.events.append)

    def record(self, name: str) -> str | None:
        keys = {f"{k.selector}._domainkey.example.com": k.key_file for k in self.domain.keys}
        return load_key(keys[name], "s").record() if name in keys else None

    async def sign(self, header: bytes, upstream: str | None = None, sender: str = "a@example.com") -> object:
        draft = self.signer.open(header + b"\r\n" + BODY[:1000], sender)
        if draft is None:
            return None
        for start in range(1000, len(BODY), 777):
            draft.feed(BODY[start : start + 777])
        return await self.signer.sign(draft, "ABC123", upstream)


@pytest.fixture(autouse=True)
async def no_process_stays(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    made: list[Scribe] = []

    def scribe(keys: Sequence[PrivateKey], tell: Callable[[str], None]) -> Scribe:
        made.append(Scribe(keys, tell))
        return made[-1]

    monkeypatch.setattr("relay.signing.signer.Scribe", scribe)
    yield
    for each in made:
        each.close()
    async with asyncio.timeout(20):
        while any(each.pid for each in made):  # noqa: ASYNC110 - there is nothing else to be told by
            await asyncio.sleep(0.002)


async def test_all_keys_sign_rsa_first(tmp_path: Path) -> None:
    office = Office(tmp_path)
    signed = await office.sign(HEADER)
    assert isinstance(signed, Signatures)
    found = verify(signed.fields + HEADER + b"\r\n" + BODY, office.record)
    assert [(each.selector, each.passed) for each in found] == [("rsa", True), ("ed25519", True)]
    assert signed.profile == ""
    assert signed.body_hash.startswith("simple:")
    assert not office.events


async def test_an_upstream_that_writes_fields_itself(tmp_path: Path) -> None:
    office = Office(tmp_path)
    signed = await office.sign(HEADER, "ses")
    assert isinstance(signed, Signatures)
    assert signed.profile == "date,message-id,alone"
    rewritten = HEADER.replace(b"Date: z", b"Date: y").replace(b"m@x", b"n@y")
    assert all(each.passed for each in verify(signed.fields + rewritten + b"\r\n" + BODY, office.record))
    signed = await office.sign(b"DKIM-Signature: v=1; d=other.example; s=x\r\n" + HEADER, "ses")
    assert isinstance(signed, Signatures)
    assert (signed.fields, signed.profile) == (b"", "date,message-id,alone")


async def test_a_kept_body_hash_spares_the_body(tmp_path: Path) -> None:
    office = Office(tmp_path, "send", "ed25519")
    first = await office.sign(HEADER)
    assert isinstance(first, Signatures)
    draft = office.signer.open(HEADER + b"\r\n", "")
    assert draft is not None
    assert not draft.recall("")
    assert not draft.recall("relaxed:" + first.body_hash.partition(":")[2])
    assert draft.recall(first.body_hash)
    again = await office.signer.sign(draft, "ABC123", "ses")
    assert isinstance(again, Signatures)
    assert again.body_hash == first.body_hash
    assert all(each.passed for each in verify(again.fields + HEADER + b"\r\n" + BODY, office.record))


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@sub.example.com\r\n",
        b"From: a@example.org\r\nSender: a@example.com\r\n",
        b"From: b@example.org, a@example.com\r\n",
    ],
)
async def test_only_this_very_domain_is_signed_for(tmp_path: Path, header: bytes) -> None:
    assert await Office(tmp_path).sign(header) is None


async def test_what_is_signed_already_gets_none_whatever_the_upstream(tmp_path: Path) -> None:
    office = Office(tmp_path)
    signed = await office.sign(b"DKIM-Signature: v=1; d=example.com; s=x\r\n" + HEADER)
    assert isinstance(signed, Signatures)
    assert signed.fields == b""


@pytest.mark.parametrize(
    ("unsigned", "becomes"),
    [
        ("send", UNSIGNED),
        ("defer", Reply(451, "Error: message can't be signed", "4.7.5")),
        ("refuse", Reply(550, "Error: message can't be signed", "5.7.5")),
    ],
)
@pytest.mark.parametrize("header", [b"To: b@y.test\r\n", b"From: Ann\r\n", HEADER + b"From: e@example.com\r\n"])
async def test_what_can_not_be_signed_goes_by_the_domains_policy(
    tmp_path: Path, unsigned: Literal["send", "defer", "refuse"], becomes: object, header: bytes
) -> None:
    office = Office(tmp_path, unsigned)
    assert await office.sign(header) == becomes
    (event,) = office.events
    assert isinstance(event, Notice)
    assert event.warning
    assert event.text.startswith("ABC123: not signed for example.com: it")
    assert await office.sign(b"To: b@y.test\r\n", sender="a@elsewhere.example") is None


async def test_keys_are_read_again_and_kept_where_they_can_not_be(tmp_path: Path) -> None:
    office = Office(tmp_path, "send", "ed25519")
    before = await office.sign(HEADER)
    (tmp_path / "ed25519.pem").unlink()
    with pytest.raises(KeyUnusable):
        office.signer.configure([office.domain], [MAIN])
    kept = await office.sign(HEADER)
    assert isinstance(before, Signatures)
    assert isinstance(kept, Signatures)
    write_key(tmp_path / "ed25519.pem", make_key("ed25519", "ed25519"))
    assert not any(each.passed for each in verify(kept.fields + HEADER + b"\r\n" + BODY, office.record))
    office.signer.configure([replace(office.domain, canonicalization="relaxed/relaxed")], [MAIN])
    after = await office.sign(HEADER)
    assert isinstance(after, Signatures)
    assert after.body_hash.startswith("relaxed:")
    assert all(each.passed for each in verify(after.fields + HEADER + b"\r\n" + BODY, office.record))
    office.signer.configure([], [MAIN])
    assert await office.sign(HEADER) is None


async def test_what_was_opened_before_a_reload_is_signed_by_its_own_keys(tmp_path: Path) -> None:
    office = Office(tmp_path)
    draft = office.signer.open(HEADER + b"\r\n" + BODY, "")
    assert draft is not None
    records = {name: office.record(name) for name in ("rsa._domainkey.example.com", "ed25519._domainkey.example.com")}
    for kind in ("rsa", "ed25519"):
        (tmp_path / f"{kind}.pem").unlink()
        write_key(tmp_path / f"{kind}.pem", make_key(kind, "rsa") if kind == "rsa" else make_key(kind, "ed25519"))
    office.signer.configure([office.domain], [MAIN])
    signed = await office.signer.sign(draft, "ABC123")
    assert isinstance(signed, Signatures)
    assert [each.passed for each in verify(signed.fields + HEADER + b"\r\n" + BODY, records.get)] == [True, True]


async def test_it_says_when_too_much_waits(tmp_path: Path) -> None:
    office = Office(tmp_path)
    begun = []
    for _ in range(AHEAD):
        assert not office.signer.is_behind
        draft = office.signer.open(HEADER + b"\r\n", "")
        assert draft is not None
        begun.append(office.signer.begin(draft, "ABC123"))
    assert office.signer.is_behind
    await asyncio.gather(*(each for each in begun if isinstance(each, asyncio.Future)))
    assert not office.signer.is_behind


async def test_ed25519_alone_needs_no_process(tmp_path: Path) -> None:
    office = Office(tmp_path, "send", "ed25519")
    draft = office.signer.open(HEADER + b"\r\n", "")
    assert draft is not None
    assert isinstance(office.signer.begin(draft, "ABC123"), Signatures)
    assert office.signer._scribe is None
