"""Remove a folder and everything in it, however it was left: without following a link, without a path that can be swapped.

Every step goes through the descriptor of the folder above (openat, unlinkat), so that code which renames folders or
plants symlinks meanwhile can at most keep its own files. Folders without permissions are given them; trees deeper than
any sane one are taken apart from the top, so that neither the stack nor the descriptors run out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import count
from typing import Final

#: Folders open at once; a deeper one is first moved up to the top of the tree.
_DEPTH_MAX: Final = 32
#: Rounds over a tree that something else still writes to.
_ROUNDS_MAX: Final = 1_000


def remove_tree(name: str, dir_fd: int) -> bool:
    """Remove `name` in the folder `dir_fd`; say whether nothing of it is left. Raises nothing."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=dir_fd).st_mode):
            os.unlink(name, dir_fd=dir_fd)
            return True
        top = _open(name, dir_fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        numbers = count()
        for _ in range(_ROUNDS_MAX):
            if not _empty(top, top, 0, numbers):
                break
        os.rmdir(name, dir_fd=dir_fd)
    except OSError:
        return False
    finally:
        os.close(top)
    return True


def _open(name: str, dir_fd: int) -> int:
    """Open a folder for reading, giving ourselves the permission when it has none."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(name, os.O_PATH | flags, dir_fd=dir_fd)
    try:
        if os.fstat(place).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)  # the folder itself, whatever its name is by now
        return os.open(".", os.O_RDONLY | flags, dir_fd=place)
    finally:
        os.close(place)


def _empty(fd: int, top: int, depth: int, numbers: Iterator[int]) -> bool:
    """Remove what is in a folder; say whether something too deep was moved to the top for another round."""
    moved = False
    with os.scandir(fd) as found:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    for name, is_folder in entries:
        try:
            if not is_folder:
                os.unlink(name, dir_fd=fd)
            elif depth >= _DEPTH_MAX:
                os.rename(name, f".deep-{next(numbers)}", src_dir_fd=fd, dst_dir_fd=top)
                moved = True
            else:
                below = _open(name, fd)
                try:
                    moved |= _empty(below, top, depth + 1, numbers)
                finally:
                    os.close(below)
                os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass
    return moved
