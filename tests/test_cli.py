from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import relay
import relay.spool.sqlite
from relay.cli import main, sending
from relay.control.server import ControlServer
from relay.control.services import Services
from relay.listener.passwords import verify
from relay.mail import Envelope, Message, Recipient, RecipientState, queue_id
from relay.spool import Arrival, Settled, Settlement, SpoolDamaged, SpoolLocked
from tests.fake_spool import FakeSpool

NOW = 1_800_000_000.0
COMMANDS = ("hold", "release", "retry", "remove", "bounce")

Invoke = Callable[..., Result]


class StandingClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def put(spool: FakeSpool, *to: str, sender: str = "a@x.example") -> int:
    number = spool.allocate(NOW - 60)
    envelope = Envelope(sender, tuple(Recipient(n, address) for n, address in enumerate(to)))
    message = Message(number, envelope, 100, NOW - 60, "<m@x.example>", "localhost[127.0.0.1]")
    asyncio.run(spool.accept(Arrival(message, b"x")))
    return number


def settle(spool: FakeSpool, number: int, state: RecipientState, status: str, reply: str) -> None:
    due = NOW + 60 if state is RecipientState.WAITING else None
    settled = Settled(0, "b@y.example", state, 1, due, "ses", "ses[1]:587", status, "4.0.0", reply, "0/0/0/0.1")

    async def lease_and_settle() -> None:
        await spool.lease([number])
        await spool.settle([Settlement(number, 1, NOW - 1, (settled,))])

    asyncio.run(lease_and_settle())


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "relay.toml"
    file.write_text(
        'hostname = "relay.example.com"\n[spool]\nurl = "sqlite:///spool.db"\n'
        '[upstream.ses]\nkind = "simulator"\n[listener.app]\naddress = "127.0.0.1:2525"\n'
    )
    return file


@pytest.fixture
def invoke(config: Path) -> Invoke:
    def run(*arguments: str, **options: Any) -> Result:
        env = {"RELAY_CONFIG": str(config), "COLUMNS": "200"}
        result = CliRunner().invoke(main, arguments, env=env, **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def running(spool: FakeSpool, config: Path) -> Iterator[Services]:
    """A relay's control socket, served from a thread."""
    services = Services(spool, StandingClock(), upstreams=("ses",))
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        control = ControlServer(services, str(config.with_name("control.sock")))
        await control.start()
        ready.set()
        await stop.wait()
        await control.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield services
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def offline(spool: FakeSpool, config: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSpool:
    """No relay runs, and the spool that the command opens is ours."""

    async def open_spool(*_args: object, **_options: object) -> FakeSpool:
        return spool

    config.with_name("spool.db").touch()
    monkeypatch.setattr(relay.spool.sqlite, "open_spool", open_spool)
    return spool


# -- the command ----------------------------------------------------------------------------------------------------


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)


@pytest.mark.parametrize("command", [(), *every_command(main)], ids=" ".join)
def test_every_command_explains_itself(invoke: Invoke, command: tuple[str, ...]) -> None:
    short, long = invoke(*command, "-h"), invoke(*command, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    assert "Usage: " in short.output
    if command != ("simulator",):
        assert "--config FILE" in short.output


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").output == f"relay {relay.__version__}\n"


@pytest.mark.usefixtures("running")
def test_an_empty_queue_is_said_to_be(invoke: Invoke) -> None:
    assert invoke("queue", "list").output == "Mail queue is empty\n"
    assert invoke("queue", "list", "--json").output == "[]\n"
    assert invoke("queue", "list", "--domain", "y.example").output == ""


def test_what_does_not_exist_is_wrong_usage(invoke: Invoke) -> None:
    for arguments in (["nonsense"], ["queue", "nonsense"], ["status", "--nonsense"], ["queue", "show"], ["trace"]):
        assert invoke(*arguments).exit_code == 2


def test_starting_imports_little() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, relay.cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(told.stdout.split())
    heavy = {"asyncio", "cattrs", "sqlite3", "pysqlite3", "rich", "uvloop", "aiosmtpd", "smtplib", "relay.config"}
    assert not loaded & heavy


def test_python_m_relay_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "relay", "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == f"relay {relay.__version__}\n"


def test_the_configuration_is_named_before_or_after_the_command(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    for arguments in (["-c", str(config), "check"], ["check", "-c", str(config)]):
        assert str(config) in CliRunner().invoke(main, arguments).output
    both = CliRunner().invoke(main, ["-c", str(other), "check", "--config", str(config)])
    assert both.exit_code == 0
    assert str(config) in both.output
    nested = CliRunner().invoke(main, ["queue", "-c", str(other), "list"])
    assert nested.exit_code == 78
    assert str(other) in nested.output


# -- check, serve, simulator ----------------------------------------------------------------------------------------


def test_check_prints_all_that_is_wrong_to_stderr(invoke: Invoke, config: Path) -> None:
    config.write_text('[upstream.ses]\nkind = "smtp"\nport = "abc"\ncolour = "red"\n')
    result = invoke("check")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) >= 2
    assert "port" in result.stderr
    assert "colour" in result.stderr


def test_check_says_what_a_good_configuration_means_and_warns(invoke: Invoke, config: Path) -> None:
    with config.open("a") as file:
        file.write('[upstream.backup]\nhost = "mx.example.com"\nfinal_reply_timeout = "1m"\n')
    result = invoke("check")
    assert result.exit_code == 0
    assert "upstream backup  mx.example.com:587, tls starttls\n" in result.stdout
    assert result.stdout.endswith("the configuration is fine\n")
    assert result.stderr.startswith("warning: ")


def test_serve_hands_the_daemon_a_way_to_read_the_configuration_again(
    invoke: Invoke, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostnames = []

    def serve(load: Callable[[], Any]) -> int:
        hostnames.append(load().hostname)
        config.write_text(config.read_text().replace("relay.example.com", "new.example.com"))
        hostnames.append(load().hostname)
        return 75

    monkeypatch.setitem(sys.modules, "relay.daemon", SimpleNamespace(serve=serve))
    monkeypatch.setattr(relay, "daemon", SimpleNamespace(serve=serve), raising=False)
    assert invoke("serve").exit_code == 75
    assert hostnames == ["relay.example.com", "new.example.com"]
    config.write_text("colour = 1\n")
    result = invoke("serve")
    assert result.exit_code == 78
    assert "colour" in result.stderr


def test_simulator_needs_no_configuration(
    invoke: Invoke, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.unlink()
    called = []

    def simulate(address: str, maildir: Path | None) -> int:
        called.append((address, maildir))
        return 0

    monkeypatch.setattr(relay, "daemon", SimpleNamespace(simulate=simulate), raising=False)
    assert invoke("simulator").exit_code == 0
    assert invoke("simulator", "--listen", "[::1]:99", "--maildir", str(tmp_path)).exit_code == 0
    assert called == [("127.0.0.1:2599", None), ("[::1]:99", tmp_path)]


# -- queue, status, trace -------------------------------------------------------------------------------------------


def test_list_as_json_is_one_document(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    assert json.loads(invoke("queue", "list", "--json").stdout) == []
    numbers = [put(spool, "b@y.example"), put(spool, "ü@y.example", "c@z.example")]
    listed = json.loads(invoke("queue", "list", "--json").stdout)
    assert [message["id"] for message in listed] == [queue_id(n) for n in numbers]
    assert [r["address"] for r in listed[1]["recipients"]] == ["ü@y.example", "c@z.example"]


def test_list_for_people_cuts_nothing_and_lets_no_control_character_through(
    invoke: Invoke, running: Services, spool: FakeSpool
) -> None:
    number = put(spool, "b@y.example", sender="\x1b[2J" + "s" * 200 + "@x.example")
    settle(spool, number, RecipientState.WAITING, "deferred", "451 " + "later " * 60 + "\x1b]0;x")
    shown = invoke("queue", "list").stdout
    assert queue_id(number) in shown
    assert "s" * 200 + "@x.example" in shown
    assert "later " * 60 in shown
    assert "\x1b" not in shown
    assert "deferred" in shown
    assert "next: 2027-" in shown


def test_options_choose(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    one, two = put(spool, "b@y.example"), put(spool, "c@z.example", sender="")
    asked = {
        ("--domain", "z.example"): [two],
        ("--sender", ""): [two],
        ("--recipient", "b@y.example"): [one],
        ("--older-than", "30s"): [one, two],
        ("--older-than", "2h"): [],
        ("--state", "waiting"): [one, two],
        ("--state", "held"): [],
        ("--limit", "1"): [one],
        ("--upstream", "ses"): [],
        ("--all",): [one, two],
        (queue_id(two),): [two],
    }
    for options, numbers in asked.items():
        listed = json.loads(invoke("queue", "list", "--json", *options).stdout)
        assert [message["id"] for message in listed] == [queue_id(n) for n in numbers], options


def test_wrong_options_are_wrong_usage(invoke: Invoke, running: Services) -> None:
    for options in (["--older-than", "soon"], ["--state", "gone"], ["--limit", "0"], ["no-id"], ["--all", "ABCDEF1"]):
        result = invoke("queue", "list", *options)
        assert result.exit_code == 2, options
        assert result.stderr


def test_count(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    put(spool, "b@y.example")
    assert json.loads(invoke("queue", "count", "--json").stdout) == {
        "waiting": 1,
        "leased": 0,
        "deferred": 0,
        "held": 0,
    }
    assert "waiting   1\n" in invoke("queue", "count").stdout


def test_show_finds_open_messages_only(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    number = put(spool, "b@y.example")
    assert queue_id(number) in invoke("queue", "show", queue_id(number)).stdout
    settle(spool, number, RecipientState.RELAYED, "sent", "250 Ok")
    result = invoke("queue", "show", queue_id(number))
    assert result.exit_code == 1
    assert "no such message" in result.stderr


def test_changes(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    number = put(spool, "b@y.example")
    settle(spool, number, RecipientState.WAITING, "deferred", "451 later")
    for verb, said in (("retry", "due now"), ("hold", "held"), ("release", "released"), ("remove", "removed")):
        result = invoke("queue", verb, queue_id(number))
        assert (result.exit_code, result.stdout) == (0, f"1 message {said}\n")
        again = invoke("queue", verb, queue_id(number), "--json")
        assert (again.exit_code, json.loads(again.stdout)) == (1, {"changed": 0, "in_flight": 0})


@pytest.mark.parametrize("verb", COMMANDS[:-1])
def test_a_change_of_nothing_in_particular_is_wrong_usage(
    invoke: Invoke, running: Services, spool: FakeSpool, verb: str
) -> None:
    put(spool, "b@y.example")
    result = invoke("queue", verb)
    assert result.exit_code == 2
    assert "name the messages" in result.stderr


def test_status(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    put(spool, "b@y.example")
    told = json.loads(invoke("status", "--json").stdout)
    assert set(told) == {"upstreams", "queue", "accepted_total", "oldest_seconds"}
    shown = invoke("status").stdout
    assert "UPSTREAM  STATE" in shown
    assert "queue: 1 waiting, 0 leased, 0 deferred, 0 held; the oldest arrived 1m ago\n" in shown


def test_trace(invoke: Invoke, running: Services, spool: FakeSpool) -> None:
    number = put(spool, "b@y.example")
    settle(spool, number, RecipientState.WAITING, "deferred", "451 later")
    shown = invoke("trace", "m@x.example").stdout
    for words in (queue_id(number), "<m@x.example>", "localhost[127.0.0.1]", "451 later", "ses[1]:587", "waits for"):
        assert words in shown
    (told,) = json.loads(invoke("trace", "--json", queue_id(number)).stdout)
    assert told["attempts"][0]["detail"] == "451 later"
    for options in ([], ["--json"]):
        assert invoke("trace", "unknown@x.example", *options).exit_code == 1


# -- without a running relay ----------------------------------------------------------------------------------------


def test_without_a_relay_commands_act_on_the_spool(invoke: Invoke, offline: FakeSpool) -> None:
    number = put(offline, "b@y.example")
    assert invoke("queue", "hold", queue_id(number)).exit_code == 0
    assert json.loads(invoke("queue", "count", "--json").stdout)["held"] == 1
    assert [m["state"] for m in json.loads(invoke("queue", "list", "--json").stdout)] == ["held"]
    told = json.loads(invoke("status", "--json").stdout)
    assert told["upstreams"]["ses"]["state"] == "down"
    assert offline.closed


def test_a_bounce_needs_the_relay(invoke: Invoke, offline: FakeSpool) -> None:
    result = invoke("queue", "bounce", "--all")
    assert result.exit_code == 69
    assert "running relay" in result.stderr


def test_neither_relay_nor_spool(invoke: Invoke, config: Path) -> None:
    result = invoke("queue", "list", "--json")
    assert result.exit_code == 69
    assert result.stdout == ""
    assert "no relay answers at" in result.stderr
    assert not config.with_name("spool.db").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [(SpoolLocked("locked"), 75), (SpoolDamaged("not a spool"), 74), (PermissionError(13, "Permission denied"), 69)],
)
def test_a_spool_that_cannot_be_opened(
    invoke: Invoke, offline: FakeSpool, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def open_spool(*_args: object, **_options: object) -> FakeSpool:
        raise error

    monkeypatch.setattr(relay.spool.sqlite, "open_spool", open_spool)
    result = invoke("status")
    assert result.exit_code == code
    assert result.stderr.startswith("relay: ")


def test_a_spool_that_fails_is_closed(invoke: Invoke, offline: FakeSpool) -> None:
    offline.error = SpoolDamaged("page 7")
    assert invoke("status").exit_code == 74
    assert offline.closed


# -- send -----------------------------------------------------------------------------------------------------------


class Application(socketserver.StreamRequestHandler):
    """The listener that ``relay send`` meets: answers by a table, keeps what it is told."""

    server: Listening

    def handle(self) -> None:
        self.wfile.write(b"220 relay ESMTP\r\n")
        for line in self.rfile:
            self.server.lines.append(line)
            verb = line.split(b":")[0].strip().upper()
            answer = self.server.answers.get(verb, b"250 2.0.0 Ok")
            self.wfile.write(answer + b"\r\n")
            if verb == b"DATA" and answer.startswith(b"354"):
                for content in iter(self.rfile.readline, b".\r\n"):
                    self.server.content.append(content)
                self.wfile.write(self.server.answers[b"."] + b"\r\n")
            if verb == b"QUIT":
                return


class Listening(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Application)
        self.lines: list[bytes] = []
        self.content: list[bytes] = []
        self.answers = {
            b"EHLO LOCALHOST": b"250-relay\r\n250 8BITMIME",
            b"DATA": b"354 go on",
            b".": b"250 2.0.0 Ok: queued as 8889D160292",
            b"QUIT": b"221 2.0.0 Bye",
        }


@pytest.fixture
def listening(config: Path) -> Iterator[Listening]:
    with Listening() as server:
        config.write_text(config.read_text().replace("127.0.0.1:2525", f"127.0.0.1:{server.server_address[1]}"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_send_submits_and_prints_the_id(invoke: Invoke, listening: Listening) -> None:
    result = invoke("send", "-f", "a@x.example", "b@y.example", "c@y.example", "--subject", "Grüße")
    assert (result.exit_code, result.stdout) == (0, "8889D160292\n")
    assert b"mail FROM:<a@x.example>\r\n" in listening.lines
    assert [line for line in listening.lines if line.startswith(b"rcpt")] == [
        b"rcpt TO:<b@y.example>\r\n",
        b"rcpt TO:<c@y.example>\r\n",
    ]
    content = b"".join(listening.content)
    assert b"To: b@y.example, c@y.example\r\n" in content
    assert b"Subject: =?utf-8?" in content


def test_send_passes_over_listeners_that_want_more(invoke: Invoke, listening: Listening, config: Path) -> None:
    head, _, listener = config.read_text().partition("[listener.app]")
    locked = '[listener.proxied]\naddress = "127.0.0.1:9"\nproxy_networks = ["127.0.0.1/32"]\n'
    config.write_text(f"{head}{locked}[listener.app]{listener}")
    assert invoke("send", "b@y.example").exit_code == 0
    config.write_text(head + locked)
    result = invoke("send", "b@y.example")
    assert result.exit_code == 69
    assert "each listener wants AUTH" in result.stderr


def test_a_listener_that_says_no_goodbye_has_taken_the_message_all_the_same(
    invoke: Invoke, listening: Listening
) -> None:
    listening.answers[b"QUIT"] = b"451 4.3.0 oops"
    assert invoke("send", "b@y.example").exit_code == 0


def test_send_takes_a_message_as_it_is(invoke: Invoke, listening: Listening, tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes("Subject: x\nX-Own: yes\n\n.dot\nGrüße".encode())
    assert invoke("send", "-f", "a@x.example", "b@y.example", "--file", str(file)).exit_code == 0
    assert b"".join(listening.content) == "Subject: x\r\nX-Own: yes\r\n\r\n..dot\r\nGrüße\r\n".encode()
    assert b"mail FROM:<a@x.example> BODY=8BITMIME\r\n" in listening.lines


def test_send_makes_a_message_of_a_text(invoke: Invoke, listening: Listening) -> None:
    result = invoke("send", "b@y.example", "--file", "-", "--subject", "x", input="Key: looks like a header\n")
    assert result.exit_code == 0
    head, body = b"".join(listening.content).split(b"\r\n\r\n", 1)
    assert b"From: " in head
    assert b"@relay.example.com" in head
    assert body == b"Key: looks like a header\r\n"


@pytest.mark.parametrize(
    ("step", "reply", "code"),
    [
        (b"MAIL FROM", b"452 4.3.1 full", 75),
        (b"RCPT TO", b"553 5.1.3 bad", 1),
        (b"DATA", b"451 4.3.0 later", 75),
        (b".", b"554 5.4.6 loop\x1b[2J", 1),
    ],
)
def test_send_says_what_was_refused(invoke: Invoke, listening: Listening, step: bytes, reply: bytes, code: int) -> None:
    listening.answers[step] = reply
    result = invoke("send", "b@y.example")
    assert result.exit_code == code
    assert reply[:3].decode() in result.stderr
    assert "\x1b" not in result.stderr


def test_send_without_a_listener(invoke: Invoke, config: Path) -> None:
    config.write_text(config.read_text().replace(":2525", ":1"))
    result = invoke("send", "b@y.example")
    assert result.exit_code == 69
    assert "127.0.0.1:1" in result.stderr


def test_send_refuses_an_address_that_breaks_a_header(invoke: Invoke, listening: Listening) -> None:
    result = invoke("send", "b@y.example", "--subject", "a\nBcc: c@y.example")
    assert result.exit_code == 2
    assert not listening.content


@pytest.mark.parametrize(
    ("state", "code"),
    [(RecipientState.RELAYED, 0), (RecipientState.FAILED, 1), (RecipientState.WAITING, 75)],
)
def test_send_waits_for_the_outcome(
    invoke: Invoke,
    listening: Listening,
    running: Services,
    spool: FakeSpool,
    monkeypatch: pytest.MonkeyPatch,
    state: RecipientState,
    code: int,
) -> None:
    monkeypatch.setattr(sending, "_POLL", 0.01)
    number = put(spool, "b@y.example")
    settle(spool, number, state, "x", "250 or not")
    listening.answers[b"."] = f"250 2.0.0 Ok: queued as {queue_id(number)}".encode()
    result = invoke("send", "b@y.example", "--wait", "--timeout", "0.1s" if code == 75 else "10s")
    assert result.exit_code == code
    assert "(250 or not)" in result.stdout


def test_user_hash_prints_a_hash_of_one_line_and_nothing_else(invoke: Invoke) -> None:
    result = invoke("user", "hash", input="geheim\n")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert verify("geheim", result.stdout.removesuffix("\n"))
    assert result.stdout != invoke("user", "hash", input="geheim\n").stdout


@pytest.mark.parametrize("given", ["", "\n", "geheim\nmore\n", b"\xff\n"])
def test_user_hash_takes_one_line_of_text(invoke: Invoke, given: str | bytes) -> None:
    result = invoke("user", "hash", input=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "geheim" not in result.stderr


def test_check_connects_and_says_what_is_in_the_way(invoke: Invoke, config: Path) -> None:
    found = invoke("check", "--connect")
    assert found.exit_code == 0
    assert found.stdout == (
        "ok  upstream ses  connect  the simulator needs no connection\n1 checks: 0 failed, 0 with a warning\n"
    )
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        text = config.read_text()
        config.write_text(f'{text}[upstream.gone]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n')
        found = invoke("check", "--connect")
        assert found.exit_code == 1
        assert (
            f"FAIL  upstream gone  connect  connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused\n"
            in found.stdout
        )
        document = json.loads(invoke("check", "--connect", "--json").stdout)
    assert document["ok"] is False
    assert document["warnings"] == []
    assert [each["level"] for each in document["checks"]] == ["ok", "fail"]


def test_check_asks_the_name_server_that_is_named(invoke: Invoke) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    found = invoke("check", "--dns", "--name-server", f"127.0.0.1:{port}", "--json")
    assert found.exit_code == 1
    checks = json.loads(found.stdout)["checks"]
    assert {each["check"] for each in checks} == {"hostname", "SPF", "DMARC", "MX"}
    assert {each["what"] for each in checks} == {"no name server answers"}
    assert invoke("check", "--dns", "--name-server", "dns.example").exit_code == 2


def test_check_as_json_without_more_is_the_configuration(invoke: Invoke) -> None:
    assert json.loads(invoke("check", "--json").stdout) == {"ok": True, "warnings": [], "checks": []}
