"""The store on disk: one SQLite file, journal.db, in the host's folder.

    writer thread ── write() ──▶ journal.db-wal ── tidy(): a checkpoint ──▶ journal.db        any thread ── reads ──▶ both
                                      ▲ sync(): fdatasync

What SQLite gives here, in WAL mode with `synchronous = NORMAL`: a commit appends its pages, checksummed, to the WAL and does not
sync. So it outlives this process at once, killed at any instruction; and after a power cut what is found is a prefix of the
commits, in order. `synchronous = FULL` would do the same and then fdatasync the WAL; `sync` does that itself, through a
descriptor of its own: so many commits share one, and writes go on beside it. A checkpoint syncs the WAL before it copies, and
the file before the WAL is used again: so what was synced once stays so.

Rules: nothing of SQLite's runs by itself: its own checkpoints pass over errors of the disk, ours raise them. After any error
but a full disk this store never writes again, and closes without a checkpoint: what the disk gives back then may not be what
was written. A descriptor that a sync failed on is never asked a second time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from procession.host.core.group_commit import LAST_WORDS, with_rows
from procession.host.core.journal_entries import DeleteSession, Item, PutSnapshot, Rows
from procession.host.storage import schema, sqlite_file
from procession.host.storage.reserve import Reserve
from procession.host.storage.sqlite_read import Reader
from procession.host.storage.sqlite_write import Tables
from procession.ipc import kill_points
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import DiskFull, ProcessionError, StorageError

DATABASE_NAME: Final = "journal.db"
WAL_TIDY_PAGES: Final = 1 * MiB // schema.PAGE_BYTES
"""A checkpoint beside the writes is due: often, so that the file stays small and is opened at once after a death."""
WAL_PAGES_MAX: Final = 4 * MiB // schema.PAGE_BYTES
"""The writer makes one itself: the disk has not kept up, or never had a quiet moment."""
FREE_PAGES_KEPT: Final = 1 * MiB // schema.PAGE_BYTES
"""Left in the file for what comes next; what is more goes back to the file system, as much as this at a time."""
_BUSY_S: Final = 5.0
"""Only somebody else's tool can hold a lock on a file whose folder this host has locked."""


class SqliteStore:
    """See the module's text, and port.py for what each method promises."""

    @classmethod
    def open(cls, folder: Path, *, vfs: str = "", fdatasync: Callable[[int], None] = os.fdatasync) -> SqliteStore:
        """Open the store of a folder, making it when there is none.

        Raises StorageError naming path and reason: `read_only`, `newer_data`, DiskFull, and JournalCorrupt for what is no
        database of ours, whose bytes stay as they are. vfs, fdatasync: how the disk is reached, for tests of disks that fail.
        """
        path = Path(os.path.abspath(folder)) / DATABASE_NAME
        store = cls(path, vfs, fdatasync)
        try:
            if not sqlite_file.is_there(path):
                store._make()
            store._open()
        except BaseException as problem:
            store._close(checkpoint=False)
            if isinstance(problem, sqlite3.Error):
                raise sqlite_file.cannot_open(path, problem) from None
            if isinstance(problem, OSError):
                raise sqlite_file.refused(path, problem) from None
            raise
        return store

    def __init__(self, path: Path, vfs: str, fdatasync: Callable[[int], None]) -> None:
        self._path = path
        self._vfs = vfs
        self._fdatasync = fdatasync
        self._reserve = Reserve(path.parent)
        self._reader: Reader | None = None
        self._writers: list[sqlite3.Connection] = []
        self._wal_fd = -1
        self._wal_pages = 0
        self._reclaims = False
        self._syncing = threading.Lock()
        self._failure: ProcessionError | None = None

    def _make(self) -> None:
        draft = sqlite_file.begin_draft(self._path)
        connection = self._connect("rw", draft)
        try:
            schema.make(connection, self._path)
        finally:
            connection.close()
        sqlite_file.name_draft(draft, self._path)

    def _open(self) -> None:
        # The reader is the first that is opened: nothing is written before it is known whose file this is.
        reading = self._connect("ro")
        self._reader = Reader(reading, self._path)
        version = schema.version_of(reading, self._path)
        self._writer = writer = self._connect("rw")
        self._writers.append(writer)
        writer.execute(
            f"PRAGMA journal_size_limit = {WAL_PAGES_MAX * schema.PAGE_BYTES}"
        )  # after a large snapshot, too
        schema.migrate(writer, version)
        self._tables = Tables(writer)
        self._tidier = self._connect("rw")
        self._writers.append(self._tidier)
        reading.execute("SELECT 1 FROM sessions").fetchone()  # from here on no other connection is alone
        self._wal_fd = os.open(f"{self._path}-wal", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._wal_pages = os.fstat(self._wal_fd).st_size // schema.PAGE_BYTES
        sqlite_file.sync_folder(self._path.parent)  # the names of both files
        self._reserve.take()

    def _connect(self, mode: str, path: Path | None = None) -> sqlite3.Connection:
        vfs = f"&vfs={self._vfs}" if self._vfs else ""
        connection = sqlite3.connect(
            f"file:{quote(str(path or self._path))}?mode={mode}{vfs}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "mmap_size = 0",  # an error of the disk is an error then, and not a SIGBUS
            "temp_store = MEMORY",
            "synchronous = NORMAL",
            "wal_autocheckpoint = 0",
            "secure_delete = FAST",  # some builds write zeroes over all that is deleted: twice the work of a snapshot
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    # --- writing --------------------------------------------------------------------------------------------
    def write(self, items: Sequence[Item], *, sync: bool) -> None:
        self._check()
        is_last_words = bool(items) and all(isinstance(item, LAST_WORDS) for item in items)
        if not is_last_words and not self._reserve.take():
            raise DiskFull(f"{self._path.parent}: no space left")
        with _Undoing(self):
            self._make_room()
            if items:
                self._write(items)
        if sync:
            self.sync()
        self._check()  # a sync beside this may have failed: then nothing is acknowledged any more

    def _write(self, items: Sequence[Item]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        for place, item in enumerate(with_rows(items)):
            self._tables.put(item)
            self._reclaims = self._reclaims or isinstance(item, PutSnapshot | DeleteSession)
            if place == 0:
                kill_points.reach("mid_append")
        self._writer.execute("COMMIT")
        self._wal_pages += self._tables.take_pages()

    def replace_journal(self, session: str, journal: Sequence[tuple[int, int, bytes]], aside: bytes, why: str) -> None:
        self._check()
        with _Undoing(self):
            self._writer.execute("BEGIN IMMEDIATE")
            self._tables.replace_journal(session, journal, aside, why)
            self._writer.execute("COMMIT")
        self.sync()

    def _make_room(self) -> None:
        """Keep WAL and file small, before a write: what fails here fails before anything is written."""
        if self._wal_pages >= WAL_PAGES_MAX:
            self._checkpoint(self._writer)
        if self._reclaims:
            free = int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])
            pages = min(free - FREE_PAGES_KEPT, FREE_PAGES_KEPT)
            self._reclaims = pages == FREE_PAGES_KEPT  # there is more, for the next time
            if pages > 0:
                self._writer.executescript(f"PRAGMA incremental_vacuum({pages})")  # `execute` would free one page
                self._wal_pages += pages

    # --- the disk -------------------------------------------------------------------------------------------
    def sync(self) -> None:
        with self._syncing:
            self._check()
            try:
                self._fdatasync(self._wal_fd)
            except OSError as problem:
                raise self._poison(f"{self._path}-wal: {problem.strerror} at fdatasync") from None

    def tidy(self) -> None:
        self._check()
        if self._wal_pages < WAL_TIDY_PAGES:
            return
        try:
            self._checkpoint(self._tidier)
        except sqlite3.Error as error:
            if sqlite_file.code_of(error) != sqlite3.SQLITE_FULL:  # then the WAL goes on, until it has no room either
                raise self._poison(f"{self._path}: {error}") from None

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy what the WAL has into the file, as far as no reader needs it to stay. Who finds one under way leaves it."""
        before = self._wal_pages
        busy, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy:
            self._wal_pages = max(0, self._wal_pages - before) if pages == copied else pages

    # --- failure --------------------------------------------------------------------------------------------
    def _check(self) -> None:
        if self._failure is not None:
            raise StorageError(self._failure.message, code=self._failure.code)

    def undo(self, error: Exception) -> ProcessionError:
        """Undo a write that failed; return what it failed with, after which another one may be tried or never."""
        self._tables.forget_keys()
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error as problem:
            return self._poison(f"{self._path}: {error}, and then {problem}")
        if sqlite_file.code_of(error) != sqlite3.SQLITE_FULL:
            return self._poison(f"{self._path}: {type(error).__name__}: {error}")
        self._reserve.give_up()
        return DiskFull(f"{self._path}: no space left")

    def _poison(self, text: str) -> ProcessionError:
        self._failure = StorageError(f"{text}; nothing is written any more", code="storage_failed")
        return self._failure

    # --- reading --------------------------------------------------------------------------------------------
    @property
    def _reads(self) -> Reader:
        if self._reader is None:
            raise StorageError(f"{self._path} was closed", code="closed")
        return self._reader

    def sessions(self) -> list[tuple[str, bytes]]:
        return self._reads.sessions()

    def rows(self, session: str) -> Rows:
        return self._reads.rows(session)

    def outcome(self, session: str, call_id: str) -> bytes | None:
        return self._reads.outcome(session, call_id)

    def casts(self) -> list[tuple[str, bytes]]:
        return self._reads.casts()

    def note(self, key: str) -> bytes | None:
        return self._reads.note(key)

    def size_bytes(self) -> int:
        total = 0
        for path in (self._path, f"{self._path}-wal"):
            try:
                total += os.stat(path).st_size
            except FileNotFoundError:
                pass  # there is no WAL after a close
        return total

    # --- ends -----------------------------------------------------------------------------------------------
    def close(self) -> None:
        if self._failure is None:
            try:
                self.sync()
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except (sqlite3.Error, StorageError) as error:
                self._poison(str(error))
        self._close(checkpoint=self._failure is None)
        self._failure = StorageError(f"{self._path} was closed", code="closed")

    def _close(self, *, checkpoint: bool) -> None:
        """Close what is open. SQLite makes a checkpoint with the last connection that may write, when nobody reads any more:
        so the reader, which may not, is the first to go, or the last.
        """
        reader, self._reader = self._reader, None
        if reader is not None and checkpoint:
            reader.close()
        for writer in self._writers:
            try:
                writer.close()
            except sqlite3.Error:
                pass  # what it did last had failed, and was said
        if reader is not None and not checkpoint:
            reader.close()
        self._writers.clear()
        if self._wal_fd >= 0:
            os.close(self._wal_fd)
            self._wal_fd = -1

    def forget_after_fork(self) -> None:
        """In a forked child: be closed. SQLite is not asked to, since to close a database may be to write to it.

        Only the descriptors are; so its objects here must never be taken apart, at the end of the child neither.
        """
        for connection in (*self._writers, *(() if self._reader is None else self._reader.connections)):
            _make_immortal(connection)
        sqlite_file.close_descriptors(self._path)
        self._wal_fd = -1
        self._reader = None
        self._writers = []
        self._failure = StorageError(f"{self._path} is the parent process's", code="closed")


class _Undoing:
    """A block in which whatever goes wrong undoes the write, and is raised as an error of ours."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, Exception):
            raise self._store.undo(error) from None


def _make_immortal(thing: object) -> None:
    """Have an object never be taken apart: it counts one reference that nobody has."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
