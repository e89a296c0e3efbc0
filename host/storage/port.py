"""The port of storage: what a host needs of whatever keeps its data. Two adapters: SQLite (sqlite_store.py) and memory
(memory_store.py), held to one conformance suite.

Rules: a write is one transaction, all of it or nothing. After an error other than DiskFull nothing is written any more: who
cannot know what is on disk does not go on. Reads see every write that has returned, from any thread; writes come from one
thread, and `sync` and `tidy` from one other, beside them. What is read is bytes: nothing here decodes what a session said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from procession.host.core.journal_entries import Item, Rows


class Store(Protocol):
    """See the module's text. Opened by its adapter's `open`."""

    def write(self, items: Sequence[Item], *, sync: bool) -> None:
        """Write all items, in order, or nothing. sync: and have it on disk, with all that was written before.

        Raises DiskFull: there was no room, later there may be; a write of nothing says whether there is. Records and all
        else that grows are refused until then, LAST_WORDS are tried. Raises StorageError (`storage_failed`): never write again.
        """

    def sync(self) -> None:
        """Have on disk all whose `write` has returned, while others go on. Raises StorageError: as `write` does."""

    def tidy(self) -> None:
        """Do what is due and may take long (a checkpoint), while writes go on. Raises as `write`."""

    def sessions(self) -> list[tuple[str, bytes]]:
        """Return every session's id and data, oldest first. Raises StorageError."""

    def rows(self, session: str) -> Rows:
        """Return what is kept of a session's state, whatever of it can be read. Raises StorageError."""

    def replace_journal(self, session: str, journal: Sequence[tuple[int, int, bytes]], aside: bytes, why: str) -> None:
        """Repair a torn end: these rows in place of all that are there; `aside` is kept, with the reason. On disk on return."""

    def outcome(self, session: str, call_id: str) -> bytes | None:
        """Return an Outcome, encoded; None when none is kept."""

    def casts(self) -> list[tuple[str, bytes]]:
        """Return (session, Cast encoded) of all that are kept, each session's in their order."""

    def note(self, key: str) -> bytes | None:
        """Return a note; None when there is none."""

    def size_bytes(self) -> int:
        """Return what it takes on disk."""

    def close(self) -> None:
        """Have everything on disk and let go. Idempotent; never raises."""

    def forget_after_fork(self) -> None:
        """In a forked child: never use it again, and touch nothing that is the parent's."""
