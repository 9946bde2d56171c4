from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from relay.daemon import rlimits


@pytest.fixture(autouse=True)
def limit() -> Iterator[tuple[int, int]]:
    """The process's own limit, as it was."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_the_hard_limit_lets(
    limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hard = limit[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    monkeypatch.setattr(rlimits, "_OPEN_FILES", 500)
    rlimits.have_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (500, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    rlimits.have_descriptors()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, hard), "never lowered"
