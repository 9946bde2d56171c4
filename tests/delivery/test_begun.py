"""What is asked right before content leaves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from relay.clock import Clock
from relay.delivery.begun import before_content
from relay.mail import Envelope, Message, Recipient
from relay.spool import Spool
from relay.upstream import ContentWithheld, Upstream

WHERE = "up[192.0.2.1]:25"
MESSAGE = Message(1 << 30, Envelope("a@x.test", (Recipient(3, "b@y.test"),)), 1, 1000.0)


def upstream() -> Upstream:
    return cast("Upstream", SimpleNamespace(destination=WHERE))


class Ticking:
    """A clock, and a spool whose commits take 10 seconds of it."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.begun: list[tuple[int, tuple[int, ...], str]] = []

    def now(self) -> float:
        return self.wall

    async def begin(self, number: int, recipients: list[int], where: str) -> None:
        self.wall += 10
        self.begun.append((number, tuple(recipients), where))


async def asked(not_after: float | None, policy: str) -> Ticking:
    here = Ticking()
    message = replace(MESSAGE, not_after=not_after)
    ask = before_content(cast("Spool", here), cast("Clock", here), message, upstream(), policy)  # type: ignore[arg-type]
    if ask is not None:
        await ask()
    return here


def test_mail_without_a_deadline_pays_nothing() -> None:
    here = Ticking()
    assert before_content(cast("Spool", here), cast("Clock", here), MESSAGE, upstream(), "retry") is None


@pytest.mark.parametrize("policy", ["retry", "hold"])
async def test_a_deadline_ahead_lets_it_go(policy: str) -> None:
    here = await asked(1010.5, policy)
    assert here.begun == ([(MESSAGE.number, (3,), WHERE)] if policy == "hold" else [])


@pytest.mark.parametrize(
    ("not_after", "policy"), [(1000.0, "retry"), (999.0, "hold"), (1005.0, "hold"), (1010.0, "fail")]
)
async def test_a_deadline_that_passed_withholds_it_also_during_the_commit(not_after: float, policy: str) -> None:
    with pytest.raises(ContentWithheld):
        await asked(not_after, policy)
