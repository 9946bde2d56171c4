from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError, Machine, default_path, load, warnings
from relay.config.passwords import sources_of
from relay.config.tables import keys_of
from relay.listener.passwords import hash_password
from relay.settings import (
    BrakeSettings,
    ControlSettings,
    DkimKeySettings,
    DkimSettings,
    FeedbackSettings,
    HttpSettings,
    ListenerSettings,
    LogSettings,
    OAuth2Settings,
    QueueSettings,
    RewriteSettings,
    RouteMatch,
    RouteSettings,
    Secret,
    Settings,
    SpoolSettings,
    SuppressionSettings,
    UpstreamDkimSettings,
    UpstreamSettings,
    UserSettings,
    Warmup,
)
from relay.signing.keys import make_key, write_key

ROOT = Path(__file__).parents[1]
HASH = hash_password("x", b"0123456789abcdef")
BAD = Path(__file__).parent / "bad_configs"
MACHINE = Machine(lambda: "relay.example.com", lambda: False)
UPSTREAM = '[upstream.main]\nhost = "smtp.example.com"\n'


def read(folder: Path, text: str, environ: Mapping[str, str] | None = None, machine: Machine = MACHINE) -> Settings:
    path = folder / "relay.toml"
    path.write_text(text)
    return load(path, environ or {}, machine)


@pytest.mark.parametrize("case", sorted(p.name for p in BAD.iterdir()))
def test_bad_configuration_dies_with_its_sentence(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    shutil.copytree(BAD / case, folder)
    for secret in (*folder.glob("*.password"), *folder.glob("*.key")):
        secret.chmod(0o644)
    variables = folder / "environment"
    environ = dict(line.split("=", 1) for line in variables.read_text().splitlines()) if variables.exists() else {}
    with pytest.raises(ConfigError) as caught:
        load(folder / "relay.toml", environ, MACHINE)
    said = str(caught.value).replace(f"{folder}/", "")
    # "…" stands for the keys between the first and the last one of a list that grows with every feature.
    wanted = re.escape((folder / "expected").read_text().rstrip("\n")).replace("…", "[a-z0-9_, ]+")
    assert re.fullmatch(wanted, said), said
    assert len(caught.value.problems) == said.count("\n") + 1
    assert "geheim" not in said
    assert "geheim" not in repr(caught.value.problems)


def test_a_missing_file_is_a_problem_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.toml: found no such file or directory; allowed: a TOML file"):
        load(tmp_path / "no-such.toml", {}, MACHINE)


def test_what_is_not_set_is_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, UPSTREAM) == Settings(
        hostname="relay.example.com",
        upstreams=(UpstreamSettings("main", host="smtp.example.com"),),
        listeners=(ListenerSettings(),),
        control=ControlSettings("/var/lib/relay/control.sock"),
        log=LogSettings(key_file="/var/lib/relay/log.key"),
    )


def test_the_default_listener_is_on_both_loopbacks_where_there_are_two(tmp_path: Path) -> None:
    both = read(tmp_path, UPSTREAM, machine=Machine(lambda: "a.example", lambda: True))
    assert [(each.name, each.address) for each in both.listeners] == [("app", "127.0.0.1:2525"), ("app", "[::1]:2525")]
    named = read(
        tmp_path, UPSTREAM + "[listener.mine]\nmax_sessions = 3\n", machine=Machine(lambda: "a.example", lambda: True)
    )
    assert named.listeners == (ListenerSettings("mine", max_sessions=3),)


def test_a_machine_without_a_usable_name_is_localhost(tmp_path: Path) -> None:
    assert read(tmp_path, UPSTREAM, machine=Machine(lambda: "not a name", lambda: False)).hostname == "localhost"


def test_upstreams_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = '[upstream.z]\nhost = "z.example"\n[upstream.a]\nkind = "simulator"\n'
    assert [each.name for each in read(tmp_path, text).upstreams] == ["z", "a"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("4h", 14400.0), ("5d", 432000.0), ("1.5h", 5400.0)]
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    assert read(tmp_path, f'{UPSTREAM}[queue]\nlifetime = "{text}"\n').queue.lifetime == seconds


@pytest.mark.parametrize("text", ["5", "5 m", "-5m", "1h30m", "٣m", "inf", "1e3s", "4000d", ""])
def test_no_durations(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[queue\] lifetime: found"):
        read(tmp_path, f'{UPSTREAM}[queue]\nlifetime = "{text}"\n')


@pytest.mark.parametrize(
    ("text", "octets"),
    [("25MB", 25_000_000), ("10 GB", 10**10), ("1MiB", 2**20), ("1.5kB", 1500), ("7B", 7), ("2TiB", 2**41)],
)
def test_sizes(tmp_path: Path, text: str, octets: int) -> None:
    assert read(tmp_path, f'{UPSTREAM}[spool]\nmax_size = "{text}"\n').spool.max_size == octets


@pytest.mark.parametrize("text", ["25", "25mb", "25Mb", "0MB", "-1MB", "999999999999TB", "MB"])
def test_no_sizes(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"\[spool\] max_size: found"):
        read(tmp_path, f'{UPSTREAM}[spool]\nmax_size = "{text}"\n')


def test_aliases_from_file_and_environment(tmp_path: Path) -> None:
    text = UPSTREAM + '[rewrite]\naliases = { root = "ops@example.com", "a@b" = "c@d.example" }\n'
    pairs = (("root", "ops@example.com"), ("a@b", "c@d.example"))
    assert read(tmp_path, text).rewrite == RewriteSettings(pairs)
    over = {"RELAY__REWRITE__ALIASES__ROOT": "me@example.com", "RELAY__REWRITE__DEFAULT_DOMAIN": "example.com"}
    assert read(tmp_path, text, over).rewrite == RewriteSettings(
        (("root", "me@example.com"), ("a@b", "c@d.example")), "example.com"
    )
    whole = {"RELAY__REWRITE__ALIASES": '{ cron = "cron@example.com" }'}
    assert read(tmp_path, text, whole).rewrite.aliases == (("cron", "cron@example.com"),)


def test_suppression_is_on_where_its_table_stands(tmp_path: Path) -> None:
    assert read(tmp_path, UPSTREAM).suppression is None
    assert read(tmp_path, UPSTREAM + "[suppression]\n").suppression == SuppressionSettings()
    for_ever = read(tmp_path, UPSTREAM, {"RELAY__SUPPRESSION__TTL": "off"}).suppression
    assert for_ever == SuppressionSettings(ttl=None)


def test_webhooks_and_senders(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("geheim\n")
    (tmp_path / "token").chmod(0o600)
    text = (
        UPSTREAM
        + 'sender_rewrite = { "root@host.local" = "ops@example.com", "*@host.local" = "app@example.com" }\n'
        + '[feedback.ses]\ntopics = ["arn:aws:sns:eu-west-1:123456789012:mail"]\n'
        + '[feedback.sp]\nkind = "sparkpost"\ntoken_file = "token"\nupstream = "main"\n'
    )
    settings = read(tmp_path, text)
    assert settings.upstreams[0].sender_rewrite == (
        ("root@host.local", "ops@example.com"),
        ("*@host.local", "app@example.com"),
    )
    assert settings.feedback == (
        FeedbackSettings("ses", topics=("arn:aws:sns:eu-west-1:123456789012:mail",)),
        FeedbackSettings("sp", "sparkpost", "main", token=Secret("geheim")),
    )
    assert "geheim" not in repr(settings)
    assert read(tmp_path, UPSTREAM + "sender_rewrite = {}\n").upstreams[0].sender_rewrite == ()


def test_upstreams_of_apis_and_tokens(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("geheim\n")
    (tmp_path / "key").chmod(0o600)
    text = """
[upstream.ses]
kind = "ses"
region = "eu-west-1"
access_key_id_env = "KEY_ID"
secret_access_key_file = "key"
[upstream.sparkpost]
kind = "sparkpost"
api_key_file = "key"
options = { ip_pool = "main", transactional = true }
[upstream.m365]
host = "smtp.office365.com"
username = "me@example.com"
[upstream.m365.oauth2]
token_url = "https://login.example.com/oauth2/token"
client_id = "client"
client_secret_file = "key"
"""
    ses, sparkpost, m365 = read(tmp_path, text, {"KEY_ID": "AKIAEXAMPLE"}).upstreams
    assert (ses.access_key_id, ses.secret_access_key) == (Secret("AKIAEXAMPLE"), Secret("geheim"))
    assert sparkpost.options == (("ip_pool", "main"), ("transactional", True))
    assert m365.oauth2 == OAuth2Settings("https://login.example.com/oauth2/token", "client", Secret("geheim"))
    assert "geheim" not in repr((ses, sparkpost, m365))
    inline = {
        "RELAY__UPSTREAM__MAIN__OAUTH2": '{token_url = "https://a.example", client_id = "b", refresh_token = "c"}'
    }
    (main,) = read(tmp_path, f'{UPSTREAM}username = "me"\n', inline).upstreams
    assert main.oauth2 == OAuth2Settings("https://a.example", "b", refresh_token=Secret("c"))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('kind = "ses"\nregion = "eu-west-1"', r'kind: found "ses" without aiohttp and botocore'),
        ('kind = "sparkpost"\napi_key = "a"', r'kind: found "sparkpost" without aiohttp'),
        (
            (
                'host = "h"\nusername = "u"\n'
                'oauth2 = { token_url = "https://a.example", client_id = "b", refresh_token = "c" }'
            ),
            "oauth2: found a table, without aiohttp",
        ),
    ],
)
def test_what_an_extra_is_for_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, said: str) -> None:
    monkeypatch.setattr("relay.config.kinds.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf'{said}; allowed: what "pip install relay\[apis\]" brings'):
        read(tmp_path, f"[upstream.main]\n{table}\n")
    assert read(tmp_path, UPSTREAM).upstreams  # which needs nothing of it


def test_http_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.config.http.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'server is installed; allowed: what "pip install relay\[http\]" brings'):
        read(tmp_path, UPSTREAM + "[http]\n")
    assert read(tmp_path, UPSTREAM + '[http]\naddress = "off"\n').http is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        UPSTREAM + '[spool]\nurl = "sqlite:///../var/spool.db"\n[log]\ntarget = "./relay.log"\n',
    )
    assert settings.spool.path == str(tmp_path.parent / "var" / "spool.db")
    assert settings.control.path == str(tmp_path.parent / "var" / "control.sock")
    assert settings.log.target == str(tmp_path / "relay.log")


@pytest.mark.parametrize("source", ["password", "password_file", "password_env", "password_credential"])
def test_a_password_from_each_source(tmp_path: Path, source: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    value = {"password": "geheim", "password_env": "MAIN"}.get(source, "secret")
    environ = {"MAIN": "geheim", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = read(tmp_path, f'{UPSTREAM}username = "me"\n{source} = "{value}"\n', environ)
    password = settings.upstreams[0].password
    assert password is not None
    assert password.value == "geheim"
    assert "geheim" not in f"{settings!r} {password}"


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff\n"])
def test_a_password_file_holds_one_line(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    secret.chmod(0o600)
    with pytest.raises(ConfigError, match=r"\[upstream\.main\] password_file: found .*secret, which "):
        read(tmp_path, f'{UPSTREAM}username = "me"\npassword_file = "secret"\n')


def test_the_environment_lies_over_the_file(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        UPSTREAM + '[upstream.SES-api]\nhost = "old.example"\n',
        {
            "RELAY__HOSTNAME": "env.example.com",
            "RELAY__QUEUE__BACKOFF": '["1m", "2m"]',
            "RELAY__UPSTREAM__SES_API__HOST": "new.example",
            "RELAY__UPSTREAM__MAIN__PORT": "25",
            "RELAY__UPSTREAM__MAIN__TLS_VERIFY": "false",
            "RELAY__UPSTREAM__MAIN__USERNAME": "007",
            "RELAY__UPSTREAM__MAIN__PASSWORD": '"12" 3',
            "RELAY__UPSTREAM__BACKUP__HOST": "192.0.2.1",
            "RELAY_CONFIG": "/x",
        },
    )
    main, ses, backup = settings.upstreams
    assert settings.hostname == "env.example.com"
    assert settings.queue.backoff == (60.0, 120.0)
    assert (main.port, main.tls_verify, main.username) == (25, False, "007")
    assert main.password is not None
    assert main.password.value == '"12" 3'
    assert (ses.name, ses.host) == ("SES-api", "new.example")
    assert (backup.name, backup.host) == ("backup", "192.0.2.1")


def test_the_environment_alone_is_enough() -> None:
    environ = {"RELAY__UPSTREAM__SES__HOST": "192.0.2.1", "RELAY__UPSTREAM__SES__USERNAME": "12"}
    environ["RELAY__UPSTREAM__SES__PASSWORD"] = "34"
    assert load(Path("/dev/null"), environ, MACHINE).upstreams[0].username == "12"


@pytest.mark.parametrize(
    "networks", ['["10.0.0.0/8", "fd00::/8"]', '["198.51.100.7"]', '["2001:db8::/32"]', '["::ffff:10.0.0.0/104"]']
)
def test_a_public_address_may_serve_private_and_own_networks(tmp_path: Path, networks: str) -> None:
    text = f'{UPSTREAM}[listener.app]\naddress = "0.0.0.0:25"\nnetworks = {networks}\n'
    assert read(tmp_path, text).listeners[0].address == "0.0.0.0:25"


@pytest.mark.parametrize("address", ["127.0.0.1:2525", "[::1]:2525", "localhost:2525"])
def test_a_loopback_listener_may_name_any_network(tmp_path: Path, address: str) -> None:
    text = f'{UPSTREAM}[listener.app]\naddress = "{address}"\nnetworks = ["0.0.0.0/0", "::/0"]\n'
    assert read(tmp_path, text).listeners[0].networks == ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize("network", ["0.0.0.0/1", "8.0.0.0/8", "2000::/3", "::ffff:0:0/97"])
def test_a_wide_public_network_is_an_open_relay(tmp_path: Path, network: str) -> None:
    text = f'{UPSTREAM}[listener.app]\naddress = "192.0.2.1:25"\nnetworks = ["{network}"]\n'
    with pytest.raises(ConfigError, match="an open relay"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (UPSTREAM + 'final_reply_timeout = "599s"\n', "final_reply_timeout is below 10m"),
        (UPSTREAM + "tls_verify = false\n", "anybody on the way can read"),
        ('[upstream.a]\nkind = "ses"\nregion = "r"\ntls_verify = false\n', "can read mail and key"),
        (UPSTREAM + 'tls = "opportunistic"\n', "anybody on the way can read mail"),
        (UPSTREAM + 'tls = "none"\nusername = "a"\npassword = "b"\n', "the password crosses the network in clear"),
        (UPSTREAM + 'tls = "none"\ntls_verify = false\n', "tls_verify has no meaning beside"),
        (UPSTREAM + '[listener.a]\nmax_message_size = "11GB"\n', "refused for ever"),
        (UPSTREAM + '[listener.a]\naddress = "0.0.0.0:25"\nnetworks = ["198.51.100.0/24"]\n', "a public network"),
        (UPSTREAM + '[http]\naddress = "0.0.0.0:2580"\n', "[http] 0.0.0.0:2580: the token crosses"),
        ('hostname = "relay"\n' + UPSTREAM, "hostname: relay is no full domain name"),
    ],
)
def test_what_works_but_is_not_meant_is_a_warning(tmp_path: Path, text: str, said: str) -> None:
    (warning,) = warnings(read(tmp_path, text))
    assert said in warning


def test_http_is_off_until_it_stands_there(tmp_path: Path) -> None:
    assert read(tmp_path, UPSTREAM).http is None
    assert read(tmp_path, UPSTREAM + '[http]\naddress = "off"\n').http is None
    http = read(tmp_path, UPSTREAM + '[spool]\nurl = "sqlite:///s/spool.db"\n[http]\n').http
    assert http == HttpSettings(token_file=str(tmp_path / "s" / "http.token"))


def test_a_plain_configuration_has_no_warnings(tmp_path: Path) -> None:
    assert warnings(read(tmp_path, UPSTREAM)) == ()
    text = 'hostname = "relay"\n[upstream.a]\nkind = "simulator"\n[upstream.b]\nhost = "127.0.0.1"\ntls = "none"\n'
    assert warnings(read(tmp_path, text)) == ()


def test_the_default_path() -> None:
    assert default_path({}) == Path("/etc/relay/relay.toml")
    assert default_path({"RELAY_CONFIG": "x.toml"}) == Path("x.toml")


def uncommented() -> str:
    """conf/relay.toml with every key and table set."""
    text = (ROOT / "conf" / "relay.toml").read_text()
    return re.sub(r"(?m)^#(?=\w+ = |\[)", "", text)


def test_the_shipped_file_documents_every_key() -> None:
    document = tomllib.loads(uncommented())
    tables: dict[str, tuple[type, dict[str, Any]]] = {
        "spool": (SpoolSettings, document["spool"]),
        "queue": (QueueSettings, document["queue"]),
        "listener": (ListenerSettings, document["listener"]["app"]),
        "user": (UserSettings, document["user"]["billing"]),
        "upstream": (UpstreamSettings, document["upstream"]["main"]),
        "route": (RouteSettings, document["route"]["news"]),
        "rewrite": (RewriteSettings, document["rewrite"]),
        "brake": (BrakeSettings, document["brake"]),
        "suppression": (SuppressionSettings, document["suppression"]),
        "feedback": (FeedbackSettings, document["feedback"]["ses"]),
        "dkim": (DkimSettings, document["dkim"]["example.com"]),
        "control": (ControlSettings, document["control"]),
        "log": (LogSettings, document["log"]),
        "http": (HttpSettings, document["http"]),
    }
    assert document.keys() == {"hostname", *tables}
    for name, (of, table) in tables.items():
        assert set(table) == set(keys_of(of)), name


def test_the_shipped_file_documents_the_true_defaults(tmp_path: Path) -> None:
    examples = (
        r"(?m)^((hostname|tls_(ca|cert|key)|source_addresses|username|password\w*|aliases|default_domain"
        r"|socket_group|proxy_networks|senders|oauth2|region|access_key_id\w*|secret_access_key\w*|configuration_set"
        r"|limits|pause|warmup|upstreams|strategy|match|api_key\w*|return_path|options|endpoint"
        r"|keys|canonicalization|unsigned|dkim|kind|topics|upstream|token\w*|sender_rewrite) = .*"
        r"|\[(user|dkim|route|feedback).*|(bounces|complaints|deferrals) = .[\d.]+%.*)\n"
    )
    settings = read(tmp_path, re.sub(examples, "", uncommented()))
    (upstream,) = settings.upstreams
    assert settings.spool == SpoolSettings()
    assert settings.queue == QueueSettings()
    assert settings.listeners == (ListenerSettings(),)
    assert settings.log == LogSettings(key_file="/var/lib/relay/log.key")
    assert settings.http == HttpSettings(token_file="/var/lib/relay/http.token")
    assert settings.rewrite == RewriteSettings()
    assert settings.brake == BrakeSettings()
    assert settings.suppression == SuppressionSettings()
    assert settings.control == ControlSettings("/var/lib/relay/control.sock")
    assert dataclasses.replace(upstream, host="") == UpstreamSettings("main")


def test_the_shipped_file_marks_what_is_no_default() -> None:
    lines = (ROOT / "conf" / "relay.toml").read_text().splitlines()
    marked = {line[1:].split(" ")[0] for line in lines if re.match(r"#\w+ = .*# example", line)}
    assert marked == {
        *("hostname", "host", "tls_ca", "tls_cert", "tls_key", "source_addresses", "username"),
        *("password", "password_file", "password_env", "password_credential", "aliases", "default_domain"),
        *("socket_group", "proxy_networks", "password_hash", "senders", "keys", "dkim", "limits", "pause"),
        *("bounces", "complaints", "deferrals", "warmup", "upstreams", "match", "topics", "upstream"),
        *("sender_rewrite", *sources_of("token")),
        *("oauth2", "region", "configuration_set", "return_path", "options", "endpoint"),
        *(key for secret in ("access_key_id", "secret_access_key", "api_key") for key in sources_of(secret)),
    }


def test_the_shipped_file_wants_just_an_upstream() -> None:
    with pytest.raises(ConfigError) as caught:
        load(ROOT / "conf" / "relay.toml", {}, MACHINE)
    assert [problem.table for problem in caught.value.problems] == ["upstream.NAME"]


def test_the_demo_keeps_its_spool_in_the_clone() -> None:
    settings = load(ROOT / "conf" / "demo.toml", {}, MACHINE)
    assert settings.spool.path == str(ROOT / "var" / "spool.db")
    assert settings.spool.min_free_disk == 0
    assert [upstream.kind for upstream in settings.upstreams] == ["simulator"]
    assert settings.listeners == (ListenerSettings(),)


def test_keys_to_sign_with(tmp_path: Path) -> None:
    for name, key in (("r1", make_key("r1", "rsa", 1024)), ("e1", make_key("e1", "ed25519"))):
        write_key(tmp_path / f"{name}.pem", key)
    keys = '{ selector = "r1", key_file = "r1.pem" }, { selector = "e1.2026", key_file = "./e1.pem" }'
    text = f'{UPSTREAM}dkim = {{ signatures = 1, leave_out = ["Message-ID", "Date"], alone = true }}\n'
    settings = read(tmp_path, f'{text}[dkim."example.com"]\nkeys = [ {keys} ]\nunsigned = "defer"\n')
    read_keys = (
        DkimKeySettings("r1", str(tmp_path / "r1.pem")),
        DkimKeySettings("e1.2026", str(tmp_path / "e1.pem")),
    )
    assert settings.dkim == (DkimSettings("example.com", read_keys, unsigned="defer"),)
    assert settings.upstreams[0].dkim == UpstreamDkimSettings(1, ("date", "message-id"), alone=True)
    (warning,) = warnings(settings)
    assert re.fullmatch(r'\[dkim\."example\.com"\] \S+r1\.pem is an RSA key of 1024 bits; 2048 are advised .*', warning)


def test_a_key_that_systemd_keeps_may_be_read_by_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(tmp_path / "r1", make_key("r1", "ed25519"))
    (tmp_path / "r1").chmod(0o440)
    text = f'{UPSTREAM}[dkim."example.com"]\nkeys = [ {{ selector = "r1", key_file = "{tmp_path}/r1" }} ]\n'
    with pytest.raises(ConfigError, match="with mode 0440"):
        read(tmp_path, text)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read(tmp_path, text).dkim


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("3", "3 (an integer)"),
        ("{ signatures = 5 }", "5 (an integer)"),
        ("{ signatures = true }", "true (a boolean)"),
        ('{ leave_out = "Date" }', '"Date" (a string)'),
        ('{ leave_out = ["Date:"] }', "an array"),
        ('{ leave_out = ["from"] }', '"From"'),
        ("{ alone = 1 }", "1 (an integer)"),
        ("{ only = true }", "an unknown key"),
    ],
)
def test_what_an_upstream_can_not_want_of_signatures(tmp_path: Path, value: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[upstream\.main\] dkim\S*: found {re.escape(found)}"):
        read(tmp_path, f"{UPSTREAM}dkim = {value}\n")


def test_routes_and_shares(tmp_path: Path) -> None:
    text = f"""{UPSTREAM}reserve = "12.5%"
cycle = 7
warmup = {{ start = 2026-12-01, first_day = 200, growth = 1.5 }}
[listener.app]
priority = "bulk"
submit_limits = ["5/minute", "50/day"]
[user.Billing]
password_hash = "{HASH}"
[route.news]
upstreams = ["main"]
strategy = "balance"
[route.news.match]
sender_domain = ["News.Example.com"]
recipient_domain = ["*.example.org"]
listener = ["app"]
user = ["Billing"]
priority = ["bulk", "normal"]
header = {{ X-Campaign = ["a*", "b"], X-Kind = "news" }}
"""
    settings = read(tmp_path, text)
    (upstream,), (listener,), (route,) = settings.upstreams, settings.listeners, settings.routes
    assert (upstream.reserve, upstream.cycle, upstream.warmup) == (0.125, 7, Warmup(date(2026, 12, 1), 200, 1.5))
    assert (listener.priority, [limit.text for limit in listener.submit_limits]) == ("bulk", ["5/minute", "50/day"])
    match = RouteMatch(
        ("news.example.com",),
        ("*.example.org",),
        ("app",),
        ("billing",),
        ("bulk", "normal"),
        (("x-campaign", "a*"), ("x-campaign", "b"), ("x-kind", "news")),
    )
    assert route == RouteSettings("news", ("main",), "balance", match)


def test_a_route_that_no_mail_takes_is_warned_of(tmp_path: Path) -> None:
    route = '[route.other]\nupstreams = ["main"]\n'
    assert any(said.startswith("[route.other] has no match") for said in warnings(read(tmp_path, UPSTREAM + route)))
    bounces = f'[queue]\nbounces = "other"\n{UPSTREAM}{route}'
    assert not any("route.other" in said for said in warnings(read(tmp_path, bounces)))
