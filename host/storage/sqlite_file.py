"""The file of the store as a file: found, refused or made; and what SQLite's errors mean for who opens or reads.

Rules: made for its owner alone, whole and on disk under a draft's name before it gets its own; what is no database keeps its
bytes; a refusal names path and reason.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from procession.ipc import kill_points
from procession.ipc.core.errors import DiskFull, JournalCorrupt, ProcessionError, StorageError

_MAGIC: Final = b"SQLite format 3\0"
_NOT_TO_BE_WRITTEN: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})
_MALFORMED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNTOUCHED: Final = "nothing was changed"


def is_there(path: Path) -> bool:
    """Say whether there is a database, or nothing; refuse what is neither.

    Done before any connection is open: to close a file drops all locks that this process has on it.
    """
    try:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as problem:
        raise refused(path, problem) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StorageError(f"{path}: is no file")
        head = os.pread(fd, len(_MAGIC), 0)
    except OSError as problem:
        raise refused(path, problem) from None
    finally:
        os.close(fd)
    if head and head != _MAGIC:
        raise JournalCorrupt(f"{path}: is no database", hint=_UNTOUCHED)
    return bool(head)


def begin_draft(path: Path) -> Path:
    """Make an empty file beside `path`, in place of what a death in the middle of this left."""
    draft = path.with_name(f"{path.name}.draft")
    for leftover in (draft, Path(f"{draft}-journal"), Path(f"{draft}-wal"), Path(f"{draft}-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return draft


def name_draft(draft: Path, path: Path) -> None:
    """Have what was written on disk, and then under its name."""
    fd = os.open(draft, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    kill_points.reach("mid_rename")
    os.rename(draft, path)
    kill_points.reach("after_rename")
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def code_of(error: Exception) -> int:
    """Return SQLite's primary code of an error; 0 for one that is not SQLite's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def refused(path: Path, problem: OSError) -> ProcessionError:
    """Return the error for a file that the system refuses."""
    where = problem.filename if isinstance(problem.filename, str) else path
    if problem.errno == errno.ENOSPC:
        return DiskFull(f"{where}: no space left")
    code = "read_only" if problem.errno in {errno.EROFS, errno.EACCES, errno.EPERM} else ""
    return StorageError(f"{where}: {problem.strerror or problem}", code=code)


def cannot_open(path: Path, error: sqlite3.Error) -> ProcessionError:
    """Return the error for a database that does not open."""
    code = code_of(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"{path}: no space left")
    if code in _NOT_TO_BE_WRITTEN:
        return StorageError(f"{path}: {error}", code="read_only")
    return cannot_read(path, error)


def cannot_read(path: Path, error: sqlite3.Error) -> ProcessionError:
    """Return the error for a table that does not read."""
    if code_of(error) in _MALFORMED:
        return JournalCorrupt(f"{path}: {error}", hint=_UNTOUCHED)
    return StorageError(f"{path}: {error}", code="storage_failed")


def close_descriptors(path: Path) -> None:
    """Close every descriptor of this process that is a database of this path, or a file that belongs to it."""
    ours = {str(path), f"{path}-wal", f"{path}-shm"}
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") in ours:
                os.close(int(name))
        except OSError:
            pass  # the one that the listing itself had, or one that is gone
