"""What ``relay check`` says of the folders that a configuration names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from relay.settings import Settings

_OTHERS_MAY_WRITE: Final = 0o022


def folder_warnings(settings: Settings) -> Iterator[str]:
    """A sentence where others may put another file in the spool's place. A folder that is not there is made right."""
    folder = Path(settings.spool.path).parent
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & _OTHERS_MAY_WRITE:
        yield f"[spool] others may write to {folder}: the folder of the spool should be its owner's alone (chmod 700)"
