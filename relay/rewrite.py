"""Addresses of an envelope as ``[rewrite]`` wants them: at the door, once, each change told (RFC 6409 §8.7). Pure.

A recipient that an alias names becomes its target; whatever has no domain then gets the default one, so that
``MAIL FROM:<root>`` and ``RCPT TO:<root>``, as cron sends them, become addresses that an upstream takes. Header fields
stay as they are. A target is not looked up again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from relay.mail import Envelope, Recipient, has_domain
from relay.value import dataclass


@dataclass(frozen=True, slots=True)
class Rewritten:
    """An envelope after the rewriting; ``repairs`` tells each change, for the log."""

    envelope: Envelope
    repairs: tuple[str, ...] = ()


class Rewriting:
    """What is done to addresses. ``aliases`` pairs a local part without a domain, or a whole address, with a whole
    address; which letters are capitals does not matter.
    """

    __slots__ = ("_aliases", "_default_domain")

    def __init__(self, default_domain: str, aliases: Iterable[tuple[str, str]] = ()) -> None:
        self._default_domain = default_domain
        self._aliases = {name.lower(): target for name, target in aliases}

    def rewrite(self, given: Envelope) -> Rewritten:
        """Rewrite reverse-path and forward-paths. Recipients that became the same one are one from then on."""
        if not self._aliases and _is_whole(given.sender) and all(_is_whole(r.address) for r in given.recipients):
            return Rewritten(given)
        repairs = []
        sender = self._completed(given.sender)
        if sender != given.sender:
            repairs.append(f"sender {given.sender} -> {sender}")
        kept: dict[str, Recipient] = {}
        recipients: list[Recipient] = []
        for recipient in given.recipients:
            address = self.recipient(recipient.address)
            changed = address != recipient.address
            if changed:
                repairs.append(f"recipient {recipient.address} -> {address}")
            there = kept.get(address)
            # What the application itself named twice stays twice.
            if there is not None and (changed or there.address != address):
                continue
            kept.setdefault(address, recipient)
            recipients.append(replace(recipient, n=len(recipients), address=address))
        return Rewritten(replace(given, sender=sender, recipients=tuple(recipients)), tuple(repairs))

    def recipient(self, address: str) -> str:
        """What a recipient's address becomes."""
        target = self._aliases.get(address.lower())
        if target is not None:
            return target
        whole = self._completed(address)
        return self._aliases.get(whole.lower(), whole)

    def _completed(self, address: str) -> str:
        return address if _is_whole(address) else f"{address}@{self._default_domain}"


def _is_whole(address: str) -> bool:
    """Whether nothing is wanting: the null path, or an address with a domain."""
    return not address or has_domain(address)
