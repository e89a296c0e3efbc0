"""The host's folder: found or made, locked by one host at a time, emptied when it was only borrowed.

    <dir>/host.lock        flock; says who holds it (for people: the lock itself is the truth)
    <dir>/processes.lock   flock; held by every process of a host until it is over (presence.py)
    <dir>/control/         socket and token of a host that serves
    <dir>/sessions/<id>/   a session's private folder

A *durable* folder stays; an *ephemeral* one is made in the temporary folder and gone at close. What a killed host left of
its ephemeral folder is removed by the next one, known by its lock being free.

Rules: the lock is the only proof of a living host, never a file or a pid (R-73). Nothing is written before it is held.
What cannot be used is refused with its path and the reason (R-66).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from procession.host import presence
from procession.host.paths import CONTROL_FOLDER, SOCKET_NAME, TOKEN_NAME
from procession.host.remove_tree import remove_tree
from procession.ipc.core.errors import AlreadyExists, DiskFull, InvalidRequest, ProcessionError, StorageError

LOCK_NAME: Final = "host.lock"
SESSIONS_FOLDER: Final = "sessions"
EPHEMERAL_PREFIX: Final = "procession-"
#: Another host may remove and make the folder between our open and our lock; more often than this is no coincidence.
_LOCK_TRIES_MAX: Final = 10
#: Folders of killed hosts that one start clears away: it is housekeeping, not its job.
_SWEPT_MAX: Final = 16
_LOCK_BYTES_MAX: Final = 4096
_KIND: Final = "procession host"


class DataDir:
    """A folder held by this process. Made by `open`, let go by `close`."""

    def __init__(self, path: Path, lock_fd: int, *, ephemeral: bool) -> None:
        self.path = path
        self.ephemeral = ephemeral
        self._lock_fd = lock_fd
        self.presence_fd = -1
        """For every process of this host to hold."""
        self._pid = os.getpid()

    @classmethod
    def open(cls, path: Path | None) -> DataDir:
        """Take the folder, making it when it is not there; None makes an ephemeral one.

        Waits, bounded, for the processes of a host that was killed here. Raises AlreadyExists (`already_started`) naming the
        host that holds it, or StorageError naming path and reason (`processes_left`: who is still there).
        """
        if path is None:
            return cls._open_ephemeral()
        path = Path(os.path.abspath(path))
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check(path)
            fd = _lock(path)
        except FileExistsError:
            raise StorageError(f"{path}: is not a folder", code="not_a_folder") from None
        except OSError as problem:
            raise _storage_error(path, problem) from None
        return cls(path, fd, ephemeral=False)._prepared()

    @classmethod
    def _open_ephemeral(cls) -> DataDir:
        parent = Path(tempfile.gettempdir())
        try:
            _sweep(parent)
            for _ in range(_LOCK_TRIES_MAX):
                path = Path(tempfile.mkdtemp(prefix=EPHEMERAL_PREFIX, dir=parent))
                try:
                    return cls(path, _lock(path), ephemeral=True)._prepared()
                except (AlreadyExists, FileNotFoundError):
                    continue  # a sweep took it for an abandoned one before it was locked
        except OSError as problem:
            raise _storage_error(parent, problem) from None
        raise StorageError(f"{parent}: every folder made here is taken away again", code="storage_error")

    def _prepared(self) -> DataDir:
        """Write who holds it, and clear away what a host that was killed left: the lock was free, so it is stale."""
        try:
            _write_holder(self._lock_fd)
            self.presence_fd = presence.take(self.path)
            for name in (SESSIONS_FOLDER, CONTROL_FOLDER):
                os.makedirs(self.path / name, mode=0o700, exist_ok=True)
            for name in (SOCKET_NAME, TOKEN_NAME):
                (self.path / CONTROL_FOLDER / name).unlink(missing_ok=True)
        except StorageError:
            self._let_go()
            raise
        except OSError as problem:
            self._let_go()
            raise _storage_error(self.path, problem) from None
        return self

    # --- sessions -------------------------------------------------------------------------------------------
    def session_folder(self, session: str) -> Path:
        """Return a session's private folder (not made here)."""
        if not session or session != os.path.basename(session) or session in {".", ".."}:
            raise InvalidRequest(f"{session!r} is not a session id", code="invalid_session_id")
        return self.path / SESSIONS_FOLDER / session

    def remove_session(self, session: str) -> bool:
        """Delete a session's private folder; say whether nothing of it is left."""
        folder = self.session_folder(session)
        return _remove(folder)

    def sweep_sessions(self, known: Collection[str]) -> list[str]:
        """Remove private folders that no session owns: of starts and removals that a killed host did not finish."""
        try:
            found = os.listdir(self.path / SESSIONS_FOLDER)
        except OSError as problem:
            raise _storage_error(self.path / SESSIONS_FOLDER, problem) from None
        return [name for name in found if name not in known and _remove(self.path / SESSIONS_FOLDER / name)]

    # --- ends -----------------------------------------------------------------------------------------------
    @property
    def closed(self) -> bool:
        return self._lock_fd < 0

    def close(self) -> None:
        """Let the folder go; an ephemeral one is removed first, while nobody else can hold it. Idempotent."""
        if self._lock_fd < 0 or os.getpid() != self._pid:
            return
        if self.ephemeral:
            _remove(self.path)
        else:
            try:
                os.ftruncate(self._lock_fd, 0)
            except OSError:
                pass  # it says who held it, which only people read
        self._let_go()

    def forget_after_fork(self) -> None:
        """In a forked child: close our copies of the locks, so that they are the host's alone."""
        self._let_go()

    def _let_go(self) -> None:
        fds, self._lock_fd, self.presence_fd = (self.presence_fd, self._lock_fd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def __repr__(self) -> str:
        kind = "ephemeral" if self.ephemeral else "durable"
        return f"<DataDir {self.path} {kind}{' closed' if self.closed else ''}>"


# --- checks -------------------------------------------------------------------------------------------------
def _check(path: Path) -> None:
    """Refuse a folder that is not ours alone to write in; its lock would protect nothing."""
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(f"{path}: is not a folder", code="not_a_folder")
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"{path}: belongs to user {found.st_uid}, this is user {os.geteuid()}",
            code="wrong_owner",
            hint="give a folder of your own",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(
            f"{path}: others may write in it (mode {stat.S_IMODE(found.st_mode):04o})",
            code="not_private",
            hint=f"chmod go-w {path}",
        )


def _storage_error(path: Path, problem: OSError) -> ProcessionError:
    if problem.errno == errno.ENOSPC:
        return DiskFull(f"{path}: no space left")
    where = problem.filename if isinstance(problem.filename, str) else str(path)
    code = "read_only" if problem.errno in {errno.EROFS, errno.EACCES, errno.EPERM} else ""
    return StorageError(f"{where}: {problem.strerror or problem}", code=code)


# --- the lock -----------------------------------------------------------------------------------------------
def _lock(path: Path) -> int:
    """Take the folder's lock and return its descriptor; raises AlreadyExists at once when a host has it."""
    place = path / LOCK_NAME
    for _ in range(_LOCK_TRIES_MAX):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            os.close(fd)
            who = f"a host (pid {holder})" if holder else "another host"
            raise AlreadyExists(
                f"{who} has this data directory: {path}",
                code="already_started",
                hint="use it with Host.connect(), or give another folder",
            ) from None
        except OSError:
            os.close(fd)
            raise
        if _is_still(fd, place):
            return fd
        os.close(fd)  # it was removed while we waited for nothing: lock the one that is there now
    raise StorageError(f"{place}: is removed as fast as it is made", code="storage_error")


def _is_still(fd: int, place: Path) -> bool:
    """Say whether the file we locked is the one that the name stands for."""
    try:
        there = os.stat(place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _write_holder(fd: int) -> None:
    """Say who we are: pid, boot and start time, so that a reused pid is not taken for us."""
    holder = {"kind": _KIND, "pid": os.getpid(), "boot_id": _boot_id(), "start_ticks": _start_ticks(os.getpid())}
    text = json.dumps(holder).encode()
    os.ftruncate(fd, 0)
    os.pwrite(fd, text, 0)


def _holder(fd: int) -> int:
    """Return the pid of the host that has the lock, 0 when it cannot be known."""
    return _holder_by_kernel(fd) or int(_written_holder(fd).get("pid") or 0)


def _holder_by_kernel(fd: int) -> int:
    """Ask the kernel, which knows before the holder has written a word."""
    found = os.fstat(fd)
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                words = line.split()
                if len(words) >= 6 and words[1] == "FLOCK" and words[5] == name:
                    return max(0, int(words[4]))
    except (OSError, ValueError):
        pass
    return 0


def _written_holder(fd: int) -> dict[str, str | int]:
    try:
        found = json.loads(os.pread(fd, _LOCK_BYTES_MAX, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == _KIND and isinstance(found.get("pid"), int) else {}


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _start_ticks(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


# --- removal ------------------------------------------------------------------------------------------------
def _remove(folder: Path) -> bool:
    try:
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        return remove_tree(folder.name, parent)
    finally:
        os.close(parent)


def _sweep(parent: Path) -> None:
    """Remove ephemeral folders of ours whose host is gone: their lock can be had."""
    swept = 0
    with os.scandir(parent) as found:
        candidates = [entry.path for entry in found if entry.name.startswith(EPHEMERAL_PREFIX)]
    for candidate in candidates:
        if swept >= _SWEPT_MAX:
            return
        swept += _sweep_one(Path(candidate))


def _sweep_one(folder: Path) -> bool:
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # no lock file yet, or not ours to open: not ours to judge
    try:
        if os.fstat(fd).st_uid != os.geteuid() or not _written_holder(fd):
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _is_still(fd, folder / LOCK_NAME) and _remove(folder)
    except OSError:
        return False
    finally:
        os.close(fd)
