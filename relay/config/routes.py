"""What must hold between routes and the upstreams, listeners and users that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from relay.config.problems import Problem, describe, table_name
from relay.config.tables import Table
from relay.delivery.routing import DEFAULT
from relay.settings import (
    ListenerSettings,
    QueueSettings,
    RouteMatch,
    RouteSettings,
    Settings,
    UpstreamSettings,
    UserSettings,
)


def route_problems(
    file: str,
    routes: Sequence[Table[RouteSettings]],
    upstreams: Sequence[Table[UpstreamSettings]],
    listeners: Sequence[Table[ListenerSettings]],
    users: Sequence[Table[UserSettings]],
) -> Iterator[Problem]:
    """A route leads to upstreams that there are, and looks at what there is."""
    names = [upstream.value.name for upstream in upstreams]
    for route in routes:
        settings = route.value
        if "upstreams" not in route.bad:
            if not settings.upstreams:
                yield route.problem(file, "upstreams", "nothing", "names of upstreams")
            for name in settings.upstreams:
                if name not in names:
                    yield route.problem(file, "upstreams", describe(name), f"names of upstreams: {', '.join(names)}")
            if len(set(settings.upstreams)) < len(settings.upstreams):
                yield route.problem(file, "upstreams", "an upstream twice", "each upstream once")
        if settings.name == DEFAULT and settings.match != RouteMatch():
            yield route.problem(file, "match", "conditions", "none: default has what no other route has")
        known_listeners = {listener.value.name for listener in listeners} or {ListenerSettings().name}
        known_users = {user.value.name.lower() for user in users}
        conditions: tuple[tuple[str, tuple[str, ...], set[str]], ...] = (
            ("listener", settings.match.listener, known_listeners),
            ("user", settings.match.user, known_users),
        )
        for key, given, known in conditions:
            for name in given:
                if name not in known:
                    yield route.problem(file, f"match.{key}", describe(name), f"the name of a {key} that there is")


def bounces_problems(
    file: str,
    queue: Table[QueueSettings],
    routes: Sequence[Table[RouteSettings]],
    upstreams: Sequence[Table[UpstreamSettings]],
) -> Iterator[Problem]:
    """Notifications take a way that there is."""
    names = {route.value.name for route in routes} | {upstream.value.name for upstream in upstreams}
    if "bounces" not in queue.bad and queue.value.bounces not in names | {DEFAULT, "off"}:
        allowed = '"default", "off" or the name of a route or an upstream'
        yield queue.problem(file, "bounces", describe(queue.value.bounces), allowed)


def route_warnings(settings: Settings) -> Iterator[str]:
    """What works but is likely not meant."""
    for route in settings.routes:
        where = f"[{table_name('route', route.name)}]"
        if route.name != DEFAULT and route.match == RouteMatch() and settings.queue.bounces != route.name:
            yield f"{where} has no match and is not [queue] bounces: no mail takes it"
    if settings.routes:
        unnamed = any(route.name == DEFAULT for route in settings.routes)
        used = {name for route in settings.routes for name in route.upstreams}
        for upstream in settings.upstreams if unnamed else ():
            if upstream.name not in used and settings.queue.bounces != upstream.name:
                yield f"[{table_name('upstream', upstream.name)}] is in no route: only mail that names it goes there"
