"""What a server says to EHLO, as aiosmtplib takes it apart, and what may be sent to it then."""

from __future__ import annotations

from aiosmtplib.esmtp import parse_esmtp_extensions

from relay.mail import Body, Envelope, Recipient
from relay.smtp.capabilities import cannot_take, capabilities_of
from relay.upstream.auth import complaint_of, mechanisms
from tests.fuzz.supply import Supply

SEEDS = (
    b"relay.test\nPIPELINING\nSIZE 25000000\n8BITMIME\nSMTPUTF8\nDSN\nCHUNKING\nLIMITS RCPTMAX=10 MAILMAX=5\n",
    b"relay.test\nAUTH PLAIN LOGIN CRAM-MD5\nAUTH=LOGIN\nSIZE\n",
    b"x\nSIZE 99999999999999999999999\nLIMITS RCPTMAX=-1 MAILMAX=\xd9\xa3 X\nlimits\n",
    b"eyJzdGF0dXMiOiI0MDEiLCJzY29wZSI6Im1haWwifQ==",
)


def check(octets: bytes) -> None:
    text = Supply(octets).rest().decode("utf-8", "replace")
    extensions, offered = parse_esmtp_extensions(text)
    known = capabilities_of(extensions)
    assert min(known.max_size, known.max_messages, known.max_recipients) >= 0
    assert known.max_size == 0 or known.size
    envelope = Envelope("a@x.test", (Recipient(0, "b@y.test"),), Body.EIGHT_BIT, smtputf8=True)
    refused = cannot_take(known, envelope, b"\xff", 100, host="up")
    fits = known.smtputf8 and known.eightbit and not 0 < known.max_size < 100
    assert (refused is None) == fits
    for trusted in (False, True):
        assert set(mechanisms("auto", offered, trusted=trusted)) <= set(offered)
    assert complaint_of(text.partition("\n")[0]).isprintable()
