"""What a check found: each finding is fine, doubtful or wrong, and says of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How bad it is; only FAIL makes a check fail."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """``subject`` is what was looked at ("upstream ses", "example.com"), ``check`` which side of it ("TLS", "SPF").

    ``facts`` are for programs: values as JSON has them.
    """

    level: Level
    subject: str
    check: str
    what: str
    facts: Mapping[str, object] = field(default_factory=dict)


def ok(subject: str, check: str, what: str, **facts: object) -> Finding:
    """A finding that all is well."""
    return Finding(Level.OK, subject, check, what, facts)


def warn(subject: str, check: str, what: str, **facts: object) -> Finding:
    """A finding that works but is likely not meant."""
    return Finding(Level.WARNING, subject, check, what, facts)


def bad(subject: str, check: str, what: str, **facts: object) -> Finding:
    """A finding that must be put right."""
    return Finding(Level.FAIL, subject, check, what, facts)
