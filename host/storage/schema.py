"""The tables of journal.db, and how an older file becomes one of today.

Rules: the version is the number of migrations that a file has had, in PRAGMA user_version; a migration that was released is never
changed, the next one is added at the end; all that a file lacks run in one transaction. A file of a later version, or of
another program, is refused before anything is written to it.

One key for what is kept by number: `place` = session's key * 2^40 + number. So a session's rows stand together and in order,
and to append one touches one page.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from procession.ipc.core.errors import JournalCorrupt, StorageError

APPLICATION_ID: Final = 0x50524F43
"""PROC: what `file` and other programs know a database of ours by."""
PAGE_BYTES: Final = 4096
"""A small group of one session is one page in the WAL: no more than a file system writes at once anyway."""
NUMBERS: Final = 1 << 40
"""Numbers of one session: a thousand a second for thirty years."""
KEYS: Final = (1 << 63) // NUMBERS
"""Sessions that one file has room for: eight million."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # A session's key; data is NULL while something of it is written before itself.
        "CREATE TABLE sessions (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data BLOB)",
        # Framed records place..last, one row for each group in which the session had some.
        "CREATE TABLE journal (place INTEGER PRIMARY KEY, last INTEGER NOT NULL, data BLOB NOT NULL)",
        "CREATE TABLE snapshots (place INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        # Numbered in the order in which they came; total: bytes of all that came so far, itself included.
        """CREATE TABLE outcomes (place INTEGER PRIMARY KEY, session INTEGER NOT NULL, call_id TEXT NOT NULL,
            at REAL NOT NULL, total INTEGER NOT NULL, data BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX outcomes_by_id ON outcomes (session, call_id)",
        """CREATE TABLE casts (session INTEGER NOT NULL, cast_id TEXT NOT NULL, rank INTEGER NOT NULL, data BLOB NOT NULL,
            PRIMARY KEY (session, cast_id)) WITHOUT ROWID""",
        "CREATE TABLE notes (name TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
        # What was cut off torn ends.
        "CREATE TABLE aside (n INTEGER PRIMARY KEY, session INTEGER NOT NULL, why TEXT NOT NULL, data BLOB NOT NULL)",
    ),
)


def places(key: int) -> tuple[int, int]:
    """Return the first and the last place of a session."""
    return key * NUMBERS, (key + 1) * NUMBERS - 1


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return how many migrations a file has had. Refuses a file that is not ours to write to."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    connection.execute(
        "SELECT count(*) FROM sqlite_master"
    ).fetchone()  # what is malformed is found before it is written to
    if application != APPLICATION_ID:
        raise JournalCorrupt(f"{path}: is a database of another program (application id {application:#x})")
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{path}: was written by a later procession (schema {version}, this one knows {len(MIGRATIONS)})",
            code="newer_data",
            hint="use that version, or another folder; nothing was changed",
        )
    return version


def make(connection: sqlite3.Connection, path: Path) -> None:
    """Make a file of today from an empty one that nobody else knows yet."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # a file of which much was deleted can be made smaller
    connection.execute("PRAGMA journal_mode = MEMORY")
    migrate(connection, 0)
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":  # for ever: it stands in the file
        raise StorageError(f"{path}: this file system has no WAL", hint="use a folder on a local disk")


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of `version` up to date, or leave it as it was."""
    if version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in MIGRATIONS[version:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
