"""``relay suppress`` and ``relay feedback``: over the socket's verbs and on a spool whose relay is not running."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.control.errors import Exit, Refused
from relay.control.services import Services
from relay.control.verbs import perform
from relay.feedback import Feedback, Said
from relay.smtp.complaint import feedback_report
from relay.suppression import Cause, Suppression, digest_of
from tests.delivery.scene import START, StandingClock
from tests.fake_spool import FakeSpool

Run = Callable[..., Result]


class Listening:
    """A running delivery, as far as these verbs see it."""

    def __init__(self) -> None:
        self.listed: list[Suppression] = []
        self.gone: list[int] = []
        self.said: list[tuple[Feedback, str]] = []

    async def suppress(self, found: Sequence[Suppression]) -> int:
        self.listed += found
        return len(found)

    async def unsuppress(self, digests: Sequence[int]) -> int:
        self.gone += digests
        return len(digests)

    async def heard(self, said: Sequence[Feedback], upstream: str) -> None:
        self.said += [(each, upstream) for each in said]


def services(spool: FakeSpool, delivery: object = None) -> Services:
    return Services(spool, StandingClock(), delivery)  # type: ignore[arg-type]


async def done(asked: Services, verb: str, **arguments: Any) -> list[Any]:
    return [part async for part in perform(asked, verb, arguments)]


async def test_what_runs_hears_of_it_and_else_the_spool() -> None:
    spool, delivery = FakeSpool(), Listening()
    running, stopped = services(spool, delivery), services(spool)
    entries = [{"address": "a@x.test", "cause": "complaint", "detail": "abuse"}, {"address": "b@x.test"}]
    assert await done(running, "suppress", entries=entries, ttl=60) == [{"suppressed": 2, "new": 2}]
    assert delivery.listed == [
        Suppression("a@x.test", Cause.COMPLAINT, START, START + 60, "abuse"),
        Suppression("b@x.test", Cause.OPERATOR, START, START + 60, ""),
    ]
    assert await done(stopped, "suppress", entries=entries) == [{"suppressed": 2, "new": 2}]
    assert await done(running, "unsuppress", addresses=["A@x.test"]) == [{"removed": 1}]
    assert delivery.gone == [digest_of("a@x.test")]
    assert await done(stopped, "unsuppress", all=True) == [{"removed": 2}]
    assert not spool.listed


async def test_the_list_leaves_out_what_is_over() -> None:
    spool = FakeSpool()
    await spool.suppress(
        [
            Suppression("a@x.test", Cause.BOUNCE, START - 60, START, "550"),
            Suppression("b@x.test", Cause.BOUNCE, START - 60, START + 60, "550"),
        ]
    )
    ((shown,),) = await done(services(spool), "suppressions")
    assert shown == {
        "address": "b@x.test",
        "cause": "bounce",
        "since": "2027-01-15T07:59:00.000+00:00",
        "until": "2027-01-15T08:01:00.000+00:00",
        "detail": "550",
    }
    assert await done(services(spool), "suppressions", domain="y.test") == []
    assert await done(services(spool), "suppressions", newer_than=30) == []


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("suppress", {}),
        ("suppress", {"entries": []}),
        ("suppress", {"entries": ["a@x.test"]}),
        ("suppress", {"entries": [{"address": "no address"}]}),
        ("suppress", {"entries": [{"address": "nobody"}]}),
        ("suppress", {"entries": [{"address": "a@x.test", "cause": "mood"}]}),
        ("suppress", {"entries": [{"address": "a@x.test"}], "ttl": 0}),
        ("suppress", {"entries": [{"address": "a@x.test"}] * 1001}),
        ("suppressions", {"cause": "mood"}),
        ("suppressions", {"addresses": "a@x.test"}),
        ("suppressions", {"domain": 3}),
        ("suppressions", {"newer_than": "1h"}),
        ("unsuppress", {}),
        ("unsuppress", {"addresses": ["a@x.test"], "all": True}),
        ("feedback", {"feedback": "x"}),
        ("feedback", {"feedback": [{"recipient": "a@x.test", "said": "nothing"}]}),
        ("feedback", {"feedback": [{"said": "complaint"}]}),
    ],
)
async def test_what_makes_no_sense_is_refused(verb: str, arguments: Mapping[str, Any]) -> None:
    spool = FakeSpool()
    with pytest.raises(Refused) as refused:
        await done(services(spool, Listening()), verb, **arguments)
    assert refused.value.exit is Exit.USAGE
    assert not spool.listed


async def test_feedback_is_for_who_runs() -> None:
    with pytest.raises(Refused) as refused:
        await done(services(FakeSpool()), "feedback", feedback=[])
    assert refused.value.exit is Exit.UNAVAILABLE
    delivery = Listening()
    said = [{"recipient": "b@y.test", "said": "complaint", "provider": "arf", "queue_id": "1A2B3C4D5E6F"}]
    answer = await done(services(FakeSpool(), delivery), "feedback", feedback=said, upstream="ses")
    assert answer == [{"taken": 1}]
    assert delivery.said == [(Feedback(Said.COMPLAINT, "b@y.test", "arf", queue_id="1A2B3C4D5E6F"), "ses")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The commands on a spool of their own, whose relay is not running."""
    config = tmp_path / "relay.toml"
    config.write_text(
        'hostname = "relay.test"\n[spool]\nurl = "sqlite:///spool/spool.db"\nmin_free_disk = "0MB"\n'
        '[upstream.sim]\nkind = "simulator"\n[suppression]\n'
    )
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool" / "spool.db").touch(mode=0o600)

    def invoke(*arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(main, arguments, env={"RELAY_CONFIG": str(config), "COLUMNS": "200"}, **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


def test_add_list_import_remove(run: Run, tmp_path: Path) -> None:
    assert run("suppress", "list").output == ""
    assert run("suppress", "add", "a@x.test", "B@x.test", "--ttl", "30d").output == "2 suppressed, 2 of them new\n"
    csv = tmp_path / "list.csv"
    csv.write_text("email,reason\nc@y.test,550 5.1.1 bounced\nd@y.test,spam complaint\na@x.test,bounced\n")
    assert json.loads(run("suppress", "import", str(csv), "--json").output) == {"suppressed": 3, "new": 2}
    shown = json.loads(run("suppress", "list", "--json").output)
    assert [(each["address"], each["cause"], each["until"] is None) for each in shown] == [
        ("a@x.test", "bounce", True),
        ("B@x.test", "operator", False),
        ("c@y.test", "bounce", True),
        ("d@y.test", "complaint", True),
    ]
    text = run("suppress", "list", "--domain", "y.test", "--cause", "complaint").output
    assert [line.split()[0] for line in text.splitlines()] == ["ADDRESS", "d@y.test"]
    assert run("suppress", "list", "b@x.test").exit_code == 0
    assert run("suppress", "list", "nobody@x.test").exit_code == 1
    assert run("suppress", "remove", "b@X.test").output == "1 removed\n"
    assert run("suppress", "remove", "b@X.test").exit_code == 1
    assert run("suppress", "remove").exit_code == 2
    assert run("suppress", "remove", "--cause", "bounce").output == "2 removed\n"
    assert run("suppress", "remove", "--all").output == "1 removed\n"
    assert run("suppress", "import", "-", input="x@y.test\n").output == "1 suppressed, 1 of them new\n"


def test_what_is_no_list_is_told(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "list.csv"
    bad.write_text("name,age\nx,3\n")
    result = run("suppress", "import", str(bad))
    assert (result.exit_code, "no column named" in result.output) == (1, True)
    result = run("suppress", "import", "-", input="not an address\na@x.test\nnobody\n")
    assert (result.exit_code, result.stdout) == (0, "1 suppressed, 1 of them new\n")
    assert "2 left out as no address, the first: not an address" in result.stderr


def test_without_the_table_it_is_said_that_the_list_is_not_used(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text(config.read_text().replace("[suppression]\n", ""))
    assert "without [suppression]" in run("suppress", "add", "a@x.test").output


def test_feedback_reads_reports(run: Run, tmp_path: Path) -> None:
    report = feedback_report(b"\r\n", sender="a@x.test", recipient="b@y.test", reporter="sim", now=START)
    result = run("feedback", input=report)
    assert (result.exit_code, "for a running relay" in result.output) == (Exit.UNAVAILABLE, True)
    assert run("feedback", input=b"Subject: no report\r\n\r\n").exit_code == 1
