"""Debian's OpenSMTPD beside the machine's Postfix: in an overlay as tests/peers/exim.py's Exim."""

from __future__ import annotations

from typing import Final

from tests.peers import exim

SCRIPT: Final = (
    exim.SCRIPT.replace("exim4-daemon-light", "opensmtpd")
    .replace('mkdir -p "$base/tree/etc/exim4"', "")
    .replace("etc/exim4/exim4.conf", "etc/smtpd.conf")
    .replace("exim4 -bdf", "smtpd -d")
)
CONFIGURATION: Final = """
listen on 127.0.0.1 port {port} hostname opensmtpd.localdomain
action "on" relay host "smtp://127.0.0.1:{sink}"
match from any for any action "on"
"""


class OpenSmtpd(exim.Exim):
    """``with OpenSmtpd(port, sink)``: listens on ``port`` and relays to 127.0.0.1:``sink``."""

    script = SCRIPT
    configuration = CONFIGURATION
