"""What is known to alter or refuse a case on its way, and why: the only exceptions that the matrix makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """``becomes`` makes of the body what arrives instead; None: the case can't be sent, or isn't taken, at all."""

    reason: str
    becomes: Callable[[bytes], bytes] | None = None


def ended_twice(body: bytes) -> bytes:
    return body + b"\r\n"


def in_lines_of(size: int, indent: bytes = b"") -> Callable[[bytes], bytes]:
    """Lines of more than 998 octets are cut behind ``size``; what follows is indented."""

    def cut(line: bytes) -> bytes:
        pieces = []
        while len(line) > 998:
            pieces.append(line[:size])
            line = indent + line[size:]
        return b"\r\n".join([*pieces, line])

    return lambda body: b"\r\n".join(map(cut, body.split(b"\r\n")))


def without_the_last_dot(body: bytes) -> bytes:
    return body.rstrip(b"\r\n").removesuffix(b".")


LONG: Final = ("line-of-999", "line-of-5000", "line-of-70000", "dots-in-a-long-line")
BARE_LF_LAST: Final = ("bare-lf", "bare-lf-and-dots", "all-bare-lf")
DOT_LAST: Final = (
    "open-pgp",
    "dot-first",
    "dot-last",
    "thousand-dots",
    "smuggled",
    "dot-at-256-kib",
    "dots-in-a-long-line",
    "signed",
)
NUL: Final = ("nul", "utf-16", "all-octets")

NO_SMTPUTF8: Final = Known("knows no SMTPUTF8, and such an address is refused without it (RFC 6531 section 3.4)")
CR_LAST: Final = {"final-cr": Known("ends it by CR LF of its own; the CR before is a line end too", ended_twice)}
LF_LAST: Final = dict.fromkeys(BARE_LF_LAST, Known("sends LF as it is, and CR LF after the last one", ended_twice))

CLIENTS: Final[dict[str, dict[str, Known]]] = {
    "smtplib": CR_LAST | LF_LAST,
    "curl": CR_LAST
    | LF_LAST
    | {
        "bare-lf-and-dots": Known(
            "doubles no dot after a bare LF, so one is taken away, and a lone one ends as an empty line",
            lambda body: ended_twice(body.replace(b"\r\n.", b"\r\n")),
        )
    },
    "msmtp": CR_LAST | {"smtputf8": NO_SMTPUTF8},
    "Net::SMTP": CR_LAST | {"smtputf8": NO_SMTPUTF8},
    "PHPMailer": {"smtputf8": NO_SMTPUTF8} | dict.fromkeys(LONG, Known("cuts lines over 998 octets", in_lines_of(997))),
    "swaks": {"smtputf8": NO_SMTPUTF8}
    | dict.fromkeys(DOT_LAST, Known("takes a last line of one dot for the end that it adds", without_the_last_dot))
    | dict.fromkeys(("empty", "only-header"), Known("puts an empty line behind a mere header", ended_twice))
    | {
        "empty-line-first": Known("adds two empty lines", lambda body: ended_twice(ended_twice(body))),
        "swaks-tokens": Known(
            "replaces its own tokens",
            lambda body: body.replace(b"%BODY%", b"This is a test mailing").replace(rb"\n", b"\r\n"),
        ),
    },
}
"""By client and case."""

UPSTREAMS: Final[dict[str, dict[str, Known]]] = {
    "postfix": dict.fromkeys(LONG, Known("its SMTP client cuts lines over 998 octets", in_lines_of(998, b" "))),
    "exim": dict.fromkeys(LONG, Known("takes lines over 998 octets, and returns them to the sender")),
    "opensmtpd": {
        "smtputf8": Known("offers no SMTPUTF8: the relay settles it as 5.6.7"),
        "line-of-70000": Known("500 5.0.0 Line too long"),
    }
    | dict.fromkeys(NUL, Known("drops a line from a NUL on", lambda body: re.sub(rb"\0[^\r]*", b"", body))),
    "smtp-sink": {"smtputf8": Known("offers no SMTPUTF8: the relay settles it as 5.6.7")},
}
"""By upstream and case."""
