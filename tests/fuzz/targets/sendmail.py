"""relay-sendmail: its command line, and the message on its standard input."""

from __future__ import annotations

import io

from relay.headers import header_end
from relay.outcome import Reply
from relay.sendmail.addresses import parse_list, parse_one
from relay.sendmail.arguments import parse
from relay.sendmail.exits import Exit, Failure
from relay.sendmail.message import read, recipients, with_from
from relay.smtp.address import parse_path
from relay.smtp.lineends import are_whole
from tests.fuzz.supply import Supply

SEEDS = (
    b"-t\0-i\0-fa@x.test\0\x01",
    b"-oi\0-F\0Ann \xc3\xbc\0-V\0id+\0-N\0never\0--\0-b@y.test\0\x01",
    b"-bs\0\x01",
    # Found: an argument that a terminal obeys.
    b"-\x1b[31m\0\x01",
    b"-qRexample.com\0\x01",
    b'To: a@x.test, "b, c" <d@y.test> (comment), group: e@f, g@h;\nCc: root\n\nbody\n.\nmore\x00',
    b"Resent-To: a@b\nTo: c@d\nBcc:\n e@f\n\n\x00",
    b'<@a,@b:c@d> , "x\\"y"@[127.0.0.1]\x02',
)


def check(octets: bytes) -> None:
    supply = Supply(octets)
    kind = supply.number(3)
    if kind == 0:
        _message(supply)
    elif kind == 1:
        _arguments(supply.rest())
    else:
        _addresses(supply.rest().decode("utf-8", "surrogateescape"))


def _arguments(given: bytes) -> None:
    arguments = [each.decode("utf-8", "surrogateescape") for each in given.split(b"\0") if each]
    for name in ("sendmail", "mailq", "newaliases"):
        try:
            invocation = parse(name, arguments)
        except Failure as failure:
            _is(failure, Exit.USAGE)
        else:
            assert invocation.envid is None or invocation.envid.isascii()
            assert all(each in arguments for each in invocation.recipients)


def _message(supply: Supply) -> None:
    dot_ends = supply.choice()
    given = supply.rest()
    content = read(io.BytesIO(given), dot_ends=dot_ends)
    assert are_whole(content)
    assert not content or content.endswith(b"\r\n")
    for name in ("", "Ann Ü", 'a"b\\\r\nBcc: x'):
        mended = with_from(content, "a@x.test", name)
        assert are_whole(mended)
        assert with_from(mended, "b@x.test", "B") == mended
        assert mended.endswith(content[header_end(content) :])
    try:
        found = recipients(content)
    except Failure as failure:
        _is(failure, Exit.DATA)
    else:
        _usable(found)


def _addresses(text: str) -> None:
    try:
        found = parse_list(text)
    except Failure as failure:
        _is(failure, Exit.DATA)
        found = []
    _usable(found)
    try:
        _usable([address for address in [parse_one(text)] if address])
    except Failure as failure:
        _is(failure, Exit.DATA)


def _usable(addresses: list[str]) -> None:
    for address in addresses:
        path = parse_path(f"<{address}>")
        assert not isinstance(path, Reply)
        assert path.address == address


def _is(failure: Failure, code: Exit) -> None:
    assert failure.exit is code
    assert str(failure).isprintable()
