"""What ``[feedback.NAME]`` must say: by what a provider's notifications are believed, and about whose mail they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Final

from relay.config.problems import Problem, describe
from relay.config.tables import Table
from relay.settings import FeedbackSettings, UpstreamSettings

_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]{1,256}")
_TOPIC_ALLOWED: Final = 'ARNs of SNS topics such as "arn:aws:sns:eu-west-1:123456789012:mail"'


def feedback_problems(
    file: str, feedback: Sequence[Table[FeedbackSettings]], upstreams: Sequence[Table[UpstreamSettings]]
) -> Iterator[Problem]:
    """Anybody can have Amazon sign a notification: only those of one's own topics mean something."""
    names = [upstream.value.name for upstream in upstreams]
    for table in feedback:
        settings, bad = table.value, table.bad
        if settings.upstream and "upstream" not in bad and settings.upstream not in names:
            yield table.problem(
                file, "upstream", describe(settings.upstream), f"names of upstreams: {', '.join(names)}"
            )
        if "kind" in bad:
            continue
        if settings.kind == "ses" and find_spec("aiohttp") is None:
            yield table.problem(file, "kind", '"ses" without aiohttp', 'what "pip install relay[apis]" brings')
        if settings.kind == "ses" and "topics" not in bad:
            if not settings.topics:
                yield table.problem(file, "topics", "nothing, as the kind is ses", _TOPIC_ALLOWED)
            for topic in settings.topics:
                if not _TOPIC.fullmatch(topic):
                    yield table.problem(file, "topics", describe(topic), _TOPIC_ALLOWED)
        if settings.kind == "sparkpost" and not bad & {"username", "password", "token"}:
            yield from _shared_secret(file, table)


def _shared_secret(file: str, table: Table[FeedbackSettings]) -> Iterator[Problem]:
    settings = table.value
    if settings.username is None and settings.password is not None:
        yield table.problem(file, "username", "nothing beside a password", "the user that the webhook logs in as")
    elif settings.username is not None and settings.password is None:
        yield table.problem(file, "password", "nothing beside a username", "password, or one of its other spellings")
    elif settings.password is None and settings.token is None:
        yield table.problem(
            file, "token", "nothing, as the kind is sparkpost", "the webhook's token, or its username and password"
        )
