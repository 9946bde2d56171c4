"""Who signs: by the author's domain, at the door; for an upstream that wants it otherwise, at the attempt.

A draft is opened with a message's first octets and fed the rest of its body; what is to be signed of it is known here
and now, the signature comes from another process where it is RSA's (relay/signing/scribe.py). Ed25519 alone is signed
at once. Nothing here reads or writes a message's other parts; contents are in no text of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from relay.clock import Clock
from relay.dkim.bodies import BodyHash
from relay.dkim.choice import profile_of
from relay.dkim.fields import author_of, header_of
from relay.dkim.signatures import Canonicalization, Unsignable, Unsigned, in_order, prepare, unsigned
from relay.events import Emit, Notice
from relay.mail import UNSIGNED, Signatures
from relay.outcome import Reply
from relay.settings import DkimSettings, UpstreamDkimSettings, UpstreamSettings
from relay.signing.keys import PrivateKey, load_key
from relay.signing.scribe import Scribe

AHEAD: Final = 50
"""Messages that may wait for their signatures before who submits more should wait, too: some 12 ms."""
_REFUSALS: Final = {
    "defer": Reply(451, "Error: message can't be signed", "4.7.5"),
    "refuse": Reply(550, "Error: message can't be signed", "5.7.5"),
}
"""RFC 3463 §3.8: X.7.5, cryptographic failure."""
_ANY: Final = UpstreamDkimSettings()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain's keys, RSA first, and how it signs."""

    name: str
    keys: tuple[PrivateKey, ...]
    canonicalization: Canonicalization
    unsigned: Literal["send", "defer", "refuse"]

    @property
    def is_quick(self) -> bool:
        """Whether its signatures cost less than to have them made elsewhere."""
        return all(key.algorithm == "ed25519-sha256" for key in self.keys)


class Draft:
    """A message to be signed by ``domain``, while its body is read; ``flaw`` is why it can't be, "" for none."""

    __slots__ = ("_body", "body_hash", "domain", "flaw", "header")

    def __init__(self, domain: Domain, header: bytes, flaw: str = "") -> None:
        self.domain = domain
        self.header = header
        self.flaw = flaw
        self.body_hash = ""
        self._body = BodyHash(relaxed=domain.canonicalization.endswith("/relaxed"))

    def feed(self, octets: bytes) -> None:
        """Take the next octets of the body."""
        self._body.feed(octets)

    def recall(self, body_hash: str) -> bool:
        """Whether a hash that was kept is this body's by this canonicalisation; then nothing is to be fed."""
        by, _, kept = body_hash.partition(":")
        if by != self._canonicalization:
            return False
        self.body_hash = kept
        return True

    def kept_hash(self) -> str:
        """The hash with its canonicalisation, as it is kept; ends the feeding."""
        self.body_hash = self.body_hash or self._body.finish()
        return f"{self._canonicalization}:{self.body_hash}"

    @property
    def _canonicalization(self) -> str:
        return self.domain.canonicalization.partition("/")[2]


class Signer:
    """Signs for ``domains``, each upstream as it wants it. Raises :class:`~relay.signing.keys.KeyUnusable`.

    Messages are signed for the first of ``upstreams`` unless they name another one. Belongs to the event loop that it
    is made in; :meth:`close` ends its process.
    """

    def __init__(
        self, domains: Sequence[DkimSettings], upstreams: Sequence[UpstreamSettings], clock: Clock, emit: Emit
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._scribe: Scribe | None = None
        self.configure(domains, upstreams)

    def configure(self, domains: Sequence[DkimSettings], upstreams: Sequence[UpstreamSettings]) -> None:
        """Take other settings and read all keys again; where that fails all stays as it was. Blocks for some ms."""
        loaded = {domain.name: _load(domain) for domain in domains}
        self._domains: Mapping[str, Domain] = loaded
        self._wants = {each.name: each.dkim for each in upstreams}
        self._preferred = next(iter(self._wants), "")
        self.close()
        slow = [key for domain in loaded.values() if not domain.is_quick for key in domain.keys]
        self._scribe = Scribe(slow, self._warn) if slow else None

    def close(self) -> None:
        """End the process that signs; what it has been given is still signed."""
        if self._scribe is not None:
            self._scribe.close()

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for its signature that who submits more should wait, too."""
        return self._scribe is not None and self._scribe.due >= AHEAD

    def open(self, octets: bytes, sender: str) -> Draft | None:
        """Begin with a message's first octets, all of its header among them; None where it is nobody's to sign.

        Whose it is says its From field; where that says nothing, ``sender`` tells whose message can't be signed.
        """
        header = header_of(octets)
        author = author_of(header)
        domain = self._domains.get(author or sender.rpartition("@")[2].lower())
        if domain is None:
            return None
        whole = len(octets) >= len(header) + 2
        flaw = "" if author is not None and whole else "its author can't be read" if whole else "its header is too long"
        draft = Draft(domain, header, flaw)
        draft.feed(octets[len(header) + 2 :])
        return draft

    def begin(
        self, draft: Draft, queue_id: str, upstream: str | None = None
    ) -> Signatures | Reply | asyncio.Future[Signatures]:
        """Sign a draft that was fed all of its body, for ``upstream`` or the preferred one.

        What can't be signed goes unsigned, with a warning, or gets the refusal that its domain wants.
        """
        wants = self._wants.get(upstream or self._preferred, _ANY)
        body_hash = draft.kept_hash()
        try:
            fields = _unsigned(draft, wants, int(self._clock.now()))
        except Unsignable as why:
            self._warn(f"{queue_id}: not signed for {draft.domain.name}: {why}")
            return _REFUSALS.get(draft.domain.unsigned, UNSIGNED)
        build = partial(_signed, fields, profile_of(wants), body_hash)
        work = [(key, field.digest) for key, field in zip(draft.domain.keys, fields, strict=False)]
        if not work or draft.domain.is_quick or self._scribe is None:
            return build([key.sign(digest) for key, digest in work])
        return self._scribe.sign(work, build)

    async def sign(self, draft: Draft, queue_id: str, upstream: str | None = None) -> Signatures | Reply:
        """The same, and wait for it."""
        begun = self.begin(draft, queue_id, upstream)
        return begun if isinstance(begun, Signatures | Reply) else await begun

    def _warn(self, text: str) -> None:
        self._emit(Notice(self._clock.now(), "cleanup", text, warning=True))


def _load(settings: DkimSettings) -> Domain:
    # The modes were checked with the configuration.
    keys = in_order([load_key(key.key_file, key.selector, private=False) for key in settings.keys])
    return Domain(settings.name, keys, settings.canonicalization, settings.unsigned)


def _unsigned(draft: Draft, wants: UpstreamDkimSettings, now: int) -> Sequence[Unsigned]:
    """A field for each key of the draft's domain, or none at all."""
    if wants.signatures == 0:
        return ()
    if draft.flaw:
        raise Unsignable(draft.flaw)
    domain = draft.domain
    omitted = tuple(name.encode() for name in wants.leave_out)
    prepared = prepare(draft.header, domain.name, domain.canonicalization, omitted, alone=wants.alone)
    if prepared is None:
        return ()
    return [
        unsigned(
            prepared,
            key,
            domain=domain.name,
            canonicalization=domain.canonicalization,
            body_hash=draft.body_hash,
            now=now,
        )
        for key in domain.keys
    ]


def _signed(fields: Sequence[Unsigned], profile: str, body_hash: str, signatures: Sequence[bytes]) -> Signatures:
    each = (field.signed(signature) for field, signature in zip(fields, signatures, strict=True))
    return Signatures(b"".join(each), profile, body_hash)
