"""Messages and settlements to put into a spool under test."""

from __future__ import annotations

from relay.mail import Body, Envelope, Message, Priority, Recipient, RecipientState
from relay.spool import Arrival, Settled, Settlement

NOW = 1_800_000_000.0
"""When tests take place: any time will do, as it is passed in."""

CONTENT = b"Subject: greetings\r\n\r\n.\x00\xff caf\xc3\xa9\r\n"


def message(number: int, *addresses: str, size: int = len(CONTENT), sender: str = "app@example.com") -> Message:
    recipients = tuple(Recipient(n, address) for n, address in enumerate(addresses or ("to@example.net",)))
    return Message(number, Envelope(sender, recipients), size, NOW, f"<{number}@example.com>", "localhost[127.0.0.1]")


def arrival(
    number: int,
    *addresses: str,
    content: bytes | None = CONTENT,
    leased: bool = False,
    size: int | None = None,
    sender: str = "app@example.com",
    bounce_of: str | None = None,
) -> Arrival:
    octets = size if size is not None else len(content or b"")
    return Arrival(message(number, *addresses, size=octets, sender=sender), content, leased, bounce_of)


def rich(number: int) -> Message:
    """Everything that a message can carry."""
    recipients = (
        Recipient(0, "a@example.net", "SUCCESS,FAILURE", "rfc822;a+2Bx@example.net"),
        Recipient(1, "bücher@example.net", "NEVER"),
    )
    envelope = Envelope("", recipients, Body.EIGHT_BIT, smtputf8=True, ret="HDRS", envid="x+3Dy")
    return Message(
        number,
        envelope,
        len(CONTENT),
        NOW + 0.123,
        "<rich@example.com>",
        "localhost[::1]",
        NOW + 3600.0,
        "backup",
        Priority.BULK,
        "orders/42",
        '"8e03978e-40d5"',
    )


def settled(
    n: int = 0,
    state: RecipientState = RecipientState.RELAYED,
    *,
    due: float | None = None,
    attempts: int = 1,
    upstream: str = "ses",
    charged: bool = True,
    detail: str = "250 2.0.0 Ok",
) -> Settled:
    status = {RecipientState.RELAYED: "sent", RecipientState.FAILED: "bounced"}.get(state, "deferred")
    return Settled(
        n,
        "to@example.net",
        state,
        attempts,
        due,
        upstream,
        f"{upstream}[192.0.2.1]:25",
        status,
        "2.0.0",
        detail,
        "0.1/0/0/0.2",
        charged,
    )


def settlement(
    number: int, *recipients: Settled, nrcpt: int = 1, at: float = NOW + 1, bounces: tuple[Arrival, ...] = ()
) -> Settlement:
    return Settlement(number, nrcpt, at, recipients or (settled(),), bounces)
