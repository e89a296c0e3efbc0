"""A store in memory: what tests and simulations use, held to the same conformance suite as the one on disk.

It is *not* durable: it keeps apart what was written and what is "on disk", and `crash` takes away what was not. Rules: as
port.py has them; faults are set from outside (`is_full`, `sync_fails`), and a crash loses a suffix of the unsynced writes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from procession.host.core.group_commit import LAST_WORDS, JournalRow, with_rows
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
    Rows,
)
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.errors import DiskFull, StorageError


class Chance(Protocol):
    """What a crash asks: a random.Random, of a test's own seed."""

    def randint(self, a: int, b: int, /) -> int: ...


class _Replaced(NamedTuple):
    session: str
    journal: tuple[tuple[int, int, bytes], ...]
    aside: tuple[str, bytes]


class _Session:
    """What is kept of one session."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.snapshots: dict[int, bytes] = {}
        self.journal: list[tuple[int, int, bytes]] = []
        self.outcomes: dict[str, tuple[float, bytes]] = {}
        self.casts: dict[str, tuple[int, bytes]] = {}
        self.aside: list[tuple[str, bytes]] = []

    def put_snapshot(self, number: int, data: bytes) -> None:
        older = sorted((n for n in self.snapshots if n != number), reverse=True)[:1]
        self.snapshots = {number: data} | {n: self.snapshots[n] for n in older}
        if older:
            oldest = min(self.snapshots)
            self.journal = [row for row in self.journal if row[1] > oldest]

    def put_outcome(self, item: PutOutcome) -> None:
        self.outcomes.pop(item.call_id, None)
        self.outcomes[item.call_id] = (item.at, item.data)
        while len(self.outcomes) > OUTCOMES_KEPT or item.at - self._oldest_outcome() > OUTCOME_KEPT_S:
            del self.outcomes[next(iter(self.outcomes))]

    def _oldest_outcome(self) -> float:
        return next(iter(self.outcomes.values()))[0]

    def size(self) -> int:
        blobs = [self.data or b"", *self.snapshots.values(), *(row[2] for row in self.journal)]
        more = (*self.outcomes.values(), *self.casts.values(), *self.aside)
        return sum(map(len, blobs)) + sum(len(data) for _, data in more)


class _Tables:
    """Everything that is kept, and what one written thing does to it."""

    def __init__(self) -> None:
        self.sessions: dict[str, _Session] = {}
        self.notes: dict[str, bytes] = {}

    def apply(self, item: Item | JournalRow | _Replaced) -> None:
        if isinstance(item, PutNote):
            self.notes[item.key] = item.data
            return
        if isinstance(item, DeleteSession):
            self.sessions.pop(item.session, None)
            return
        of = self.sessions.setdefault(item.session, _Session())
        match item:
            case JournalRow(_, first, last, data):
                of.journal.append((first, last, data))
                of.journal.sort(key=lambda row: row[0])
            case PutSnapshot(number=number, data=data):
                of.put_snapshot(number, data)
            case PutSession(data=data):
                of.data = data
            case PutOutcome():
                of.put_outcome(item)
            case PutCast(cast=cast, order=order, data=data):
                of.casts[cast] = (order, data)
            case DeleteCast(cast=cast):
                of.casts.pop(cast, None)
            case _Replaced(journal=journal, aside=aside):
                of.journal = list(journal)
                of.aside.append(aside)
            case Append():
                raise AssertionError("records come in rows")


class MemoryStore:
    """See the module's text. is_full: there is no room. sync_fails: the next sync fails, and the store with it."""

    def __init__(self) -> None:
        self.is_full = False
        self.sync_fails = False
        self.syncs = 0
        self._lock = threading.Lock()
        self._now = _Tables()
        self._disk = _Tables()
        self._unsynced: list[list[Item | JournalRow | _Replaced]] = []
        self._failure = ""

    # --- writing --------------------------------------------------------------------------------------------
    def write(self, items: Sequence[Item], *, sync: bool) -> None:
        self._check()
        if self.is_full and not (items and all(isinstance(item, LAST_WORDS) for item in items)):
            raise DiskFull("the store is full")
        self._write(list(with_rows(items)))
        if sync:
            self.sync()

    def _write(self, group: list[Item | JournalRow | _Replaced]) -> None:
        with self._lock:
            if any(isinstance(item, JournalRow) and self._has(item) for item in group):
                self._failure = "a record was written a second time"
                self._check()
            for item in group:
                self._now.apply(item)
            self._unsynced.append(group)

    def _has(self, row: JournalRow) -> bool:
        of = self._now.sessions.get(row.session)
        return of is not None and any(kept[0] == row.first for kept in of.journal)

    def sync(self) -> None:
        self._check()
        if self.sync_fails:
            self._failure = "its disk does not sync"
            self._check()
        with self._lock:
            self.syncs += 1
            for group in self._unsynced:
                for item in group:
                    self._disk.apply(item)
            self._unsynced.clear()

    def tidy(self) -> None:
        self._check()

    def replace_journal(self, session: str, journal: Sequence[tuple[int, int, bytes]], aside: bytes, why: str) -> None:
        self._check()
        self._write([_Replaced(session, tuple(journal), (why, aside))])
        self.sync()

    def _check(self) -> None:
        if self._failure:
            raise StorageError(f"the store in memory cannot be used: {self._failure}", code="storage_failed")

    def crash(self, rng: Chance | None = None) -> None:
        """Lose what was not synced: all of it, or as much from its end as chance says. It is whole again after."""
        with self._lock:
            kept = 0 if rng is None else rng.randint(0, len(self._unsynced))
            both = _Tables()
            for group in self._unsynced[:kept]:
                for item in group:
                    self._disk.apply(item)
            both.sessions = {name: _copy(of) for name, of in self._disk.sessions.items()}
            both.notes = dict(self._disk.notes)
            self._now = both
            self._unsynced.clear()
            self.sync_fails = False
        self.reopen()

    def reopen(self) -> None:
        """Let it be used again after `close`, as a file can be opened again."""
        self._failure = ""

    # --- reading --------------------------------------------------------------------------------------------
    def sessions(self) -> list[tuple[str, bytes]]:
        with self._lock:
            return [(name, of.data) for name, of in self._now.sessions.items() if of.data is not None]

    def rows(self, session: str) -> Rows:
        with self._lock:
            of = self._now.sessions.get(session)
            if of is None:
                return Rows((), ())
            return Rows(tuple(sorted(of.snapshots.items(), reverse=True)), tuple(of.journal))

    def outcome(self, session: str, call_id: str) -> bytes | None:
        with self._lock:
            of = self._now.sessions.get(session)
            found = None if of is None else of.outcomes.get(call_id)
            return None if found is None else found[1]

    def casts(self) -> list[tuple[str, bytes]]:
        with self._lock:
            return [
                (name, data)
                for name, of in self._now.sessions.items()
                for _, data in sorted(of.casts.values(), key=lambda cast: cast[0])
            ]

    def note(self, key: str) -> bytes | None:
        with self._lock:
            return self._now.notes.get(key)

    def size_bytes(self) -> int:
        with self._lock:
            return sum(of.size() for of in self._now.sessions.values()) + sum(map(len, self._now.notes.values()))

    def close(self) -> None:
        """Sync, and refuse from now on."""
        if not self._failure:
            try:
                self.sync()
            except StorageError:
                return
            self._failure = "it was closed"

    def forget_after_fork(self) -> None:
        self._failure = "it is the parent process's"


def _copy(of: _Session) -> _Session:
    copy = _Session()
    copy.data, copy.snapshots, copy.journal = of.data, dict(of.snapshots), list(of.journal)
    copy.outcomes, copy.casts, copy.aside = dict(of.outcomes), dict(of.casts), list(of.aside)
    return copy
