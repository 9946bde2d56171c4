"""What MAIL, RCPT and BDAT are given: read without an exception, and said again the same towards an upstream."""

from __future__ import annotations

from relay.mail import Envelope, Recipient
from relay.outcome import Reply
from relay.rewrite import Rewriting
from relay.smtp.address import MAX_PATH, has_control
from relay.smtp.arguments import parse_mail, parse_rcpt
from relay.smtp.bdat import parse_bdat
from relay.smtp.capabilities import Capabilities
from relay.smtp.senders import may_send
from relay.smtp.steps import Transaction, steps_of
from tests.fuzz.supply import Supply

SEEDS = (
    b"<a@x.test> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=Ab+2Bc\x00",
    b"<Bob@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2B@y\x01",
    b'<"a b\\"@c"@[IPv6:::1]> AUTH=<>\x00',
    b"<@a.test,@b.test:c@d.test>\x01",
    "<ü@bücher.test> SMTPUTF8".encode() + b"\x00",
    b"<> SIZE=1\x00",
    b"root\x01",
    b"Postmaster\x01",
    b"123 LAST\x02",
)
_ALL = Capabilities(pipelining=True, size=True, eightbit=True, smtputf8=True, chunking=True, dsn=True)
_COMPLETING = Rewriting("relay.test", {"root": "ops@x.test"}.items())


def check(octets: bytes) -> None:
    supply = Supply(octets)
    kind = supply.number(3)
    text = supply.rest().decode("utf-8", "surrogateescape")
    if kind == 0:
        _mail(text)
    elif kind == 1:
        _rcpt(text)
    else:
        chunk = parse_bdat(text)
        assert chunk is None or 0 <= chunk.size < 10**20


def _mail(text: str) -> None:
    mail = parse_mail(f"FROM:{text}")
    if isinstance(mail, Reply):
        _refusal(mail)
        return
    may_send(mail.address, ("*@x.test", "<>", "a*@*"))
    given = Envelope(mail.address, (Recipient(0, "b@y.test"),), mail.body, mail.smtputf8, mail.ret, mail.envid)
    envelope = _COMPLETING.rewrite(given).envelope
    _clean(envelope.sender)
    command = _said(envelope, mail.size or 0)[0]
    again = parse_mail(command.removeprefix("MAIL "))
    assert not isinstance(again, Reply) or len(mail.address) > MAX_PATH - 20, again
    if not isinstance(again, Reply):
        assert again == mail._replace(address=envelope.sender, size=mail.size or 0)


def _rcpt(text: str) -> None:
    for smtputf8 in (False, True):
        rcpt = parse_rcpt(f"TO:{text}", smtputf8=smtputf8)
        if isinstance(rcpt, Reply):
            _refusal(rcpt)
            continue
        recipient = Recipient(0, rcpt.address, rcpt.notify, rcpt.orcpt)
        envelope = _COMPLETING.rewrite(Envelope("a@x.test", (recipient,), smtputf8=smtputf8)).envelope
        _clean(envelope.recipients[0].address)
        command = _said(envelope, 0)[1]
        again = parse_rcpt(command.removeprefix("RCPT "), smtputf8=smtputf8)
        assert not isinstance(again, Reply) or len(rcpt.address) > MAX_PATH - 20, again
        if not isinstance(again, Reply):
            assert again == rcpt._replace(address=envelope.recipients[0].address)


def _said(envelope: Envelope, size: int) -> list[str]:
    transaction = Transaction(0, envelope, b"", size, [None])
    lines = [step.octets for step in steps_of(transaction, _ALL, chunked=True)]
    assert all(line.endswith(b"\r\n") and line.count(b"\n") == line.count(b"\r") == 1 for line in lines)
    return [line.removesuffix(b"\r\n").decode() for line in lines]


def _clean(address: str) -> None:
    assert not has_control(address)
    address.encode()  # no lone surrogates


def _refusal(reply: Reply) -> None:
    assert reply.code in {501, 553, 555}
    assert reply.enhanced is not None
    assert reply.enhanced.startswith("5.")
