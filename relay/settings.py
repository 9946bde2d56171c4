"""What can be set, as frozen values with their defaults; ``config`` fills them from relay.toml.

Durations are seconds, sizes octets; a field's type names how relay.toml spells it. A room gets the one value that
concerns it, never the whole configuration. A key enters here with its feature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal

from relay.outcome import ReplyRule
from relay.spelling import Count, Duration, FilePath, Network, Period, Port, Room, Size, Spelling

InDoubt = Literal["retry", "hold", "fail"]
"""What becomes of mail that was sent whole and never answered."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that does not show itself in a ``repr``, an error or a log."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` in any ``window`` of that many seconds; ``text`` is how the file spells it."""

    count: int
    window: float
    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """After ``after`` messages nothing is begun for ``seconds``."""

    after: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Warmup:
    """``first_day`` messages on the day ``start``, then each day ``growth`` times as many. Days are the machine's."""

    start: date
    first_day: int
    growth: float


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """``match`` of a route: each condition that is given must hold, by one of its values. Domains and users in lower
    case; ``header`` pairs a field's name in lower case with a pattern in which "*" stands for anything.
    """

    sender_domain: tuple[str, ...] = ()
    recipient_domain: tuple[str, ...] = ()
    listener: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    priority: tuple[str, ...] = ()
    header: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """``[route.NAME]``: which upstreams have the mail that ``match`` describes, and how they share it."""

    name: str
    upstreams: tuple[str, ...] = ()
    strategy: Literal["failover", "rotate", "balance"] = "failover"
    match: Annotated[RouteMatch, Spelling.MATCH] = RouteMatch()


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """``[spool]``"""

    path: Annotated[str, Spelling.SPOOL] = "/var/lib/relay/spool.db"
    max_size: Size = 10_000_000_000
    min_free_disk: Room = 500_000_000
    history: Period = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """``[queue]``; ``bounces`` is "default", "off" or the name of a route or an upstream; ``delay_warning`` None: none
    is sent; ``dedupe`` None: a Message-ID that was seen before means nothing.
    """

    lifetime: Duration = 5 * 86400.0
    bounce_lifetime: Duration = 86400.0
    bounces: str = "default"
    delay_warning: Annotated[float | None, Spelling.DELAY] = 4 * 3600.0
    dedupe: Annotated[float | None, Spelling.DELAY] = None
    stop_timeout: Period = 30.0
    backoff: tuple[Duration, ...] = (60.0, 300.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """``[listener.NAME]``; ``address`` is "host:port", "[v6]:port" or "unix:" and an absolute path.

    ``socket_mode`` and ``socket_group`` are for a Unix socket; who connects from ``proxy_networks`` speaks the PROXY
    protocol, and is believed.
    """

    name: str = "app"
    address: Annotated[str, Spelling.ADDRESS] = "127.0.0.1:2525"
    socket_mode: Annotated[int, Spelling.MODE] = 0o660
    socket_group: str | None = None
    networks: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    proxy_networks: tuple[Network, ...] = ()
    tls: Literal["none", "starttls", "implicit"] = "none"
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    auth: Literal["none", "optional", "required"] = "none"
    max_message_size: Size = 25_000_000
    max_recipients: Count = 1000
    max_sessions: Count = 200
    max_sessions_per_client: Count = 50
    timeout: Duration = 300.0
    line_ends: Literal["normalize", "reject"] = "normalize"
    priority: Literal["urgent", "normal", "bulk"] = "normal"
    submit_limits: Annotated[tuple[Limit, ...], Spelling.LIMITS] = ()


@dataclass(frozen=True, slots=True)
class UserSettings:
    """``[user.NAME]``: who may log in; ``senders`` limits its reverse-paths, empty: any."""

    name: str
    password_hash: Annotated[Secret, Spelling.HASH] = Secret("")
    senders: tuple[Annotated[str, Spelling.SENDER], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """What the preset of an upstream knows of its provider and no key sets.

    ``replies`` is its table of refusals, ``accepted`` finds its id (group ``id``) in the text of a 250, and
    ``idempotency_header`` is the field by which it knows a message that it has already had.
    """

    replies: tuple[ReplyRule, ...] = ()
    accepted: str = ""
    idempotency_header: str = ""


@dataclass(frozen=True, slots=True)
class OAuth2Settings:
    """``oauth2`` of an upstream: where tokens come from, by ``refresh_token`` or else by the client's own secret."""

    token_url: Annotated[str, Spelling.URL] = ""
    client_id: str = ""
    client_secret: Secret | None = None
    refresh_token: Secret | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class DkimKeySettings:
    """One of ``keys`` of a ``[dkim."DOMAIN"]``; the file was read and its key tried."""

    selector: str
    key_file: str


@dataclass(frozen=True, slots=True)
class DkimSettings:
    """``[dkim."DOMAIN"]``: mail whose author is at this very domain is signed with all its keys.

    ``name`` is the domain in lower case; ``unsigned`` says what becomes of its mail that can't be signed.
    """

    name: str
    keys: Annotated[tuple[DkimKeySettings, ...], Spelling.DKIM_KEYS] = ()
    canonicalization: Literal["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"] = "relaxed/simple"
    unsigned: Literal["send", "defer", "refuse"] = "send"


@dataclass(frozen=True, slots=True)
class UpstreamDkimSettings:
    """``dkim`` of an upstream: how many of our ``signatures`` it takes (None: all), which fields they leave out, as it
    writes these itself (names in lower case), and whether ours must stand ``alone``: then what the application has
    signed gets none.
    """

    signatures: int | None = None
    leave_out: tuple[str, ...] = ()
    alone: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """``[upstream.NAME]``; ``password`` is filled from password, password_file, password_env or password_credential.

    ``provider`` goes with ``preset``.
    """

    name: str
    preset: str = "generic"
    provider: Provider = field(default=Provider(), compare=False, repr=False)
    kind: Literal["smtp", "ses", "sparkpost", "simulator"] = "smtp"
    host: Annotated[str, Spelling.HOST] = ""
    port: Port = 587
    tls: Literal["none", "starttls", "implicit", "opportunistic"] = "starttls"
    tls_verify: bool = True
    tls_ca: FilePath | None = None
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    auth: Literal["auto", "plain", "login", "cram-md5", "xoauth2", "oauthbearer"] = "auto"
    username: str | None = None
    password: Secret | None = None
    oauth2: OAuth2Settings | None = None
    region: Annotated[str, Spelling.HOST] = ""
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    configuration_set: str | None = None
    api_key: Secret | None = None
    endpoint: Annotated[str, Spelling.URL] = ""
    return_path: Literal["off", "sender"] = "off"
    options: Annotated[tuple[tuple[str, str | int | bool], ...], Spelling.OPTIONS] = ()
    address_family: Literal["any", "ipv4", "ipv6"] = "any"
    source_addresses: tuple[Annotated[str, Spelling.IP], ...] = ()
    max_connections: Count = 10
    max_messages_per_connection: Count = 10_000
    max_connection_age: Duration = 300.0
    idle_timeout: Duration = 30.0
    max_recipients: Count = 100
    max_message_size: Room = 0
    pipelining: Literal["off", "on", "chained", "auto"] = "auto"
    chunking: Literal["off", "auto"] = "auto"
    chunking_window: Count = 8
    connect_timeout: Duration = 30.0
    reply_timeout: Duration = 300.0
    final_reply_timeout: Duration = 600.0
    dkim: Annotated[UpstreamDkimSettings, Spelling.UPSTREAM_DKIM] = UpstreamDkimSettings()
    in_doubt: InDoubt = "retry"
    limits: tuple[Annotated[Limit, Spelling.LIMIT], ...] = ()
    limit_unit: Literal["messages", "recipients"] = "messages"
    pacing: Literal["burst", "even"] = "burst"
    pause: Annotated[Pause | None, Spelling.PAUSE] = None
    cycle: Count = 50
    reserve: Annotated[float, Spelling.SHARE] = 0.0
    warmup: Annotated[Warmup | None, Spelling.WARMUP] = None
    sender_rewrite: Annotated[tuple[tuple[str, str], ...], Spelling.SENDERS] = ()


@dataclass(frozen=True, slots=True)
class BrakeSettings:
    """``[brake]``: bulk mail of an upstream, a sender or a tag is held from the moment that a larger share of its
    recipients, ``minimum`` of them at least, ``bounces``, complains or is deferred within ``window``; None: however
    many do.
    """

    bounces: Annotated[float | None, Spelling.SHARE] = None
    complaints: Annotated[float | None, Spelling.SHARE] = None
    deferrals: Annotated[float | None, Spelling.SHARE] = None
    window: Duration = 3600.0
    minimum: Count = 50


@dataclass(frozen=True, slots=True)
class SuppressionSettings:
    """``[suppression]``: whether ``hard_bounces`` suppress an address, for ``ttl`` seconds (None: until it is removed),
    and what becomes of mail to a suppressed one.
    """

    hard_bounces: bool = True
    at_the_door: Literal["refuse", "accept"] = "refuse"
    ttl: Annotated[float | None, Spelling.DELAY] = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """``[feedback.NAME]``: whose notifications are believed. SES': of these ``topics``; SparkPost's: by ``username``
    and ``password``, or by ``token``. ``upstream`` is the one that they are about, "" where they tell themselves.
    """

    name: str
    kind: Literal["ses", "sparkpost"] = "ses"
    upstream: str = ""
    topics: tuple[str, ...] = ()
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class RewriteSettings:
    """``[rewrite]``; ``aliases`` pairs a local part or an address with an address. ``default_domain`` "": hostname."""

    aliases: Annotated[tuple[tuple[str, str], ...], Spelling.ALIASES] = ()
    default_domain: Annotated[str, Spelling.DOMAIN] = ""


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """``[control]``; ``path`` is the Unix socket; empty: ``control.sock`` beside the spool, as loading fills in."""

    path: Annotated[str, Spelling.SOCKET] = ""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """``[http]``; ``address`` is "host:port" or "[v6]:port"; "": off. ``token_file`` empty: ``http.token`` beside the
    spool, as loading fills in. The two limits are those of a message that is submitted.
    """

    address: Annotated[str, Spelling.DOOR] = "127.0.0.1:2580"
    auth: Literal["token", "none"] = "token"
    token_file: Annotated[str, Spelling.PATH] = ""
    max_message_size: Size = 25_000_000
    max_recipients: Count = 1000


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``; ``target`` is "stderr", "journald" or a file's path.

    ``key_file`` holds the key for ``recipients = "hash"``; empty: ``log.key`` beside the spool, as loading fills in.
    """

    format: Literal["text", "json"] = "text"
    target: Annotated[str, Spelling.LOG] = "stderr"
    recipients: Literal["full", "hash"] = "full"
    key_file: Annotated[str, Spelling.PATH] = ""
    tag: Annotated[str, Spelling.TAG] = "postfix"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole of relay.toml."""

    hostname: Annotated[str, Spelling.DOMAIN]
    upstreams: tuple[UpstreamSettings, ...]
    listeners: tuple[ListenerSettings, ...]
    spool: SpoolSettings = SpoolSettings()
    queue: QueueSettings = QueueSettings()
    control: ControlSettings = ControlSettings()
    log: LogSettings = LogSettings()
    http: HttpSettings | None = None
    users: tuple[UserSettings, ...] = ()
    rewrite: RewriteSettings = RewriteSettings()
    brake: BrakeSettings = BrakeSettings()
    suppression: SuppressionSettings | None = None
    feedback: tuple[FeedbackSettings, ...] = ()
    dkim: tuple[DkimSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
