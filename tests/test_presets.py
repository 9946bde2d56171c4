"""What is known of providers: every line of every table, and what a preset does to a configuration."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.config import ConfigError, Machine, load, warnings
from relay.config.aws import ses_smtp_password
from relay.config.presets import Preset, ReplyLine, fill_in, presets
from relay.outcome import Command, Outcome, Scope, Trouble, Verdict, classify, parse_reply
from relay.settings import Settings, UpstreamSettings

MACHINE = Machine(lambda: "relay.example.com", lambda: False)
PRESETS = presets()
SMTP = sorted(name for name, preset in PRESETS.items() if preset.kind == "smtp" and name != "generic")
GENERIC = PRESETS["generic"].replies
LINES = [
    pytest.param(preset, line, id=f"{preset.name}-{line.trouble}-{n}")
    for preset in PRESETS.values()
    for n, line in enumerate(preset.replies)
    if preset.name == "generic" or line not in GENERIC
]
CREDENTIALS = {
    "ses-smtp": 'region = "eu-west-1"\nusername = "u"\n',
    "localhost": "",
}


def read(folder: Path, text: str) -> Settings:
    path = folder / "relay.toml"
    path.write_text(text)
    return load(path, {}, MACHINE)


def judged(said: str, preset: str = "generic", command: Command = Command.CONTENT) -> Outcome:
    reply = parse_reply(int(said[:3]), [said[4:]])
    return classify(reply, command, host="up[192.0.2.1]", rules=PRESETS[preset].provider().replies)


@pytest.mark.parametrize("command", [Command.MAIL, Command.RCPT, Command.DATA, Command.CONTENT, Command.BDAT])
@pytest.mark.parametrize(("preset", "line"), LINES)
def test_each_line_means_what_the_table_says(preset: Preset, line: ReplyLine, command: Command) -> None:
    outcome = judged(line.said, preset.name, command)
    assert outcome.trouble is line.trouble
    if line.trouble in {Trouble.RECIPIENT, Trouble.CONTENT}:
        assert outcome.scope is (Scope.RECIPIENT if line.trouble is Trouble.RECIPIENT else Scope.MESSAGE)
        assert outcome.verdict is (Verdict.FAILED if line.said.startswith("5") else Verdict.DEFERRED)
    else:
        assert (outcome.verdict, outcome.scope) == (Verdict.DEFERRED, Scope.UPSTREAM), "nobody's failure"
    assert line.said[4:] in outcome.detail


@pytest.mark.parametrize(("preset", "line"), LINES)
def test_each_line_is_needed_and_has_its_source(preset: Preset, line: ReplyLine) -> None:
    first = next(each for each in preset.replies if each.rule().pattern.search(line.said))
    assert first is line, "an earlier line takes what this one is for"
    assert line.source.startswith("https://")


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ("452 4.3.1 Insufficient system storage", Command.MAIL),
        ("452 4.5.3 Error: too many recipients", Command.RCPT),
        ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", Command.RCPT),
        ("452 4.2.2 The email account that you tried to reach is over quota.", Command.RCPT),
        ("550 5.2.1 The email account that you tried to reach is disabled.", Command.RCPT),
        ("552 5.2.2 Mailbox quota exceeded", Command.CONTENT),
        ("451 4.7.1 Greylisted, please try again in 300 seconds", Command.RCPT),
        ("450 4.7.1 <b@y.test>: Recipient address rejected: Policy Rejection- Quota Exceeded.", Command.RCPT),
        ("554 5.7.1 Message rejected as spam", Command.CONTENT),
        ("550 5.1.1 User unknown", Command.RCPT),
        ("432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded", Command.CONTENT),
    ],
)
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_what_is_about_one_mailbox_pauses_nobody(said: str, command: Command, preset: str) -> None:
    assert judged(said, preset, command).scope in {Scope.RECIPIENT, Scope.MESSAGE}


def test_a_quota_said_at_auth_is_no_wrong_password() -> None:
    said = "451 Authentication failed: Maximum credits exceeded"
    assert judged(said, "sendgrid", Command.AUTH).trouble is Trouble.QUOTA
    assert judged(said, "generic", Command.AUTH).trouble is Trouble.AUTH


def test_mail_is_not_judged_by_what_is_said_before_any_mail() -> None:
    said = "554 Message rejected: Email address is not verified."
    assert judged(said, "ses-smtp", Command.CONTENT).verdict is Verdict.FAILED
    assert judged(said, "ses-smtp", Command.GREETING).scope is Scope.UPSTREAM


def test_a_time_in_the_reply_is_read() -> None:
    dated = "421 Domain x.test is not allowed to send: recipient limit exceeded, try again after {}"
    assert judged(dated.format("Sun, 05 Oct 2025 19:22:44 UTC"), "mailgun").until == 1759692164.0
    assert judged(dated.format("Sun, 05 Oct 2025 21:22:44 +0200"), "mailgun").until == 1759692164.0
    assert judged(dated.format("Sun, 99 Oct 2025 19:22:44 UTC"), "mailgun").until is None
    assert judged(dated.format("Sun, 99 Oct 2025 19:22:44 UTC"), "mailgun").trouble is Trouble.QUOTA
    said = "535 5.7.0 Your account is on probation and domains are limited to 100 messages / hour. "
    assert judged(f"{said}Account will be enabled in 2081 seconds", "mailgun", Command.AUTH).wait == 2081.0
    assert judged("550 Too many messages. Try again in 92 seconds.").wait == 92.0


@pytest.mark.parametrize(
    ("preset", "text", "found"),
    [
        ("ses-smtp", "Ok 0100018f5b1c2d3e-11111111-2222-3333-4444-555555555555-000000", None),
        ("sendgrid", "Ok: queued as qA3xT6aYQ1y", "qA3xT6aYQ1y"),
        ("brevo", "Message queued as <202511221010.1@smtp-relay.mailin.fr>", "<202511221010.1@smtp-relay.mailin.fr>"),
        (
            "google-workspace",
            "OK  1700000000 d2e1a72fcca58-715e57a0f50si1104 - gsmtp",
            "d2e1a72fcca58-715e57a0f50si1104",
        ),
        ("microsoft-365", "<a@b> [InternalId=123456, Hostname=x.prod.outlook.com] Queued mail for delivery", "123456"),
    ],
)
def test_the_providers_id_is_found_in_its_250(preset: str, text: str, found: str | None) -> None:
    match = re.search(PRESETS[preset].accepted, text)
    assert match is not None
    assert match["id"] == (found or text.removeprefix("Ok "))


@pytest.mark.parametrize("name", SMTP)
def test_a_preset_is_a_whole_upstream_but_for_credentials(name: str, tmp_path: Path) -> None:
    preset = PRESETS[name]
    more = CREDENTIALS.get(name, "" if "username" in preset.set else 'username = "u"\n')
    password = "" if name == "localhost" else 'password = "p"\n'
    settings = read(tmp_path, f'[upstream.main]\npreset = "{name}"\n{more}{password}')
    (upstream,) = settings.upstreams
    assert upstream.host
    assert warnings(settings) == (), "a preset does not contradict itself"
    if preset.ports:
        assert upstream.port in preset.ports[upstream.tls]
    for key, value in {**preset.most, **preset.set}.items():
        if isinstance(value, int):
            assert getattr(upstream, key) == value


def test_every_key_of_a_preset_is_known_and_overridable(tmp_path: Path) -> None:
    text = '[upstream.main]\npreset = "sparkpost-smtp"\npassword = "p"\nmax_connections = 3\nhost = "proxy.example"\n'
    (upstream,) = read(tmp_path, text).upstreams
    assert (upstream.host, upstream.max_connections) == ("proxy.example", 3)
    assert (upstream.max_messages_per_connection, upstream.username) == (100, "SMTP_Injection")


@pytest.mark.parametrize(
    ("more", "port", "tls"),
    [("", 587, "starttls"), ("port = 465\n", 465, "implicit"), ('tls = "implicit"\n', 465, "implicit")],
)
def test_port_and_tls_follow_each_other(tmp_path: Path, more: str, port: int, tls: str) -> None:
    (upstream,) = read(tmp_path, f'[upstream.main]\npreset = "sendgrid"\npassword = "p"\n{more}').upstreams
    assert (upstream.port, upstream.tls, upstream.username) == (port, tls, "apikey")


@pytest.mark.parametrize(
    ("preset", "region", "host"),
    [
        ("ses-smtp", "eu-west-1", "email-smtp.eu-west-1.amazonaws.com"),
        ("mailgun", "eu", "smtp.eu.mailgun.org"),
        ("sparkpost-smtp", "eu", "smtp.eu.sparkpostmail.com"),
    ],
)
def test_a_region_chooses_the_host(tmp_path: Path, preset: str, region: str, host: str) -> None:
    text = f'[upstream.main]\npreset = "{preset}"\nregion = "{region}"\nusername = "u"\npassword = "p"\n'
    assert read(tmp_path, text).upstreams[0].host == host


def test_the_environment_names_preset_and_region(tmp_path: Path) -> None:
    environ = {
        "RELAY__UPSTREAM__MAIN__PRESET": "ses-smtp",
        "RELAY__UPSTREAM__MAIN__REGION": "us-east-1",
        "RELAY__UPSTREAM__MAIN__USERNAME": "u",
        "RELAY__UPSTREAM__MAIN__PASSWORD": "p",
    }
    upstream = load(Path("/dev/null"), environ, MACHINE).upstreams[0]
    assert (upstream.host, upstream.max_recipients) == ("email-smtp.us-east-1.amazonaws.com", 50)


@pytest.mark.parametrize(
    ("secret", "region", "password"),
    [
        # The vectors of the Terraform provider for AWS, which SES has proved for years.
        ("some+secret+key", "eu-central-1", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
        ("another+secret+key", "eu-central-1", "BBbphbrQmrKMx42d1N6+C7VINYEBGI5v9VsZeTxwskfh"),
        ("some+secret+key", "us-west-1", "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj"),
    ],
)
def test_the_smtp_password_of_an_iam_secret(tmp_path: Path, secret: str, region: str, password: str) -> None:
    assert ses_smtp_password(secret, region) == password
    keys = f'access_key_id = "AKIA1"\nsecret_access_key = "{secret}"\n'
    settings = read(tmp_path, f'[upstream.main]\npreset = "ses-smtp"\nregion = "{region}"\n{keys}')
    (upstream,) = settings.upstreams
    assert upstream.username == "AKIA1"
    assert upstream.password is not None
    assert upstream.password.value == password
    assert password not in repr(settings)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("max_messages_per_connection = 101\n", "max_messages_per_connection: 101 is above what SparkPost by SMTP"),
        ("max_connections = 11\n", "max_connections: 11 is above"),
        ('max_message_size = "0MB"\n', "max_message_size: no limit is above what"),
        (
            'port = 25\ntls = "starttls"\n',
            'port 25 with tls = "starttls": SparkPost by SMTP has 587, 2525 for starttls',
        ),
    ],
)
def test_what_a_provider_does_not_bear_is_a_warning(tmp_path: Path, more: str, said: str) -> None:
    text = f'[upstream.main]\npreset = "sparkpost-smtp"\npassword = "p"\n{more}'
    (warning,) = warnings(read(tmp_path, text))
    assert warning.startswith("[upstream.main] ")
    assert said in warning


@pytest.mark.parametrize(
    ("host", "preset"),
    [
        ("email-smtp.eu-west-1.amazonaws.com", "ses-smtp"),
        ("smtp.gmail.com", "gmail"),
        ("smtp.eu.mailgun.org", "mailgun"),
        ("smtp.example.com", None),
        ("email-smtp.example.com", None),
        ("127.0.0.1", None),
    ],
)
def test_a_provider_that_no_preset_names_is_a_warning(tmp_path: Path, host: str, preset: str | None) -> None:
    text = f'[upstream.main]\nhost = "{host}"\n'
    said = warnings(read(tmp_path, text))
    assert [f'preset = "{preset}"' in each for each in said if "preset" in each] == [True] * (preset is not None)


def test_another_host_has_ports_of_its_own(tmp_path: Path) -> None:
    text = '[upstream.main]\npreset = "sparkpost-smtp"\npassword = "p"\nhost = "tunnel.example"\nport = 2500\n'
    assert warnings(read(tmp_path, text)) == ()


def test_without_a_preset_the_generic_lines_hold(tmp_path: Path) -> None:
    (upstream,) = read(tmp_path, '[upstream.main]\nhost = "smtp.example.com"\n').upstreams
    assert upstream == UpstreamSettings("main", host="smtp.example.com")
    assert upstream.provider == PRESETS["generic"].provider()


def test_another_kind_with_a_preset_keeps_just_its_table() -> None:
    raw = {"preset": "ses-smtp", "kind": "simulator"}
    filled, provider, wrong = fill_in(raw, PRESETS)
    assert filled == raw
    assert provider == PRESETS["ses-smtp"].provider()
    assert wrong == []


def test_an_unknown_preset_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'preset: found "sess" \(a string\); allowed: brevo, .*, socketlabs'):
        read(tmp_path, '[upstream.main]\npreset = "sess"\nhost = "h.example"\n')


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["presets", *arguments])
    return result.exit_code, result.output


def test_presets_list_and_show() -> None:
    code, listed = run("list")
    assert code == 0
    assert [line.split()[0] for line in listed.splitlines()] == list(PRESETS)
    code, told = run("list", "--json")
    assert [each["name"] for each in json.loads(told)] == list(PRESETS)
    for name, preset in PRESETS.items():
        code, shown = run("show", name)
        assert code == 0
        assert preset.title in shown
        assert all(line.said in shown for line in preset.replies)
        code, told = run("show", name, "--json")
        record: dict[str, Any] = json.loads(told)
        assert record["limits"] == dict(preset.most)
        assert len(record["replies"]) == len(preset.replies)
    assert run("show", "nix")[0] == 1


def test_what_show_prints_is_toml_once_uncommented() -> None:
    for name in PRESETS:
        shown = run("show", name)[1].partition("[upstream.NAME]\n")[2].partition("\n\n")[0]
        lines = [line.removeprefix("# ") for line in shown.splitlines() if not line.startswith("# with region")]
        assert tomllib.loads("\n".join(lines))["preset"] == name


def test_the_documentation_has_a_section_for_each() -> None:
    text = (Path(__file__).parents[1] / "docs" / "providers.md").read_text()
    assert [name for name in PRESETS if f"`{name}`" not in text] == []


def test_a_provider_is_no_part_of_what_makes_settings_differ() -> None:
    upstream = UpstreamSettings("main")
    assert dataclasses.replace(upstream, provider=PRESETS["ses-smtp"].provider()) == upstream
