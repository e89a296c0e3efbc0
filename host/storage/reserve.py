"""A file of 1 MiB that is there to be given up: when the disk is full, the host can still say so, and stop in order.

It is *not* room for records. Rule: while it is given up, nothing that grows is written; once it can be had again, there is room.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import StorageError

RESERVE_NAME: Final = "reserve"
RESERVE_BYTES: Final = 1 * MiB
"""Enough for the last state of every session, a checkpoint's growth and a log; little enough not to be missed."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """See the module's text. is_held: whether it is on disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE_NAME
        self.is_held = False

    def take(self) -> bool:
        """Have it, and say whether there was room. Raises StorageError for any other reason."""
        if self.is_held:
            return True
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError as problem:
            if problem.errno not in _NO_ROOM:
                raise StorageError(f"{self._path}: {problem.strerror}", code="storage_failed") from None
            self.give_up()
            return False
        self.is_held = True
        return True

    def give_up(self) -> None:
        """Let its room be used."""
        self.is_held = False
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # the disk that is full may be failing too: whoever writes next will hear of that
