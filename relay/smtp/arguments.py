"""The arguments of MAIL and RCPT: path and ESMTP parameters, as values (RFC 5321 §4.1.1.2, §4.1.1.3).

Known parameters: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954), RET, ENVID, NOTIFY and
ORCPT (RFC 3461). Their values are kept as given, case included, but AUTH's, which is for servers that trust us; ENVID
and ORCPT are checked to be xtext and stay encoded. White space between the colon and the path is borne, as is a path
without angle brackets. Functions never raise; a refusal is a Reply.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final, NamedTuple

from relay.mail import Body
from relay.outcome import Reply
from relay.smtp.address import needs_smtputf8, parse_path

MAX_ENVID: Final = 100
"""Characters of an ENVID (RFC 3461 §4.4)."""
MAX_ORCPT: Final = 500
"""Characters of an ORCPT (RFC 3461 §4.2)."""

_FROM: Final = re.compile(r"FROM ?+:[ ]*+", re.IGNORECASE)
_TO: Final = re.compile(r"TO ?+:[ ]*+", re.IGNORECASE)
_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+\Z")
# RFC 1870 §4: twenty digits at the most. \d would take other scripts' digits, which int() reads too.
_SIZE: Final = re.compile(r"[0-9]{1,20}\Z")
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*+\Z")
# RFC 6533 §3: under SMTPUTF8 the address after "utf-8;" may hold UTF-8 as it is.
_XTEXT_WIDE: Final = re.compile("(?:[!-*,-<>-~\u0080-\ud7ff\ue000-\U0010ffff]|\\+[0-9A-F]{2})*+\\Z")
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+\Z")
_BODIES: Final = MappingProxyType({body.value: body for body in Body})
_NOTIFY_WORDS: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})


class Mail(NamedTuple):
    """An argument of MAIL: the reverse-path ("" is the null one) and its parameters."""

    address: str
    size: int | None = None
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None


class Rcpt(NamedTuple):
    """An argument of RCPT: the forward-path and its parameters."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


def parse_mail(argument: str) -> Mail | Reply:
    """Read what follows ``MAIL``, its octets decoded as UTF-8 with ``surrogateescape``, line end removed."""
    keyword = _FROM.match(argument)
    if keyword is None or keyword.end() == len(argument):
        return _bad("Syntax: MAIL FROM:<address>")
    text = argument[keyword.end() :]
    path = parse_path(text, null=True)
    if isinstance(path, Reply):
        return path
    if path.end == len(text):
        if needs_smtputf8(path.address):
            return _SMTPUTF8_NEEDED
        return Mail(path.address)
    parameters = _parameters(text[path.end :])
    if isinstance(parameters, Reply):
        return parameters
    mail = _mail_parameters(path.address, parameters)
    if isinstance(mail, Mail) and not mail.smtputf8 and needs_smtputf8(path.address):
        return _SMTPUTF8_NEEDED
    return mail


def parse_rcpt(argument: str, *, smtputf8: bool = False) -> Rcpt | Reply:
    """Read what follows ``RCPT``, as :func:`parse_mail`; ``smtputf8``: the transaction's MAIL asked for it."""
    keyword = _TO.match(argument)
    if keyword is None or keyword.end() == len(argument):
        return _bad("Syntax: RCPT TO:<address>")
    text = argument[keyword.end() :]
    path = parse_path(text, postmaster=True)
    if isinstance(path, Reply):
        return path
    if not smtputf8 and needs_smtputf8(path.address):
        return _SMTPUTF8_NEEDED
    if path.end == len(text):
        return Rcpt(path.address)
    parameters = _parameters(text[path.end :])
    if isinstance(parameters, Reply):
        return parameters
    notify = orcpt = None
    for name, value in parameters.items():
        match name:
            case "NOTIFY" if value is not None and _is_notify(value):
                notify = value
            case "ORCPT" if value is not None and _is_orcpt(value, smtputf8=smtputf8):
                orcpt = value
            case "NOTIFY" | "ORCPT":
                return _bad(f"Error: bad value of {name}")
            case _:
                return _unknown("RCPT TO")
    return Rcpt(path.address, notify, orcpt)


def _mail_parameters(address: str, parameters: dict[str, str | None]) -> Mail | Reply:
    size = ret = envid = None
    body = Body.SEVEN_BIT
    smtputf8 = False
    for name, value in parameters.items():
        match name:
            case "SIZE" if value is not None and _SIZE.match(value):
                size = int(value)
            case "BODY" if value is not None and value.upper() in _BODIES:
                body = _BODIES[value.upper()]
            case "SMTPUTF8" if value is None:
                smtputf8 = True
            case "RET" if value is not None and value.upper() in {"FULL", "HDRS"}:
                ret = value
            case "ENVID" if value is not None and len(value) <= MAX_ENVID and _XTEXT.match(value):
                envid = value
            case "AUTH" if value is not None and (value == "<>" or _XTEXT.match(value)):
                pass  # RFC 4954 §5: who authenticated it first; we are no party to such trust, as §5 allows
            case "SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH":
                return _bad(f"Error: bad value of {name}")
            case _:
                return _unknown("MAIL FROM")
    return Mail(address, size, body, smtputf8, ret, envid)


def _parameters(text: str) -> dict[str, str | None] | Reply:
    """Split `` KEY=value KEY`` (RFC 5321 §4.1.2: esmtp-param); keywords in upper case, values as given."""
    if text[0] != " ":
        return _bad("Error: space expected after the address")
    parameters: dict[str, str | None] = {}
    for parameter in text.split(" "):
        if not parameter:
            continue
        keyword, separator, value = parameter.partition("=")
        name = keyword.upper()
        if not _KEYWORD.match(keyword) or (separator and not value) or name in parameters:
            return _bad("Error: bad parameter syntax")
        parameters[name] = value if separator else None
    return parameters


def _is_notify(value: str) -> bool:
    """RFC 3461 §4.1: NEVER alone, or a list without repetition."""
    words = value.upper().split(",")
    return words == ["NEVER"] or (len(words) == len(set(words)) and _NOTIFY_WORDS.issuperset(words))


def _is_orcpt(value: str, *, smtputf8: bool) -> bool:
    """RFC 3461 §4.2: address type, semicolon, xtext."""
    kind, separator, address = value.partition(";")
    xtext = _XTEXT_WIDE if smtputf8 else _XTEXT
    return bool(
        len(value) <= MAX_ORCPT and separator and address and _ADDRESS_TYPE.match(kind) and xtext.match(address)
    )


def _bad(text: str) -> Reply:
    return Reply(501, text, "5.5.4")


def _unknown(command: str) -> Reply:
    """RFC 5321 §4.1.1.11: 555. The parameter isn't repeated: it is foreign text."""
    return Reply(555, f"Error: {command} parameter not recognized or not implemented", "5.5.4")


_SMTPUTF8_NEEDED: Final = Reply(553, "Error: address needs SMTPUTF8", "5.6.7")
"""RFC 6531 §3.5: 553 with 5.6.7 where the client did not ask for SMTPUTF8."""
