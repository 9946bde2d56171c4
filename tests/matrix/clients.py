"""Mail programs and libraries as clients: each sends cases through a door; what goes wrong is an AssertionError."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosmtplib

from tests.matrix.corpus import SENDER, Case
from tests.matrix.doors import PASSWORD, USER, Door

HERE: Final = Path(__file__).parent
PROGRAMS: Final = HERE / "programs"
NODE_MODULES: Final = HERE / "node_modules"
Send = Callable[[Door, Sequence[Case], Path], None]


@dataclass(frozen=True)
class Client:
    """``composes``: it takes a text and makes the message itself. ``missing`` says why it can't be had."""

    send: Send
    needs: tuple[str, ...] = ()
    unix: bool = False
    composes: bool = False

    @property
    def missing(self) -> str:
        return missing(self.needs)


def missing(needs: Sequence[str]) -> str:
    """What of these programs and files is lacking; empty where nothing is."""
    lacking = [Path(need).name for need in needs if not (shutil.which(need) or Path(need).exists())]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if "node" in needs:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
        if int(version.lstrip("v").split(".")[0]) < 20:
            return f"Node.js {version.strip()} is too old: 20 is wanted"
    return ""


def run(*arguments: str | Path, content: bytes = b"", environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=content,
        capture_output=True,
        check=False,
        timeout=90,
        env=environment,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{arguments[0]} exits {done.returncode}: {said[-2000:]}"


def trusting(door: Door) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(door.authority))


class UnixSMTP(smtplib.SMTP):
    """smtplib over a Unix socket, whose path is the host."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(timeout)
        connected.connect(host)
        return connected


def by_smtplib(door: Door, cases: Sequence[Case], _folder: Path) -> None:
    if door.socket is not None:
        client: smtplib.SMTP = UnixSMTP(str(door.socket), 1, "client.test", timeout=20)
    elif door.tls == "implicit":
        client = smtplib.SMTP_SSL("localhost", door.port, "client.test", timeout=20, context=trusting(door))
    else:
        client = smtplib.SMTP("localhost", door.port, "client.test", timeout=20)
    with client:
        if door.tls == "starttls":
            client.starttls(context=trusting(door))
        if door.login:
            client.login(USER, PASSWORD)
        for case in cases:
            assert client.sendmail(SENDER, case.recipients, case.content, case.parameters.split()) == {}


def by_aiosmtplib(door: Door, cases: Sequence[Case], _folder: Path) -> None:
    async def send() -> None:
        if door.socket is not None:
            client = aiosmtplib.SMTP(socket_path=str(door.socket), local_hostname="client.test", start_tls=False)
        else:
            client = aiosmtplib.SMTP(
                hostname="localhost",
                port=door.port,
                local_hostname="client.test",
                start_tls=door.tls == "starttls",
                use_tls=door.tls == "implicit",
                tls_context=trusting(door),
                username=USER if door.login else None,
                password=PASSWORD if door.login else None,
            )
        async with client:
            for case in cases:
                options = case.parameters.split()
                await client.sendmail(SENDER, list(case.recipients), case.content, mail_options=options)

    asyncio.run(send())


def one_by_one(send_one: Callable[[Door, Case, Path], None]) -> Send:
    """For programs that send one message and end; the message is in a file."""

    def send(door: Door, cases: Sequence[Case], folder: Path) -> None:
        for case in cases:
            file = folder / f"{case.name}.eml"
            file.write_bytes(case.content)
            try:
                send_one(door, case, file)
            except AssertionError as error:
                raise AssertionError(f"{case.name}: {error}") from error

    return send


def by_curl(door: Door, case: Case, file: Path) -> None:
    scheme = "smtps" if door.tls == "implicit" else "smtp"
    options = ["--ssl-reqd"] if door.tls == "starttls" else []
    options += ["--user", f"{USER}:{PASSWORD}"] if door.login else []
    for recipient in case.recipients:
        options += ["--mail-rcpt", recipient]
    address = f"{scheme}://localhost:{door.port}/client.test"
    envelope = ("--mail-from", SENDER, "--upload-file", str(file))
    run("curl", "-sS", "--cacert", door.authority, *options, *envelope, "--url", address)


def swaks(door: Door, case: Case, file: Path, *options: str) -> None:
    server = ["--socket", str(door.socket)] if door.socket else ["--server", "localhost", "--port", str(door.port)]
    envelope = ("--ehlo", "client.test", "--from", SENDER, "--to", ",".join(case.recipients))
    run("swaks", *server, *envelope, "--data", f"@{file}", "--hide-all", "--timeout", "20", *options)


def tls_of_swaks(door: Door) -> list[str]:
    trust = ["--tls-verify", "--tls-ca-path", str(door.authority)]
    return {"none": [], "starttls": ["--tls", *trust], "implicit": ["--tls-on-connect", *trust]}[door.tls]


def by_swaks(door: Door, case: Case, file: Path) -> None:
    # It ends every message by a line end of its own.
    file.write_bytes(re.sub(rb"(\r\n|\r|\n)\Z", b"", case.content))
    login = ["--auth", "PLAIN", "--auth-user", USER, "--auth-password", PASSWORD] if door.login else []
    swaks(door, case, file, *tls_of_swaks(door), *login)


def by_msmtp(door: Door, case: Case, file: Path) -> None:
    tls = f"--tls={'off' if door.tls == 'none' else 'on'}"
    options = [tls, f"--tls-starttls={'on' if door.tls == 'starttls' else 'off'}"]
    options += [f"--tls-trust-file={door.authority}"] if door.tls != "none" else []
    options += ["--auth=on", f"--user={USER}", f"--passwordeval=echo '{PASSWORD}'"] if door.login else ["--auth=off"]
    options += [f"--socket={door.socket}"] if door.socket else []
    server = ("--file=/dev/null", "--host=localhost", f"--port={door.port or 25}", "--domain=client.test")
    run("msmtp", *server, *options, f"--from={SENDER}", "--", *case.recipients, content=file.read_bytes())


def by_s_nail(door: Door, case: Case, _file: Path) -> None:
    scheme = "smtps" if door.tls == "implicit" else "smtp"
    account = f"{USER}:{PASSWORD.replace('&', '%26')}@" if door.login else ""
    settings = [f"mta={scheme}://{account}localhost:{door.port}", f"smtp-auth={'plain' if door.login else 'none'}"]
    settings += ["v15-compat", f"tls-ca-file={door.authority}", "tls-verify=strict", "smtp-hostname=client.test"]
    settings += ["smtp-use-starttls"] if door.tls == "starttls" else []
    options = [word for setting in settings for word in ("-S", setting)]
    text = case.text.encode()
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MAILRC": "/dev/null"}
    words = ("-:/", *options, "-s", case.name, "-r", SENDER, *case.recipients)
    run("s-nail", *words, content=text, environment=environment)


def by_git(door: Door, case: Case, file: Path) -> None:
    file.write_bytes(f"From: Ann <{SENDER}>\nSubject: {case.name}\n\n{case.text}".encode())
    encryption = {"none": [], "starttls": ["--smtp-encryption=tls"], "implicit": ["--smtp-encryption=ssl"]}[door.tls]
    options = [*encryption, f"--smtp-ssl-cert-path={door.authority}", "--smtp-domain=client.test"]
    options += [f"--smtp-user={USER}", f"--smtp-pass={PASSWORD}"] if door.login else []
    quiet = ("--quiet", "--confirm=never", "--suppress-cc=all", "--no-validate", "--no-thread", "--8bit-encoding=UTF-8")
    server = ("--smtp-server=localhost", f"--smtp-server-port={door.port}", f"--from=Ann <{SENDER}>")
    recipients = [f"--to={recipient}" for recipient in case.recipients]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"HOME": str(file.parent), "GIT_DIR": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "Ann", f"GIT_{who}_EMAIL": SENDER}
    run("git", "send-email", *server, *options, *quiet, *recipients, file, environment=environment)


def program(*command: str | Path) -> Send:
    """For libraries: a program of ours in programs/ sends all the messages that its input names."""

    def send(door: Door, cases: Sequence[Case], folder: Path) -> None:
        lines = []
        for case in cases:
            file = folder / f"{case.name}.eml"
            file.write_bytes(case.content)
            lines.append(f"{file}\t{SENDER}\t{','.join(case.recipients)}\n")
        environment = door.environment | {"NODE_FOLDER": str(HERE)}
        run(*command, content="".join(lines).encode(), environment=environment)

    return send


JARS: Final = ("/usr/share/java/javax.mail.jar", "/usr/share/java/javax.activation.jar")


def by_java(door: Door, cases: Sequence[Case], folder: Path) -> None:
    store = folder / "trust.p12"
    if not store.exists():
        words = ("-importcert", "-noprompt", "-alias", "ca", "-storepass", "changeit", "-file", door.authority)
        run("keytool", *words, "-keystore", store)
    trust = (f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit")
    path = ("-cp", ":".join(JARS))
    program("java", "-XX:TieredStopAtLevel=1", *trust, *path, PROGRAMS / "JavaMail.java")(door, cases, folder)


GIT_SEND_EMAIL: Final = "/usr/lib/git-core/git-send-email"
PHPMAILER: Final = "/usr/share/php/libphp-phpmailer/src/SMTP.php"
NODEMAILER: Final = str(NODE_MODULES / "nodemailer")
CLIENTS: Final = {
    "smtplib": Client(by_smtplib, unix=True),
    "aiosmtplib": Client(by_aiosmtplib, unix=True),
    "swaks": Client(one_by_one(by_swaks), ("swaks",), unix=True),
    "curl": Client(one_by_one(by_curl), ("curl",)),
    "msmtp": Client(one_by_one(by_msmtp), ("msmtp",), unix=True),
    "nodemailer": Client(program("node", PROGRAMS / "nodemailer.mjs"), ("node", NODEMAILER), unix=True),
    "Net::SMTP": Client(program("perl", PROGRAMS / "net_smtp.pl"), ("perl",)),
    "PHPMailer": Client(program("php", PROGRAMS / "phpmailer.php"), ("php", PHPMAILER)),
    "JavaMail": Client(by_java, ("javac", "keytool", *JARS)),
    "s-nail": Client(one_by_one(by_s_nail), ("s-nail",), composes=True),
    "git send-email": Client(one_by_one(by_git), (GIT_SEND_EMAIL,), composes=True),
}
