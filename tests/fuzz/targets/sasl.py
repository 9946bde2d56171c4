"""AUTH's answers: credentials, or a refusal; a password is never part of what is shown."""

from __future__ import annotations

import base64

from relay.outcome import Reply
from relay.smtp import sasl
from tests.fuzz.supply import Supply

SEEDS = (
    b"AGJpbGxpbmcAc2VjcmV0",
    b"\0billing\0secret\x01",
    b"billing\0billing\0\xc3\xa9\x01",
    b"=",
    b"*",
    b"VXNlcm5hbWU6\x02",
)


def check(octets: bytes) -> None:
    supply = Supply(octets)
    encode = supply.choice()
    given = supply.rest()
    response = base64.b64encode(given).decode() if encode else given.decode("utf-8", "surrogateescape")
    for decode in (sasl.decode, sasl.decode_initial):
        message = decode(response)
        if isinstance(message, Reply):
            assert message.code == 501
            assert not encode
            continue
        assert decode(base64.b64encode(message).decode()) == message
        assert len(message) <= len(response) * 3 / 4 or response == "="
        half = len(message) // 2
        for found in (sasl.plain(message), sasl.login(message[:half], message[half:])):
            if not isinstance(found, Reply):
                assert sasl.text(found.user.encode()) == found.user
                assert "password" not in repr(found)
