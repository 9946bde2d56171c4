"""``relay send``: submit one message to the listener as an application would, and follow it to its outcome."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

import click

from relay.cli.access import CONTEXT, ask_once, config_option, fail, load_settings
from relay.cli.queue import DurationType

if TYPE_CHECKING:
    import smtplib

    from relay.settings import Settings

_QUEUED_AS: Final = re.compile(rb"queued as (\w+)")
_FIELD: Final = re.compile(rb"(?:From [^\n]*\n)?[!-9;-~]+[ \t]*:")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_CONNECT_TIMEOUT: Final = 30.0
_POLL: Final = 0.2


@click.command(context_settings=CONTEXT)
@config_option
@click.argument("recipients", nargs=-1, required=True, metavar="TO...")
@click.option("-f", "--from", "sender", metavar="ADDRESS", help="Sender; default: you at this relay's host name.")
@click.option("--subject", metavar="TEXT", help="Subject of a message made here, with --file as its text.")
@click.option("--file", "file", type=click.File("rb"), help="A message, or the text of one; '-' is standard input.")
@click.option(
    "--wait", is_flag=True, help="Follow it: exit 0 once relayed, 1 where it failed, 75 where it is deferred."
)
@click.option("--timeout", type=DurationType(), default="60s", show_default=True, help="How long --wait waits.")
@click.pass_context
def send(
    context: click.Context,
    recipients: tuple[str, ...],
    sender: str | None,
    subject: str | None,
    file: BinaryIO | None,
    *,
    wait: bool,
    timeout: float,
) -> None:
    """Submit a message to the relay; prints its queue id.

    A file that begins with a header field is sent as it is, unless --subject makes it a text.
    """
    import getpass

    settings = load_settings(context)
    if sender is None:
        sender = f"{getpass.getuser()}@{settings.hostname}"
    given = None if file is None else file.read()
    if given is not None and subject is None and _FIELD.match(given):
        content = given
    else:
        content = _compose(sender, recipients, subject, given)
    queue_id = _submit(_address(settings), sender, recipients, content)
    click.echo(queue_id)
    if wait:
        _follow(context, queue_id, timeout)


def _compose(sender: str, recipients: tuple[str, ...], subject: str | None, text: bytes | None) -> bytes:
    from email import policy
    from email.message import EmailMessage
    from email.utils import localtime, make_msgid

    message = EmailMessage(policy=policy.SMTP)
    try:
        message["From"] = sender
        message["To"] = ", ".join(recipients)
        message["Subject"] = "A message by relay send" if subject is None else subject
    except ValueError as error:
        raise click.UsageError(f"an address or the subject can't stand in a header: {error}") from None
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or None)
    body = b"This message was submitted by relay send.\n" if text is None else text
    message.set_content(body.decode("utf-8", "replace"))
    return message.as_bytes()


def _address(settings: Settings) -> str:
    """The first listener that takes mail from here without TLS from the start, AUTH or a PROXY header."""
    from relay.control.errors import Exit

    open_to_us = (
        listener.address
        for listener in settings.listeners
        if listener.tls != "implicit" and listener.auth != "required" and not listener.proxy_networks
    )
    address = next(open_to_us, None)
    if address is None:
        fail("each listener wants AUTH, TLS from the first octet on, or a PROXY header", Exit.UNAVAILABLE)
    return address


def _connect(address: str) -> smtplib.SMTP:
    """A session with the listener on ``address``, greeted."""
    import smtplib
    import socket

    from relay.config.values import split_address

    path = address.removeprefix("unix:")
    if path == address:
        host, port = split_address(address)
        # Where it listens on every address, the loopback one is reached.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return smtplib.SMTP(host, port, local_hostname="localhost", timeout=_CONNECT_TIMEOUT)
    smtp = smtplib.SMTP(local_hostname="localhost", timeout=_CONNECT_TIMEOUT)
    smtp.sock = socket.socket(socket.AF_UNIX)
    smtp.sock.settimeout(_CONNECT_TIMEOUT)
    try:
        smtp.sock.connect(path)
        code, text = smtp.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
    except (OSError, smtplib.SMTPException):
        smtp.close()
        raise
    return smtp


def _submit(address: str, sender: str, recipients: tuple[str, ...], content: bytes) -> str:
    """Hand the message to the listener; its queue id. A refusal ends the command: 75 for 4yz, else 1."""
    import smtplib

    from relay.control.errors import Exit

    content = _LINE_END.sub(b"\r\n", content)
    try:
        smtp = _connect(address)
        try:
            smtp.ehlo_or_helo_if_needed()
            _expect(smtp.mail(sender, _parameters(smtp, sender, recipients, content)), "MAIL FROM")
            for recipient in recipients:
                _expect(smtp.rcpt(recipient), f"RCPT TO:<{recipient}>")
            reply = _expect(smtp.data(content), "the message")
            # The message is taken, whatever the goodbye is like.
            with suppress(OSError, smtplib.SMTPException):
                smtp.quit()
        finally:
            smtp.close()
    except smtplib.SMTPResponseException as error:
        _refuse(error.smtp_code, error.smtp_error, "the message")
    except (OSError, smtplib.SMTPException) as error:
        fail(f"{address}: {getattr(error, 'strerror', None) or error}", Exit.UNAVAILABLE)
    found = _QUEUED_AS.search(reply)
    return found[1].decode() if found else reply.decode(errors="replace")


def _parameters(smtp: smtplib.SMTP, sender: str, recipients: tuple[str, ...], content: bytes) -> list[str]:
    parameters = []
    if not content.isascii() and smtp.has_extn("8bitmime"):
        parameters.append("BODY=8BITMIME")
    if not all(address.isascii() for address in (sender, *recipients)):
        smtp.command_encoding = "utf-8"
        parameters.append("SMTPUTF8")
    return parameters


def _expect(reply: tuple[int, bytes], to: str) -> bytes:
    code, text = reply
    if code // 100 != 2:
        _refuse(code, text, to)
    return text


def _refuse(code: int, text: bytes | str, to: str) -> NoReturn:
    from relay.cli.text import shown
    from relay.control.errors import Exit

    said = text if isinstance(text, str) else text.decode(errors="replace")
    fail(f"refused {to}: {code} {shown(said)}", Exit.TEMPORARY if code // 100 == 4 else Exit.NO)


def _follow(context: click.Context, queue_id: str, timeout: float) -> None:
    import time

    from relay.control.errors import Exit

    deadline = time.monotonic() + timeout
    while True:
        stories = ask_once(context, "trace", {"text": queue_id})
        states = {recipient["state"] for story in stories for recipient in story["recipients"]}
        if states <= {"relayed", "failed", "suppressed"} or time.monotonic() >= deadline:
            break
        time.sleep(_POLL)
    for story in stories:
        for recipient in story["recipients"]:
            _tell(recipient)
    if not stories or states & {"failed", "suppressed"}:
        raise click.exceptions.Exit(Exit.NO)
    raise click.exceptions.Exit(Exit.DONE if states == {"relayed"} else Exit.TEMPORARY)


def _tell(recipient: dict[str, Any]) -> None:
    from relay.cli.text import shown

    click.echo(f"<{shown(recipient['address'])}> {recipient['state']} ({shown(recipient['last_reply'])})")
