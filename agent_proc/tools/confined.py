r"""Files beneath a project's folder, opened by descriptor along every component: nothing outside is ever opened.

    parts --openat2(RESOLVE_BENEATH)--> descriptor           the kernel resolves; a race cannot lead it out
      \--(no such call, or a link to judge)--> by hand      one component at a time, O_NOFOLLOW, links read and resolved here

It is *not* where a path's text is judged (`record/tool_path.py` gives the parts, without `..`), and not a sandbox: a
command that a tool starts is held by other means.

Rules: nothing is looked at and then opened by its name, unless opening it again cannot follow a link; links inside are
followed, absolute ones that name the project's own folder too; pipes, sockets and devices are never opened, only looked at
(O_PATH); what a link makes of a protected file is as protected. What is refused is an InvalidRequest.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import Final, NamedTuple, Self

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.agent.record.tool_path import is_protected
from procession.agent_proc.tools import openat2
from procession.agent_proc.tools.refusals import about, refusals, refuse
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import InvalidRequest

FILE_BYTES_MAX: Final = 16 * MiB
"""Of a file that is read, edited or written whole: no source is so large, and a worker holds some copies of it."""
LINKS_MAX: Final = 40
"""Links on the way of one path; the kernel follows no more."""
TRIES_MAX: Final = 8
"""Of openat2, when something else renames folders all the time; by hand it is then resolved anyway."""
_PART_BYTES: Final = 1 * MiB

_ASK_BY_HAND: Final = frozenset(
    {errno.EXDEV, errno.ELOOP, errno.ENOSYS, errno.EPERM, errno.EAGAIN, errno.EINVAL, errno.E2BIG}
)
"""It leads out, or is a link that the kernel does not judge as we do; there is no openat2; or it met a race too often."""
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SCRATCH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = Sequence[str]


class _Place(NamedTuple):
    """Where a path ends, no link left in it: an open folder, the names down to it, and the name in it (`.`: itself)."""

    dir_fd: int
    names: tuple[str, ...]
    name: str


class Root:
    """The project's folder, held open for one run. Use as a context manager."""

    __slots__ = ("fd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        with refusals(path):
            self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    # -- opening -----------------------------------------------------------------------------------------------------

    def open_beneath(self, parts: Parts, flags: int) -> int:
        """Open what exists there, close-on-exec. Without O_PATH or O_DIRECTORY, only for what is known to be a file."""
        path = os.fsencode("/".join(parts) or ".")
        with refusals(_written(parts)):
            for _ in range(TRIES_MAX):
                try:
                    return openat2.open_beneath(self.fd, path, flags)
                except OSError as error:
                    if error.errno not in _ASK_BY_HAND:
                        raise
                    if error.errno != errno.EAGAIN:
                        break
            return self._open_by_hand(parts, flags)

    def open_file(self, parts: Parts) -> int:
        """Open a regular file to read it. Raises InvalidRequest: is_a_directory, not_a_file, protected_settings_file, …"""
        path = _written(parts)
        seen = self.open_beneath(parts, os.O_PATH)
        try:
            with refusals(path):
                return reopen(seen, path)
        finally:
            os.close(seen)

    def stat(self, parts: Parts) -> os.stat_result:
        """Look at what is there, links followed."""
        fd = self.open_beneath(parts, os.O_PATH)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def exists(self, parts: Parts) -> bool:
        """Say whether anything is there; a link that leads nowhere is nothing."""
        try:
            self.stat(parts)
        except InvalidRequest as refusal:
            if refusal.code != "file_not_found":
                raise
            return False
        return True

    def open_folder(self, parts: Parts) -> int:
        """Open a folder to list it, or to work in."""
        return self.open_beneath(parts, os.O_RDONLY | os.O_DIRECTORY)

    def read(self, parts: Parts) -> bytes:
        """Read a file whole. Raises InvalidRequest, code file_too_large, before anything of a large one is read."""
        fd = self.open_file(parts)
        try:
            with refusals(_written(parts)):
                data = read_at_most(fd, FILE_BYTES_MAX)
        finally:
            os.close(fd)
        if data is None:
            raise refuse(
                "file_too_large",
                f"{shown(_written(parts))} has more than {FILE_BYTES_MAX} bytes",
                "grep finds lines in it; exec can show a part, as in `tail -n 100`",
            )
        return data

    # -- changing ----------------------------------------------------------------------------------------------------

    def make_parents(self, parts: Parts) -> None:
        """Make the folders above a place that are not there."""
        for depth in range(len(parts) - 1):
            folder = self.open_beneath(parts[:depth], os.O_PATH | os.O_DIRECTORY)
            try:
                with refusals(_written(parts[: depth + 1])):
                    os.mkdir(parts[depth], dir_fd=folder)
            except FileExistsError:
                pass
            finally:
                os.close(folder)

    def replace(self, parts: Parts, data: bytes) -> None:
        """Put `data` in the place of a file, or make one: whole or not at all for whoever reads it meanwhile.

        The mode stays, and the owner where that is allowed. A link inside the project stays a link: what it leads to is
        replaced. A hard link is parted from its other names. Not synced: a power loss may bring the old file back.
        """
        with refusals(_written(parts)):
            place = self._walk(parts)
            try:
                if place.name == ".":
                    raise about(errno.EISDIR, _written(parts))
                _refuse_protected((*_components(self.path), *place.names, place.name))
                _replace(place, data)
            finally:
                os.close(place.dir_fd)

    # -- by hand -----------------------------------------------------------------------------------------------------

    def _open_by_hand(self, parts: Parts, flags: int) -> int:
        place = self._walk(parts)
        try:
            return os.open(place.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.dir_fd)
        finally:
            os.close(place.dir_fd)

    def _walk(self, parts: Parts) -> _Place:
        """Resolve every link on the way, and open the folder of what is left. The caller closes it; raises OSError too.

        Each folder is opened from the one before it and never through a link, so whatever is renamed meanwhile, what
        is opened lies where the path's links inside the project lead.
        """
        names: list[str] = []
        todo = list(reversed(parts))
        links = 0
        fd = os.dup(self.fd)
        try:
            while todo:
                part = todo.pop()
                if part == "..":  # of a link: the path itself has none
                    if not names:
                        raise _leads_out(parts)
                    names.pop()
                    fd = _instead(fd, self._descend, names)
                    continue
                target = _link_target(part, fd)
                if target is None:
                    if not todo:
                        return _Place(fd, tuple(names), part)
                    fd = _instead(fd, _open_below, part, fd)
                    names.append(part)
                    continue
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if target.startswith("/"):
                    todo += reversed(self._inside(target, parts))
                    names.clear()
                    fd = _instead(fd, self._descend, names)
                else:
                    todo += reversed(_components(target))
            return _Place(fd, tuple(names), ".")
        except BaseException:
            os.close(fd)
            raise

    def _descend(self, names: Parts) -> int:
        """Open a folder by names of which none is a link."""
        fd = os.dup(self.fd)
        try:
            for name in names:
                fd = _instead(fd, _open_below, name, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _inside(self, target: str, parts: Parts) -> tuple[str, ...]:
        """Return the components below the project of an absolute link's target, which may still have `..` in it."""
        components = _components(target)
        for base in (_components(self.path), _components(os.path.realpath(self.path))):  # text only: its folder is `fd`
            if components[: len(base)] == base:
                return components[len(base) :]
        raise _leads_out(parts)


def reopen(seen: int, path: str) -> int:
    """Open for reading the very thing that an O_PATH descriptor stands for, if it is a regular file; else refuse it.

    By that descriptor and no name, so a pipe that is put in its place is not opened, nor waited for.
    """
    mode = os.fstat(seen).st_mode
    if not S_ISREG(mode):
        raise about(errno.EISDIR if S_ISDIR(mode) else errno.ENXIO, path)
    itself = f"/proc/self/fd/{seen}"
    _refuse_protected(_components(os.readlink(itself)))
    return os.open(itself, os.O_RDONLY | os.O_CLOEXEC)


def read_at_most(fd: int, bytes_max: int) -> bytes | None:
    """Read a file to its end; None when it has more than `bytes_max`, told without reading it where its size says so."""
    if os.fstat(fd).st_size > bytes_max:
        return None
    read = bytearray()
    while part := os.read(fd, min(_PART_BYTES, bytes_max + 1 - len(read))):
        read += part
        if len(read) > bytes_max:  # it grew meanwhile, or is of a kind that does not know its size
            return None
    return bytes(read)


def _replace(place: _Place, data: bytes) -> None:
    """Write a scratch file beside the place and rename it there."""
    old = _old_file(place)
    scratch = f".procession-{os.urandom(8).hex()}.tmp"
    fd = os.open(scratch, _SCRATCH, 0o666 if old is None else 0o600, dir_fd=place.dir_fd)
    try:
        try:
            if old is not None:
                _take_after(fd, old)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.rename(scratch, place.name, src_dir_fd=place.dir_fd, dst_dir_fd=place.dir_fd)
    except BaseException:
        os.unlink(scratch, dir_fd=place.dir_fd)
        raise


def _old_file(place: _Place) -> os.stat_result | None:
    """Look at the file that will be replaced, None without one; refuse what this process might not write to."""
    try:
        found = os.stat(place.name, dir_fd=place.dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not S_ISREG(found.st_mode):
        raise about(errno.EISDIR if S_ISDIR(found.st_mode) else errno.ENXIO, place.name)
    os.close(os.open(place.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place.dir_fd))
    return found


def _take_after(fd: int, old: os.stat_result) -> None:
    """Give a new file the owner and the mode of an old one."""
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:  # of somebody else, who lets us write it: it is ours then, and can be read as before
            pass
    os.fchmod(fd, S_IMODE(old.st_mode))


def _instead(fd: int, opened: Callable[..., int], *args: object) -> int:
    """Return what is opened, and close the descriptor that it takes the place of."""
    new = opened(*args)
    os.close(fd)
    return new


def _open_below(name: str, dir_fd: int) -> int:
    return os.open(name, _FOLDER, dir_fd=dir_fd)


def _link_target(name: str, dir_fd: int) -> str | None:
    """Return what a link says, None for what is no link or not there."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _refuse_protected(components: tuple[str, ...]) -> None:
    if is_protected(components):
        raise refuse("protected_settings_file", "the path leads to settings that no tool may touch")


def _leads_out(parts: Parts) -> InvalidRequest:
    return refuse(
        "symlink_escapes_boundary",
        f"{shown(_written(parts))} leads out of the project through a link",
        "give a path inside the project",
    )


def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _written(parts: Parts) -> str:
    return "/".join(parts) or "."
