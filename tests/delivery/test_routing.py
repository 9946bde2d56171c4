"""Which route a recipient takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.routing import NO_ROUTES, Routing, is_within
from relay.mail import Envelope, Message, Priority, Recipient
from relay.settings import RouteMatch, RouteSettings

SHOP = "web1[192.0.2.7], sasl_method=PLAIN, sasl_username=Shop"


def message(*recipients: str, sender: str = "a@x.test", **traits: object) -> Message:
    envelope = Envelope(sender, tuple(Recipient(n, each) for n, each in enumerate(recipients or ("b@y.test",))))
    return Message(1, envelope, 1, 0.0, **{"client": "localhost[127.0.0.1]", **traits})  # type: ignore[arg-type]


def route(name: str, **match: tuple[object, ...]) -> RouteSettings:
    return RouteSettings(name, ("ses",), match=RouteMatch(**match))  # type: ignore[arg-type]


def taken(routing: Routing, message: Message) -> str:
    return routing.route_of(message, message.envelope.recipients[0].address).name


def test_without_routes_all_upstreams_in_their_order_are_the_default() -> None:
    routing = Routing((), ("ses", "backup"))
    assert routing.default.upstreams == ("ses", "backup")
    assert taken(routing, message()) == "default"
    assert routing.split(message("b@y.test", "c@z.test")) == [("default", [0, 1])]


def test_the_first_route_whose_conditions_all_hold_is_taken() -> None:
    routing = Routing(
        (
            route("both", sender_domain=("x.test",), priority=("bulk",)),
            route("sender", sender_domain=("x.test", "*.x.test")),
            route("user", user=("shop",)),
            route("recipient", recipient_domain=("gmail.test",)),
        )
    )
    assert taken(routing, message(priority=Priority.BULK)) == "both"
    assert taken(routing, message()) == "sender"
    assert taken(routing, message(sender="a@NEWS.X.test")) == "sender"
    assert taken(routing, message(sender="a@notx.test", client=SHOP)) == "user"
    assert taken(routing, message("b@GMAIL.test", sender="")) == "recipient"
    assert taken(routing, message(sender="a@z.test", priority=Priority.BULK)) == "default"


def test_listener_and_header_are_judged_at_the_door() -> None:
    routing = Routing(
        (
            route("news", header=(("x-campaign", "news-*"), ("x-campaign", "weekly"))),
            route("web", listener=("web",)),
        )
    )
    assert routing.fields == ("x-campaign",)
    news = routing.marks("web", {"x-campaign": ["other", "NEWS-12"]})
    assert taken(routing, message(marks=news)) == "news"
    assert taken(routing, message(marks=routing.marks("web", {}))) == "web"
    assert routing.marks("app", {"x-campaign": ["daily"]}) == ()
    assert taken(routing, message()) == "default"
    # A condition that nobody looked at when the message came does not hold for it.
    later = Routing((route("other", header=(("x-kind", "*"),)),))
    assert taken(later, message(marks=news)) == "default"


def test_notifications_take_their_own_route() -> None:
    bounces = RouteSettings("bounces", ("ses",))
    routing = Routing((bounces, route("all", recipient_domain=("y.test",))), ("ses",), "bounces")
    assert taken(routing, message(sender="", client="")) == "bounces"
    assert taken(routing, message(sender="")) == "all", "an application's own null sender is no notification of ours"
    assert taken(Routing((bounces,), ("ses",)), message(sender="", client="")) == "default"


def test_turns_differ_by_the_way() -> None:
    routing = Routing((route("recipient", recipient_domain=("y.test",)),))
    ways = {routing.turn(message(to)) for to in ("b@y.test", "b@z.test")} | {routing.turn(message(upstream="ses"))}
    assert len(ways) == 3
    assert NO_ROUTES.turn(message("b@y.test")) == NO_ROUTES.turn(message("b@z.test"))


domains = st.sampled_from(["a.test", "b.test", "x.a.test", "c.test"])


@given(
    st.lists(st.lists(st.sampled_from(["a.test", "*.a.test", "b.test"]), max_size=2), max_size=4),
    st.lists(domains, min_size=1, max_size=8),
)
def test_every_recipient_takes_exactly_one_route(matches: list[list[str]], to: list[str]) -> None:
    routing = Routing(tuple(route(f"r{n}", recipient_domain=tuple(match)) for n, match in enumerate(matches)))
    mail = message(*(f"u{n}@{domain}" for n, domain in enumerate(to)))
    split = routing.split(mail)
    positions = [position for _, of in split for position in of]
    assert sorted(positions) == list(range(len(to)))
    assert len({name for name, _ in split}) == len(split)
    for name, of in split:
        for position in of:
            first = next((n for n, match in enumerate(matches) if is_within(f"u@{to[position]}", match)), None)
            assert name == ("default" if first is None else f"r{first}")
