"""The queries: one connection that only reads, for any thread, one at a time.

Rules: what cannot be read of one session is said of that session alone; a number or a blob that is none is damage too, for a
flipped bit does not ask for types.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

from procession.host.core.journal_entries import Rows
from procession.host.storage import schema
from procession.host.storage.sqlite_file import cannot_read


class Reader:
    """See the module's text."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    @property
    def connections(self) -> tuple[sqlite3.Connection, ...]:
        """What it reads with."""
        return (self._connection,)

    def sessions(self) -> list[tuple[str, bytes]]:
        return self._all("SELECT id, data FROM sessions WHERE data IS NOT NULL ORDER BY key")

    def casts(self) -> list[tuple[str, bytes]]:
        return self._all(
            "SELECT sessions.id, casts.data FROM casts JOIN sessions ON sessions.key = casts.session"
            " ORDER BY casts.session, casts.rank"
        )

    def outcome(self, session: str, call_id: str) -> bytes | None:
        found: list[tuple[bytes]] = self._all(
            "SELECT outcomes.data FROM outcomes JOIN sessions ON sessions.key = outcomes.session"
            " WHERE sessions.id = ? AND outcomes.call_id = ?",
            session,
            call_id,
        )
        return found[0][0] if found else None

    def note(self, key: str) -> bytes | None:
        found: list[tuple[bytes]] = self._all("SELECT data FROM notes WHERE name = ?", key)
        return found[0][0] if found else None

    def _all(self, query: str, *values: str) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise cannot_read(self._path, error) from None

    def rows(self, session: str) -> Rows:
        """Return what can be read of a session's state, of one moment."""
        with self._lock:
            try:
                self._connection.execute("BEGIN")
                try:
                    return self._rows(session)
                finally:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise cannot_read(self._path, error) from None

    def _rows(self, session: str) -> Rows:
        run = self._connection.execute
        found = run("SELECT key FROM sessions WHERE id = ?", (session,)).fetchone()
        if found is None:
            return Rows((), ())
        low, high = schema.places(found[0])
        snapshots: list[tuple[int, bytes]] = []
        journal: list[tuple[int, int, bytes]] = []
        unreadable = ""
        try:
            newest = "SELECT place FROM snapshots WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 2"
            for (place,) in run(newest, (low, high)).fetchall():
                snapshots.append((place - low, self._snapshot(place)))
            in_order = "SELECT place, last, data FROM journal WHERE place BETWEEN ? AND ? ORDER BY place"
            for place, last, data in run(in_order, (low, high)):
                if type(last) is not int or type(data) is not bytes:
                    raise sqlite3.DatabaseError("a row of the journal is none")
                journal.append((place - low, last, data))
        except sqlite3.Error as error:
            unreadable = f"{self._path}: {error}"
        return Rows(tuple(snapshots), tuple(journal), unreadable)

    def _snapshot(self, place: int) -> bytes:
        """Return a snapshot; empty, which is none, when its pages cannot be read: there is another one."""
        try:
            found = self._connection.execute("SELECT data FROM snapshots WHERE place = ?", (place,)).fetchone()
        except sqlite3.Error:
            return b""
        return found[0] if found is not None and type(found[0]) is bytes else b""

    def close(self) -> None:
        """Wait for who reads, and close."""
        with self._lock:
            self._connection.close()
