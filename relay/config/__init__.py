"""The configuration: ``load`` gives :class:`~relay.settings.Settings` or raises :class:`ConfigError`.

Every error names file, table and key, says what was found and what is allowed; all errors come at once; no secret
stands in one.
"""

from __future__ import annotations

from relay.config.loading import DEFAULT_PATH, Machine, default_path, load
from relay.config.problems import ConfigError, Problem
from relay.config.rules import warnings

__all__ = ["DEFAULT_PATH", "ConfigError", "Machine", "Problem", "default_path", "load", "warnings"]
