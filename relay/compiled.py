"""Where our modules are read from: a compiled copy of exactly these sources, where the environment holds one.

``scripts/compile`` makes such a copy: the whole package, with the modules that every message passes through compiled
(by mypyc), in a folder that is named by a digest of all files of the package and of the Python that it is for. What was
changed since is not found, so nothing compiled ever stands in for newer source; and as the copy is whole, a relay that
runs never mixes the two. ``RELAY_COMPILED=no`` says not to look.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from typing import Final

BUILDS: Final = os.path.join(sys.prefix, "lib", "relay-compiled")  # noqa: PTH118 - pathlib would cost each start 5 ms
"""Where builds are kept: in the environment, so that they go with it."""
_OFF: Final = frozenset({"0", "no", "off", "false"})


def digest(package: str) -> str:
    """What names a build of the folder ``package`` for this Python: of all that is in it but Python's caches. Raises
    OSError.
    """
    found = sha256(f"{sys.implementation.cache_tag} {sys.hexversion >> 16:x} {sys.platform}\0".encode())
    for folder, folders, files in os.walk(package):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = os.path.join(folder, name)  # noqa: PTH118 - as above
            with open(path, "rb") as file:  # noqa: PTH123
                found.update(f"{os.path.relpath(path, package)}\0".encode())
                found.update(sha256(file.read()).digest())
    return found.hexdigest()[:32]


def build_of(package: str) -> str | None:
    """The build of the folder ``package``: where its compiled copy is. None where there is none, or none is wanted."""
    if os.environ.get("RELAY_COMPILED", "").lower() in _OFF or not os.path.isdir(BUILDS):  # noqa: PTH112 - as above
        return None
    try:
        build = os.path.join(BUILDS, digest(package))  # noqa: PTH118 - as above
    except OSError:
        return None
    return build if os.path.isdir(build) else None  # noqa: PTH112 - as above
