"""Write a file so that its name never stands for half of it: a draft beside it, on disk, then renamed, and the folder on disk.

    draft written ─ fsync ─ [mid_rename] ─ rename ─ [after_rename] ─ fsync of the folder

Whoever is killed, or loses its power, in the middle leaves what was there before under the name, or all of the new. It is *not*
for what is changed in place, and not for the host's loop: it waits for a disk. Rules: a failure leaves no draft behind; one that
a death left (`.NAME.….part`) goes with the next writing of that name, its writer's lock being free; a file that is there is
only replaced when that was asked for, even when it came in the last moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Final

from procession.ipc import kill_points
from procession.ipc.core.errors import AlreadyExists, DiskFull, InvalidRequest, ProcessionError, StorageError

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS})
_END: Final = ".part"
#: Drafts made until one is not swept before it is locked, which takes another writer in the same microsecond.
_TRIES_MAX: Final = 8
#: Drafts removed at once; each was left by a death in the same few microseconds.
_SWEPT_MAX: Final = 100
#: Of a name, in the name of its draft: which with the rest stays within the 255 bytes of a file system.
_NAME_BYTES_MAX: Final = 200


def write_file(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write `data` to `path`, for its owner alone, and return when it is on disk.

    Raises AlreadyExists (file_exists), InvalidRequest (path_not_found, path_not_file), DiskFull, StorageError.
    """
    check_target(path, overwrite=overwrite)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _write_in(folder, path, data, overwrite)
        finally:
            os.close(folder)
    except OSError as problem:
        raise _error(path, problem) from None


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse at once what would be refused at the end. Raises as `write_file`."""
    if not path.name or os.path.isdir(path):
        raise InvalidRequest(f"{path}: is a folder, and a file is to be written", code="path_not_file")
    if not os.path.isdir(path.parent):
        raise InvalidRequest(f"{path}: there is no folder {path.parent}", code="path_not_found")
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _write_in(folder: int, path: Path, data: bytes, overwrite: bool) -> None:
    begin = f".{os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES_MAX])}."
    _sweep(folder, begin)
    draft, fd = _new_draft(folder, begin)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
            kill_points.reach("mid_rename")
            if overwrite:
                os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                _name_it(folder, draft, path)
            kill_points.reach("after_rename")
        finally:
            os.close(fd)
    except BaseException:
        _unlink(folder, draft)
        raise
    os.fsync(folder)


def _new_draft(folder: int, begin: str) -> tuple[str, int]:
    """Make a draft that is ours alone, and locked for as long as it is open: so that nobody takes it for a dead one's."""
    for _ in range(_TRIES_MAX):
        name = f"{begin}{os.urandom(4).hex()}{_END}"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        if _lock(fd) is not False and os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)  # a sweep saw it before it was locked
    raise OSError(errno.EBUSY, "drafts are taken away as fast as they are made")


def _sweep(folder: int, begin: str) -> None:
    """Remove drafts of the same name whose writers are dead."""
    with os.scandir(folder) as found:
        draft = re.compile(re.escape(begin) + "[0-9a-f]{8}" + re.escape(_END)).fullmatch
        names = [entry.name for entry in found if draft(entry.name)]
    for name in names[:_SWEPT_MAX]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            continue  # not ours to judge
        try:
            if os.fstat(fd).st_uid == os.geteuid() and _lock(fd) is True:
                _unlink(folder, name)
        finally:
            os.close(fd)


def _lock(fd: int) -> bool | None:
    """Lock a draft; False when another has it locked, None where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _unlink(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _name_it(folder: int, draft: str, path: Path) -> None:
    """Give the draft its name unless somebody has it: a second name and then one less, where there are hard links."""
    try:
        os.link(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise _exists(path) from None
        os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(draft, dir_fd=folder)


def _exists(path: Path) -> AlreadyExists:
    return AlreadyExists(f"{path}: is there already", code="file_exists", hint="overwrite=True replaces it")


def _error(path: Path, problem: OSError) -> ProcessionError:
    if problem.errno in _NO_SPACE:
        return DiskFull(f"{path}: there is no room for it", hint="nothing of it was left; what was there before is")
    return StorageError(f"{path}: cannot be written: {problem.strerror or problem}")
