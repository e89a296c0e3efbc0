"""The statements that write: what each thing that is kept does to the tables of schema.py.

It is *not* a transaction: the store begins and ends those, and does what an error asks for. Rules: what became superfluous goes
in the same transaction, and before what is new comes, so that the file does not grow for it; nothing is done that has to look
at all of a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from procession.host.core.group_commit import JournalRow
from procession.host.core.journal_entries import (
    Append,
    DeleteCast,
    DeleteSession,
    Item,
    PutCast,
    PutNote,
    PutOutcome,
    PutSession,
    PutSnapshot,
)
from procession.host.storage import schema
from procession.ipc import kill_points
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT, MiB

OUTCOME_BYTES_KEPT: Final = 64 * MiB
"""Of one session's outcomes: by their number and age alone they could be 10 GiB."""
ASIDE_KEPT: Final = 8
"""Torn ends of one session that are kept: each is one time that a disk lied."""
_PRUNED_AT_ONCE: Final = 4
_PRUNE: Final = (
    "DELETE FROM outcomes WHERE place IN (SELECT place FROM outcomes WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?)"
    " AND (place <= ? OR at < ? OR total <= ?)"
)


class Tables:
    """See the module's text. Belongs to the writer's thread."""

    def __init__(self, writer: sqlite3.Connection) -> None:
        self._pages = 0
        self._writer = writer
        self._keys: dict[str, int] = {}

    def take_pages(self) -> int:
        """Return how many pages came to the WAL since the last time, about."""
        pages, self._pages = self._pages, 0
        return pages

    def forget_keys(self) -> None:
        """A transaction was undone, and with it perhaps the key of a session."""
        self._keys.clear()

    def put(self, item: Item | JournalRow) -> None:
        """Write one thing."""
        run = self._writer.execute
        self._count(len(getattr(item, "data", b"")))
        match item:
            case JournalRow(session, first, last, data):
                place = self._place(session, first)
                run("INSERT INTO journal (place, last, data) VALUES (?, ?, ?)", (place, last, data))
            case PutSnapshot():
                self._put_snapshot(item)
            case PutSession(session, data):
                run("UPDATE sessions SET data = ? WHERE key = ?", (data, self._key(session)))
            case DeleteSession(session):
                self._delete(session)
            case PutOutcome():
                self._put_outcome(item)
            case PutCast(session, cast, order, data):
                run(
                    "INSERT OR REPLACE INTO casts (session, cast_id, rank, data) VALUES (?, ?, ?, ?)",
                    (self._key(session), cast, order, data),
                )
            case DeleteCast(session, cast):
                run("DELETE FROM casts WHERE session = ? AND cast_id = ?", (self._key(session), cast))
            case PutNote(key, data):
                run("INSERT OR REPLACE INTO notes (name, data) VALUES (?, ?)", (key, data))
            case Append():
                raise AssertionError("records come in rows")

    def replace_journal(self, session: str, journal: Sequence[tuple[int, int, bytes]], aside: bytes, why: str) -> None:
        """Write these rows in place of all that are there, and `aside` beside them."""
        key = self._key(session)
        self._writer.execute("DELETE FROM journal WHERE place BETWEEN ? AND ?", schema.places(key))
        for row in journal:
            self.put(JournalRow(session, *row))
        self._writer.execute("INSERT INTO aside (session, why, data) VALUES (?, ?, ?)", (key, why, aside))
        self._writer.execute(
            "DELETE FROM aside WHERE session = ? AND n NOT IN"
            " (SELECT n FROM aside WHERE session = ? ORDER BY n DESC LIMIT ?)",
            (key, key, ASIDE_KEPT),
        )

    def _put_snapshot(self, item: PutSnapshot) -> None:
        run = self._writer.execute
        place = self._place(item.session, item.number)
        low, high = schema.places(self._key(item.session))
        newest_other = (
            "SELECT place FROM snapshots WHERE place BETWEEN ? AND ? AND place <> ? ORDER BY place DESC LIMIT 1"
        )
        kept = run(newest_other, (low, high, place)).fetchone()
        if kept is not None:
            run("DELETE FROM snapshots WHERE place BETWEEN ? AND ? AND place <> ?", (low, high, kept[0]))
            oldest = min(kept[0], place)
            run("DELETE FROM journal WHERE place BETWEEN ? AND ? AND last <= ?", (low, oldest, oldest - low))
        kill_points.reach("mid_snapshot")
        run("INSERT OR REPLACE INTO snapshots (place, data) VALUES (?, ?)", (place, item.data))

    def _put_outcome(self, item: PutOutcome) -> None:
        run = self._writer.execute
        key = self._key(item.session)
        low, high = schema.places(key)
        newest = "SELECT place, total FROM outcomes WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1"
        place, total = run(newest, (low, high)).fetchone() or (low, 0)
        place, total = place + 1, total + len(item.data)
        run(
            "INSERT OR REPLACE INTO outcomes (place, session, call_id, at, total, data) VALUES (?, ?, ?, ?, ?, ?)",
            (place, key, item.call_id, item.at, total, item.data),
        )
        over = (place - OUTCOMES_KEPT, item.at - OUTCOME_KEPT_S, total - OUTCOME_BYTES_KEPT)
        while run(_PRUNE, (low, high, _PRUNED_AT_ONCE, *over)).rowcount == _PRUNED_AT_ONCE:
            pass  # the few oldest, again and again: as a rule one comes and one goes

    def _delete(self, session: str) -> None:
        key = self._key(session)
        for table in ("journal", "snapshots", "outcomes"):
            self._writer.execute(f"DELETE FROM {table} WHERE place BETWEEN ? AND ?", schema.places(key))  # noqa: S608 - ours
        for table in ("casts", "aside"):
            self._writer.execute(f"DELETE FROM {table} WHERE session = ?", (key,))  # noqa: S608 - ours
        self._writer.execute("DELETE FROM sessions WHERE key = ?", (key,))
        del self._keys[session]

    def _key(self, session: str) -> int:
        """Return the key of a session, which is given one when it has none."""
        key = self._keys.get(session)
        if key is None:
            self._writer.execute("INSERT OR IGNORE INTO sessions (id) VALUES (?)", (session,))
            key = int(self._writer.execute("SELECT key FROM sessions WHERE id = ?", (session,)).fetchone()[0])
            if key >= schema.KEYS:
                raise sqlite3.OperationalError(f"more than {schema.KEYS} sessions")
            self._keys[session] = key
        return key

    def _place(self, session: str, number: int) -> int:
        if not 0 <= number < schema.NUMBERS:
            raise sqlite3.OperationalError(f"{number} is no number of a record")
        return schema.places(self._key(session))[0] + number

    def _count(self, size: int) -> None:
        """Count the pages of what is written, and one or two of the trees above."""
        self._pages += 2 + size // schema.PAGE_BYTES
