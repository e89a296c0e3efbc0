"""Copy a folder and what is in it, as it is found: without following a link, without a path that can be swapped meanwhile.

    source ── folder by folder, each opened by its own steps from the top ──▶ target, which was not there or is empty

It is *not* a picture of one moment: what is written meanwhile may be there in part. Rules: links are copied as links and special
files (sockets, pipes, devices) are left out and counted; permissions and times of change are kept, owners, ACLs and set-id bits
are not; blocks are shared where the file system can (FICLONE), else the kernel copies; there is a bound to everything; a
failure, or being told to stop, leaves nothing of the copy. It waits for disks: not for the host's loop.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from procession.host.remove_tree import remove_tree
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import AlreadyExists, DiskFull, InvalidRequest, ProcessionError, StorageError

ENTRIES_MAX: Final = 1_000_000
"""Ten times a large project with all its dependencies."""
BYTES_MAX: Final = 64 * 1024 * MiB
"""More than a folder of sources, and less than a disk: who has more does not want a copy of it."""
DEPTH_MAX: Final = 256
"""Deeper than a path may be long, as a rule (PATH_MAX, of names with fifteen letters)."""
_PIECE_BYTES: Final = 8 * MiB
"""Copied at once, so that being told to stop is heard within a moment."""
_FICLONE: Final = 0x40049409
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_CLONE: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)
_CANNOT_RANGE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EIO})

Parts = tuple[str, ...]


class Copied(NamedTuple):
    """What was copied so far. skipped: special files that were left out."""

    entries: int = 0
    bytes: int = 0
    skipped: int = 0


class Bounds(NamedTuple):
    """The most that is copied."""

    entries: int = ENTRIES_MAX
    bytes: int = BYTES_MAX


def copy_tree(
    source: Path,
    target: Path,
    *,
    look: Callable[[Copied], None] = lambda _: None,
    leave_out: Collection[Path] = (),
    bounds: Bounds = Bounds(),  # noqa: B008 - a tuple
) -> Copied:
    """Copy what is in `source` into `target`, which is made, or is an empty folder.

    look: is told how far it is, often, and stops the copying by raising. leave_out: folders that are not copied, wherever they
    lie in it; the target never is.

    Raises InvalidRequest (path_not_found, path_not_directory, project_too_large), AlreadyExists (folder_not_empty),
    DiskFull, StorageError, and what `look` raises; then nothing of the copy is left.
    """
    top = _opened(source)
    try:
        made = _made(target)
        try:
            with _open_folder(target) as place:
                try:
                    return _Copy(top, place, look, {*map(_identity, leave_out), _identity_of(place)}, bounds).run()
                except BaseException:
                    _empty(place)
                    raise
        except BaseException as problem:
            if made:
                _remove_empty(target)
            if isinstance(problem, OSError):
                raise _error(problem, target) from None
            raise
    finally:
        os.close(top)


def remove_copy(target: Path, *, keep_folder: bool) -> None:
    """Take a copy away again; what cannot be removed is left. keep_folder: it was there, and empty."""
    try:
        with _open_folder(target) as place:
            _empty(place)
    except OSError:
        return
    if not keep_folder:
        _remove_empty(target)


def _empty(place: int) -> None:
    for name in os.listdir(place):
        remove_tree(name, place)


def _remove_empty(target: Path) -> None:
    try:
        os.rmdir(target)
    except OSError:
        pass  # somebody put something into it meanwhile, and that is not the copy's


@contextmanager
def _open_folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class _Copy:
    """One copying. A folder is opened anew from the top, step by step: no name leads outside, and few descriptors are open."""

    def __init__(
        self,
        top: int,
        place: int,
        look: Callable[[Copied], None],
        leave_out: Collection[tuple[int, int]],
        bounds: Bounds,
    ) -> None:
        self._top, self._place = top, place
        self._look = look
        self._leave_out = leave_out
        self._bounds = bounds
        self._can_clone = True
        self._entries = self._bytes = self._skipped = 0
        self._folders: list[tuple[Parts, int]] = []

    def run(self) -> Copied:
        waiting: deque[Parts] = deque([()])
        while waiting:
            self._copy_folder(waiting.popleft(), waiting)
        for parts, mode in reversed(self._folders):  # last: one that cannot be written in was still to be filled
            fd = _beneath(self._place, parts)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        return self._so_far()

    def _so_far(self) -> Copied:
        return Copied(self._entries, self._bytes, self._skipped)

    def _copy_folder(self, parts: Parts, waiting: deque[Parts]) -> None:
        if len(parts) > DEPTH_MAX:
            raise _too_large(f"folders nested more than {DEPTH_MAX} deep")
        source = _beneath(self._top, parts)
        try:
            target = _beneath(self._place, parts)
            try:
                with os.scandir(source) as found:
                    for entry in found:
                        self._count_entry()
                        if entry.is_dir(follow_symlinks=False):
                            if self._copy_empty(entry.name, source, target, parts):
                                waiting.append((*parts, entry.name))
                        elif entry.is_symlink():
                            os.symlink(os.readlink(entry.name, dir_fd=source), entry.name, dir_fd=target)
                        elif entry.is_file(follow_symlinks=False):
                            self._copy_file(entry.name, source, target)
                        else:
                            self._skipped += 1
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _count_entry(self) -> None:
        self._entries += 1
        if self._entries > self._bounds.entries:
            raise _too_large(f"more than {self._bounds.entries} files and folders")
        self._look(self._so_far())

    def _copy_empty(self, name: str, source: int, target: int, parts: Parts) -> bool:
        """Make a folder as the one in `source`; say whether it is to be filled."""
        found = os.lstat(name, dir_fd=source)
        if (found.st_dev, found.st_ino) in self._leave_out:
            self._entries -= 1
            return False
        os.mkdir(name, 0o700, dir_fd=target)
        mode = found.st_mode & 0o777
        if mode != 0o700:
            self._folders.append(((*parts, name), mode))
        return True

    def _copy_file(self, name: str, source: int, target: int) -> None:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        from_fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=source)
        try:
            found = os.fstat(from_fd)
            if not stat.S_ISREG(found.st_mode):  # it was a file a moment ago
                self._skipped += 1
                return
            to_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)
            try:
                self._copy_bytes(from_fd, to_fd, found.st_size)
                os.fchmod(to_fd, found.st_mode & 0o777)
                os.utime(to_fd, ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                os.close(to_fd)
        finally:
            os.close(from_fd)

    def _copy_bytes(self, from_fd: int, to_fd: int, size: int) -> None:
        """Copy as many bytes as the file had when it was opened: one that grows all the time has an end, too."""
        if self._bytes + size > self._bounds.bytes:
            raise _too_large(f"more than {self._bounds.bytes} bytes")
        if self._can_clone and size:
            try:
                fcntl.ioctl(to_fd, _FICLONE, from_fd)
            except OSError as problem:
                if problem.errno not in _CANNOT_CLONE:
                    raise
                self._can_clone = False
            else:
                self._bytes += size
                return
        left, copy = size, _by_kernel
        while left > 0:
            try:
                count = copy(from_fd, to_fd, min(left, _PIECE_BYTES))
            except OSError as problem:
                if copy is _by_hand or problem.errno not in _CANNOT_RANGE:
                    raise
                copy = _by_hand
                continue
            if not count:
                if copy is _by_hand:
                    return  # it has become shorter
                copy = _by_hand  # some file systems say 0 for what they do not do
                continue
            left -= count
            self._bytes += count
            self._look(self._so_far())


def _by_kernel(from_fd: int, to_fd: int, count: int) -> int:
    return os.copy_file_range(from_fd, to_fd, count)


def _by_hand(from_fd: int, to_fd: int, count: int) -> int:
    data = rest = memoryview(os.read(from_fd, min(count, MiB)))
    while rest:
        rest = rest[os.write(to_fd, rest) :]
    return len(data)


def _beneath(top: int, parts: Parts) -> int:
    """Open a folder below `top`, one step after the other: none of them may be a link by now."""
    fd = os.open(".", _FOLDER, dir_fd=top)
    for part in parts:
        try:
            below = os.open(part, _FOLDER, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _opened(source: Path) -> int:
    try:
        return os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError:
        raise InvalidRequest(f"{source} is not a folder", code="path_not_directory") from None
    except OSError as problem:
        raise InvalidRequest(f"{source} cannot be copied: {problem.strerror}", code="path_not_found") from None


def _made(target: Path) -> bool:
    """Make the target; say whether it was not there. Raises AlreadyExists, InvalidRequest, StorageError."""
    try:
        os.mkdir(target, 0o700)
        return True
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise InvalidRequest(f"there is no folder {target.parent}", code="path_not_found") from None
    except OSError as problem:
        raise _error(problem, target) from None
    try:
        with os.scandir(target) as found:
            if next(found, None) is None:
                return False
    except NotADirectoryError:
        raise InvalidRequest(f"{target} is not a folder", code="path_not_directory") from None
    except OSError as problem:
        raise _error(problem, target) from None
    raise AlreadyExists(
        f"{target} has something in it", code="folder_not_empty", hint="give a folder that is empty, or is not there"
    )


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _identity_of(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _too_large(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"the folder is too large to be copied: {what}",
        code="project_too_large",
        hint="fork without copy_project, and copy what is needed",
    )


def _error(problem: OSError, target: Path) -> ProcessionError:
    name = problem.filename
    what = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes) else ""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{target}: there is no room for the copy")
    return StorageError(f"the folder cannot be copied to {target}: {what}{problem.strerror}", code="copy_failed")
