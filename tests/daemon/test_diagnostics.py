from __future__ import annotations

import logging

import pytest

from relay.clock import SystemClock
from relay.daemon.diagnostics import NoticeHandler
from relay.events import Event, Notice


def record_of(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except ValueError as raised:
        info = (type(raised), raised, raised.__traceback__)
    return logging.LogRecord("relay.x", logging.ERROR, __file__, 1, "internal error", None, info)


@pytest.mark.parametrize("wordless", [False, True])
def test_a_bug_is_one_line_and_a_traceback(wordless: bool, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = []
    NoticeHandler(events.append, SystemClock(), wordless=wordless).emit(record_of(ValueError("about b@y.example")))
    (event,) = events
    assert isinstance(event, Notice)
    assert event.warning
    assert event.text.startswith("internal error: ValueError in record_of, line ")
    said = capsys.readouterr().err
    assert "in record_of" in said
    assert ("b@y.example" in said) is not wordless
