"""The one door to SQLite: everything in this package takes ``sqlite3`` from here, and nothing else imports it.

The choice is sqlite-utils' own: pysqlite3 where it is installed (it bundles a SQLite with the WAL-reset fix), else the
standard library's. Two SQLite libraries on one file in one process would drop each other's POSIX locks
(sqlite.org/howtocorrupt.html §2.2.1), so both must agree; a test says that they do. The documented door,
``sqlite_utils.utils.sqlite3``, would import click and tabulate at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        import pysqlite3 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["sqlite3"]
