"""The full-text index that serves recall: SQLite's, in memory, built from the map of memories and kept in step with it.

    memories (the agent's state) --keep_in_step--> FTS5 --find(query)--> (id, score), the best first

It is *not* a store: what it holds can be made again from the map at any time, and is gone with the process. Rules: what was
forgotten is not in it; a query is words, each quoted, so that nothing in it is syntax; whatever matches one of them is found.
Where SQLite has no FTS5, and for what it has no words for (a part of a word, a script without blanks), the texts are looked
through for the words as they are.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from itertools import count
from typing import Any, Final, NamedTuple

_WORD: Final = re.compile(r"\w+")
_TABLE: Final = """
    CREATE VIRTUAL TABLE memory USING fts5(content, content = '', tokenize = 'porter unicode61 remove_diacritics 2')
"""
_ADD: Final = "INSERT INTO memory(rowid, content) VALUES (?, ?)"
_DROP: Final = "INSERT INTO memory(memory, rowid, content) VALUES ('delete', ?, ?)"
_FIND: Final = "SELECT rowid, rank FROM memory WHERE memory MATCH ? ORDER BY rank, rowid DESC"


class Match(NamedTuple):
    """A memory that was found. score: how well it fits, 1.0 for the best of an answer."""

    id: str
    score: float


class RecallIndex:
    """See the module's text."""

    def __init__(self) -> None:
        self._database = _database()
        self._rows = count(1)
        self._indexed: dict[str, tuple[int, str]] = {}
        self._names: dict[int, str] = {}

    def close(self) -> None:
        """Give the memory back."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @property
    def has_full_text(self) -> bool:
        """Whether SQLite was built with FTS5 here."""
        return self._database is not None

    def keep_in_step(self, memories: Mapping[str, Mapping[str, Any]]) -> None:
        """Index what is new or changed among these memories, and drop what is gone or forgotten."""
        wanted = {name: one["content"] for name, one in memories.items() if one["forgotten_at"] is None}
        gone = [
            (self._indexed.pop(name), self._names.pop(row))
            for name, (row, content) in list(self._indexed.items())
            if wanted.get(name) != content
        ]
        new = {name: (next(self._rows), content) for name, content in wanted.items() if name not in self._indexed}
        self._indexed |= new
        self._names |= {row: name for name, (row, _) in new.items()}
        if self._database is not None and (gone or new):
            self._database.execute("BEGIN")
            self._database.executemany(_DROP, ((row, _text(content)) for (row, content), _ in gone))
            self._database.executemany(_ADD, ((row, _text(content)) for row, content in new.values()))
            self._database.execute("COMMIT")

    def find(self, query: str) -> list[Match]:
        """Return what matches a query, the best first, of equals the newest."""
        words = list(dict.fromkeys(_WORD.findall(query)))
        return self._by_index(words) or self._by_look(words or [query])

    def _by_index(self, words: list[str]) -> list[Match]:
        if self._database is None or not words:
            return []
        query = " OR ".join(f'"{_text(word)}"' for word in words)
        found = self._database.execute(_FIND, (query,)).fetchall()
        return [Match(self._names[row], rank / found[0][1]) for row, rank in found]  # below zero, the best is the least

    def _by_look(self, words: list[str]) -> list[Match]:
        folded = {word.casefold() for word in words}
        texts = ((row, content.casefold()) for row, content in self._indexed.values())
        counted = ((sum(word in text for word in folded), row) for row, text in texts)
        found = sorted((one for one in counted if one[0]), reverse=True)
        return [Match(self._names[row], hits / found[0][0]) for hits, row in found]


def _database() -> sqlite3.Connection | None:
    """Return an empty index, None where SQLite has no FTS5."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.execute(_TABLE)
    except sqlite3.OperationalError:
        database.close()
        return None
    return database


def _text(text: str) -> str:
    """Return a text as SQLite takes it: half a surrogate pair has no form there."""
    return text.encode("utf-8", "replace").decode()
