"""Which route a recipient takes: the first in the file whose conditions all hold, else "default". Pure.

What only the door knows of a message, the listener and header fields, is judged there and kept with it as *marks*: the
conditions that held. So a route can be told anew whenever the configuration changes, without reading the content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from functools import partial
from typing import Final

from relay.delivery.turns import turn_of, user_of
from relay.mail import Message
from relay.settings import RouteMatch, RouteSettings

DEFAULT: Final = "default"
"""The route of what no other route has; where the file has none it is all upstreams in their order."""

_Condition = Callable[[Message, str], bool]


class Routing:
    """The routes of a configuration over the names of its ``upstreams``; ``bounces`` is ``[queue] bounces``."""

    def __init__(
        self, routes: Sequence[RouteSettings] = (), upstreams: Sequence[str] = (), bounces: str = DEFAULT
    ) -> None:
        by_name = {route.name: route for route in routes}
        self.default = by_name.get(DEFAULT) or RouteSettings(DEFAULT, tuple(upstreams))
        self.routes: Mapping[str, RouteSettings] = {**by_name, DEFAULT: self.default}
        self._bounces = by_name.get(bounces) if bounces != DEFAULT else None
        self.has_bounces = self._bounces is not None
        """Whether notifications have a route of their own."""
        # A route without a condition is for those who name it.
        conditional = [route for route in routes if route.match != RouteMatch() and route.name != DEFAULT]
        self._conditional = [(route, tuple(_conditions(route.match))) for route in conditional]
        self.by_recipient = any(route.match.recipient_domain for route in conditional)
        self._listeners = frozenset(name for route in conditional for name in route.match.listener)
        fields = {condition for route in conditional for condition in route.match.header}
        self.has_marks = bool(self._listeners) or bool(fields)
        """Whether the door has something to judge."""
        self._fields = {each: re.compile(translate(each[1]), re.IGNORECASE) for each in sorted(fields)}
        self.fields = tuple(sorted({name for name, _ in fields}))
        """The header fields, by their names in lower case, that some route looks at."""

    def route_of(self, message: Message, address: str) -> RouteSettings:
        """The route of one recipient; an upstream that the application named is for the caller to see to."""
        if self._bounces is not None and message.is_notification:
            return self._bounces
        for route, conditions in self._conditional:
            if all(holds(message, address) for holds in conditions):
                return route
        return self.default

    def split(self, message: Message) -> Sequence[tuple[str, list[int]]]:
        """Names of routes with the positions of the recipients that take them."""
        recipients = message.envelope.recipients
        if not self.by_recipient or len(recipients) == 1:
            return [(self.route_of(message, recipients[0].address).name, list(range(len(recipients))))]
        found: dict[str, list[int]] = {}
        for position, recipient in enumerate(recipients):
            found.setdefault(self.route_of(message, recipient.address).name, []).append(position)
        return list(found.items())

    def turn(self, message: Message) -> int:
        """The turn of a message; where its recipients take several routes, the first one's counts."""
        if message.upstream is not None:
            return turn_of(message, f"={message.upstream}")
        if not self._conditional and self._bounces is None:
            return turn_of(message)
        return turn_of(message, self.route_of(message, message.envelope.recipients[0].address).name)

    def marks(self, listener: str, values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        """The conditions that hold for a message that comes in by ``listener``; ``values`` are its :attr:`fields`'."""
        marks = [_listener_mark(listener)] if listener in self._listeners else []
        marks += [
            _field_mark(*condition)
            for condition, pattern in self._fields.items()
            if any(pattern.match(value) for value in values.get(condition[0], ()))
        ]
        return tuple(marks)


NO_ROUTES: Final = Routing()


def is_within(address: str, domains: Iterable[str]) -> bool:
    """Whether an address is at one of ``domains``; "*.example.com" means all below example.com."""
    domain = address.rpartition("@")[2].lower()
    return any(domain.endswith(each[1:]) if each.startswith("*.") else domain == each for each in domains)


def _listener_mark(listener: str) -> str:
    return f"listener {listener}"


def _field_mark(name: str, pattern: str) -> str:
    return f"{name}: {pattern}"


def _conditions(match: RouteMatch) -> Iterator[_Condition]:
    """Those that are given, what is cheap to tell first."""
    if match.priority:
        yield lambda message, _: message.priority in match.priority
    if match.recipient_domain:
        yield lambda _, address: is_within(address, match.recipient_domain)
    if match.sender_domain:
        yield lambda message, _: is_within(message.envelope.sender, match.sender_domain)
    if match.user:
        yield lambda message, _: user_of(message).lower() in match.user
    if match.listener:
        yield partial(_is_marked, [_listener_mark(name) for name in match.listener])
    if match.header:
        yield partial(_is_marked, [_field_mark(*condition) for condition in match.header])


def _is_marked(marks: Sequence[str], message: Message, _address: str) -> bool:
    return any(mark in message.marks for mark in marks)
