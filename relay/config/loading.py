"""relay.toml and the environment into :class:`~relay.settings.Settings`, or everything that is wrong with them."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from relay.config import rules
from relay.config.aws import with_smtp_credentials
from relay.config.dkim import DOMAIN, DOMAIN_ALLOWED, dkim_problems
from relay.config.environment import PREFIX, Variable, overlay
from relay.config.feedback import feedback_problems
from relay.config.http import http_problems
from relay.config.kinds import oauth2_problems
from relay.config.passwords import SECRETS, take_secret
from relay.config.presets import fill_in, presets
from relay.config.problems import ConfigError, Problem, describe, table_name, unknown
from relay.config.routes import bounces_problems, route_problems
from relay.config.tables import Table, TableReader, keys_of, variable_of
from relay.config.values import SOCKET_PATH_MAX, is_domain
from relay.settings import (
    BrakeSettings,
    ControlSettings,
    DkimSettings,
    FeedbackSettings,
    HttpSettings,
    ListenerSettings,
    LogSettings,
    OAuth2Settings,
    QueueSettings,
    RewriteSettings,
    RouteSettings,
    Settings,
    SpoolSettings,
    SuppressionSettings,
    UpstreamSettings,
    UserSettings,
)
from relay.spelling import Spelling

T = TypeVar("T")

DEFAULT_PATH: Final = "/etc/relay/relay.toml"
_KNOWN: Final = (
    "hostname",
    "spool",
    "queue",
    "listener",
    "user",
    "upstream",
    "route",
    "rewrite",
    "brake",
    "suppression",
    "feedback",
    "dkim",
    "control",
    "log",
    "http",
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_USER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")
_LETTERS: Final = "letters, digits, dots, underscores and hyphens"
_NAMES: Final = {"user": (_USER_NAME, f'{_LETTERS}, "+" and "@"'), "dkim": (DOMAIN, DOMAIN_ALLOWED)}
_SYNTAX: Final = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Machine:
    """What defaults ask of the machine; tests hand in another one."""

    hostname: Callable[[], str]
    has_ipv6_loopback: Callable[[], bool]


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


THIS_MACHINE: Final = Machine(socket.getfqdn, _has_ipv6_loopback)


def default_path(environ: Mapping[str, str]) -> Path:
    """``$RELAY_CONFIG``, else /etc/relay/relay.toml."""
    return Path(environ.get("RELAY_CONFIG") or DEFAULT_PATH)


def load(path: Path, environ: Mapping[str, str], machine: Machine = THIS_MACHINE) -> Settings:
    """Read a configuration file and what ``RELAY__…`` in ``environ`` lays over it.

    Paths in the result are absolute, secrets read, every default filled in. Raises :class:`ConfigError` with all
    problems at once, except that a file which is no TOML has just that one.
    """
    file = str(path)
    return _Loading(file, path.absolute().parent, environ, machine).settings(_parse(file, path))


@dataclass(frozen=True, slots=True)
class _Top:
    """The keys above the first table."""

    hostname: Annotated[str, Spelling.DOMAIN] = ""


class _Loading:
    """One load: collects the problems of all tables, then the rules' between them."""

    def __init__(self, file: str, folder: Path, environ: Mapping[str, str], machine: Machine) -> None:
        self._file = file
        self._folder = folder
        self._environ = environ
        self._machine = machine
        self._reader = TableReader(file, folder)
        self._problems: list[Problem] = []

    def settings(self, document: dict[str, Any]) -> Settings:
        for variable in overlay(document, self._environ):
            allowed = f"{PREFIX}KEY, {PREFIX}TABLE__KEY or {PREFIX}TABLE__NAME__KEY"
            self._problem("", "", "a variable that names no key", allowed, variable.name)
        for key, value in document.items():
            if key not in _KNOWN:
                self._problem("", key, *unknown(key, _KNOWN), variable_of(value))
        hostname = self._hostname(document)
        spool = self._table(SpoolSettings, document, "spool")
        queue = self._table(QueueSettings, document, "queue")
        listeners = list(self._tables(ListenerSettings, document, "listener"))
        users = list(self._tables(UserSettings, document, "user"))
        upstreams = [with_smtp_credentials(each) for each in self._tables(UpstreamSettings, document, "upstream")]
        rewrite = self._table(RewriteSettings, document, "rewrite")
        brake = self._table(BrakeSettings, document, "brake")
        suppression = self._table(SuppressionSettings, document, "suppression")
        feedback = list(self._tables(FeedbackSettings, document, "feedback"))
        dkim = list(self._tables(DkimSettings, document, "dkim"))
        control = self._table(ControlSettings, document, "control")
        log = self._table(LogSettings, document, "log")
        http = self._table(HttpSettings, document, "http")
        if not document.get("upstream"):
            self._problem("upstream.NAME", "", "no upstream", "one such table at least: where mail goes")
        self._problems += rules.check(self._file, listeners, upstreams, users)
        if "http" in document:
            self._problems += http_problems(self._file, http, listeners)
        for signing in dkim:
            self._problems += dkim_problems(self._file, signing)
        routes = list(self._tables(RouteSettings, document, "route"))
        self._problems += route_problems(self._file, routes, upstreams, listeners, users)
        self._problems += feedback_problems(self._file, feedback, upstreams)
        self._problems += bounces_problems(self._file, queue, routes, upstreams)
        settings = Settings(
            hostname=hostname,
            spool=spool.value,
            queue=queue.value,
            listeners=tuple(table.value for table in listeners) or self._default_listeners(document),
            upstreams=tuple(table.value for table in upstreams),
            control=self._control(control, spool),
            log=self._log(log.value, spool.value),
            http=self._http(http.value, spool.value) if "http" in document else None,
            users=tuple(table.value for table in users),
            rewrite=rewrite.value,
            brake=brake.value,
            suppression=suppression.value if "suppression" in document else None,
            feedback=tuple(table.value for table in feedback),
            dkim=tuple(table.value for table in dkim),
            routes=tuple(table.value for table in routes),
        )
        if self._problems:
            raise ConfigError(self._problems)
        return settings

    def _problem(self, table: str, key: str, found: str, allowed: str, variable: str | None = None) -> None:
        self._problems.append(Problem(self._file, table, key, found, allowed, variable))

    def _hostname(self, document: dict[str, Any]) -> str:
        top, problems = self._reader.read(_Top, "", {key: document[key] for key in keys_of(_Top) if key in document})
        self._problems += problems
        if top.value.hostname:
            return top.value.hostname
        name = self._machine.hostname()
        return name if is_domain(name) else "localhost"

    def _table(self, of: type[T], document: dict[str, Any], name: str) -> Table[T]:
        table, problems = self._reader.read(of, name, self._raw(document, name))
        self._problems += problems
        return table

    def _tables(self, of: type[T], document: dict[str, Any], section: str) -> Iterator[Table[T]]:
        tables = self._raw(document, section)
        known = presets() if of is UpstreamSettings else {}
        for name in tables:
            label = table_name(section, name)
            pattern, allowed = _NAMES.get(section, (_NAME, _LETTERS))
            if not pattern.fullmatch(name):
                self._problem(section, name, "such a name for a table", allowed)
                continue
            raw = self._raw(tables, name, label)
            raw = dict(raw)
            given: dict[str, Any] = {"name": name}
            if of is UpstreamSettings:
                raw, given["provider"], wrong = fill_in(raw, known)
                for key, why in wrong:
                    self._problem(label, key, why.found, why.allowed, variable_of(raw.get(key)))
            if of is UpstreamSettings and "oauth2" in raw:
                given["oauth2"] = self._oauth2(f"{label}.oauth2", raw.pop("oauth2"))
            yield self._with_secrets(of, label, raw, given)

    def _with_secrets(self, of: type[T], label: str, raw: dict[str, Any], given: dict[str, Any]) -> Table[T]:
        """Read a table of which some keys are secrets; these have several spellings."""
        rest, bad = dict(raw), set[str]()
        for name in SECRETS.get(of, ()):
            secret, wrong = take_secret(name, rest, self._environ, self._folder)
            given |= {name: secret} if secret else {}
            bad |= {name} if wrong else set()
            for key, why in wrong:
                self._problem(label, key, why.found, why.allowed, variable_of(raw[key]))
        table, problems = self._reader.read(of, label, rest, given)
        self._problems += problems
        return dataclasses.replace(table, raw=raw, bad=table.bad | bad)

    def _oauth2(self, label: str, raw: Any) -> OAuth2Settings:
        raw = raw.toml if isinstance(raw, Variable) else raw
        if not isinstance(raw, dict):
            self._problem(label.removesuffix(".oauth2"), "oauth2", describe(raw), "a table")
            return OAuth2Settings()
        table = self._with_secrets(OAuth2Settings, label, raw, {})
        self._problems += oauth2_problems(self._file, table)
        return table.value

    def _raw(self, document: dict[str, Any], name: str, label: str = "") -> dict[str, Any]:
        raw = document.get(name, {})
        if isinstance(raw, dict):
            return raw
        found = describe(raw.toml if isinstance(raw, Variable) else raw)
        of = (
            "tables"
            if name in {"dkim", "feedback", "listener", "route", "upstream", "user"} and not label
            else "a table"
        )
        self._problem(label or name, "", found, of, variable_of(raw))
        return {}

    def _default_listeners(self, document: dict[str, Any]) -> tuple[ListenerSettings, ...]:
        if document.get("listener"):
            return ()
        v4 = ListenerSettings()
        return (v4, dataclasses.replace(v4, address="[::1]:2525")) if self._machine.has_ipv6_loopback() else (v4,)

    def _log(self, log: LogSettings, spool: SpoolSettings) -> LogSettings:
        beside = os.path.join(os.path.dirname(spool.path), "log.key")  # noqa: PTH118, PTH120
        return log if log.key_file else dataclasses.replace(log, key_file=beside)

    def _http(self, http: HttpSettings, spool: SpoolSettings) -> HttpSettings | None:
        beside = os.path.join(os.path.dirname(spool.path), "http.token")  # noqa: PTH118, PTH120
        if not http.address:
            return None
        return http if http.token_file else dataclasses.replace(http, token_file=beside)

    def _control(self, control: Table[ControlSettings], spool: Table[SpoolSettings]) -> ControlSettings:
        if control.value.path:
            return control.value
        path = os.path.join(os.path.dirname(spool.value.path), "control.sock")  # noqa: PTH118, PTH120
        if len(os.fsencode(path)) > SOCKET_PATH_MAX and not control.bad and not spool.bad:
            allowed = f'"unix:" and a path of at most {SOCKET_PATH_MAX} octets'
            self._problem("control", "address", f'"unix:{path}", the default beside the spool', allowed)
        return ControlSettings(path)


def _parse(file: str, path: Path) -> dict[str, Any]:
    try:
        octets = path.read_bytes()
    except OSError as error:
        found, allowed = error.strerror or "an unreadable file", "a TOML file that this user can read"
        raise ConfigError([Problem(file, "", "", found.lower(), allowed)]) from None
    try:
        return tomllib.loads(octets.decode())
    except UnicodeDecodeError as error:
        line, found = octets[: error.start].count(b"\n") + 1, "an octet that is no UTF-8"
    except RecursionError:
        line, found = 1, "values nested too deeply"
    except tomllib.TOMLDecodeError as error:
        said = _SYNTAX.fullmatch(str(error))
        what, at = (said["what"], said["line"]) if said else (str(error), None)
        line, found = int(at or octets.count(b"\n") + 1), f"no TOML ({what[:1].lower()}{what[1:]})"
    raise ConfigError([Problem(file, "", f"line {line}", found, "TOML 1.0")])
