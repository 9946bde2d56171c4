"""pytest plugin: aiosmtpd's own shipped tests, with our session class in place of aiosmtpd's.

Loaded by ``test_aiosmtpd_suite`` in a process of its own. What a test expects of a reply's *text* is not asked: replies
are compared by their codes, by which alone clients act (RFC 5321 §4.2.1). Tests that expect another *behaviour* stand
in ``aiosmtpd_suite_skips.txt`` with the reason.

The tests import two packages for a handful of calls: ``pkg_resources``, which setuptools has no more, and
``pytest_mock``. Stand-ins for these calls are here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from aiosmtpd import smtp
from aiosmtpd.testing.statuscodes import StatusCode

from relay.listener.protocol import SMTP

SKIPS = Path(__file__).with_name("aiosmtpd_suite_skips.txt")


def _same_code(expected: StatusCode, reply: object) -> bool:
    return isinstance(reply, tuple) and len(reply) == 2 and expected.code == reply[0]


class MockFixture:
    """What the suite uses of pytest-mock's."""

    Mock = mock.Mock

    def __init__(self, patches: ExitStack) -> None:
        self._patches = patches

    def patch(self, target: str, *args: Any, **kwargs: Any) -> Any:
        """Patch to the end of the test."""
        return self._patches.enter_context(mock.patch(target, *args, **kwargs))

    def spy(self, owner: Any, name: str) -> Any:
        """Call through, and note calls."""
        return self._patches.enter_context(mock.patch.object(owner, name, side_effect=getattr(owner, name)))


@pytest.fixture
def mocker() -> Iterator[MockFixture]:
    """As pytest-mock's."""
    with ExitStack() as patches:
        yield MockFixture(patches)


@pytest.fixture(scope="session")
def session_mocker() -> Iterator[MockFixture]:
    """As pytest-mock's."""
    with ExitStack() as patches:
        yield MockFixture(patches)


def _stand_in(name: str, **attributes: object) -> None:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    sys.modules[name] = module


_stand_in("pytest_mock", MockFixture=MockFixture)
_stand_in("pkg_resources", resource_filename=lambda package, name: str(files(package) / name))

# Now, as the plugin is imported: conftest.py and the tests take the class from aiosmtpd.smtp when they are.
smtp.SMTP = SMTP  # type: ignore[misc]
StatusCode.__eq__ = _same_code  # type: ignore[method-assign, assignment]
StatusCode.__hash__ = tuple.__hash__  # type: ignore[method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is on the list; a line that names no test is an error, so that the list only shrinks."""
    from aiosmtpd import controller

    assert vars(controller)["SMTP"] is SMTP
    unused = dict(read_skips())
    reasons = dict(unused)
    for item in items:
        name = item.nodeid.rpartition("/")[2]
        for prefix, reason in reasons.items():
            if name == prefix or name.startswith((prefix + "::", prefix + "[")):
                item.add_marker(pytest.mark.skip(reason=reason))
                unused.pop(prefix, None)
    if unused:
        raise pytest.UsageError(f"no such tests: {', '.join(unused)}")


def read_skips() -> dict[str, str]:
    """Node ids (from the file's name on, or a part of it from the left) and why they are skipped."""
    skips: dict[str, str] = {}
    reason = ""
    for line in SKIPS.read_text("utf-8").splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            skips[line] = reason
    return skips
