"""Where a forked session finds its descriptors: numbers that the zygote chooses once, before it forks anything.

    host_pidfd, child_signals, | mail_r, mail_w, page, arena_in, arena_out, crash_w, ctl_r, status_w
    open for good              | free until a Fork brings them, and again once it was served

So a session is put together in the zygote, numbers and all, and its copies only go on with it. The kernel gives a packet's
descriptors the lowest free numbers, in order: these, since all below are taken. Where it does not, they are moved there.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

#: What comes with a Fork: mail_r, mail_w, page, arena_in, arena_out, crash_w, ctl_r, status_w.
FORK_FDS: Final = 8
_LASTING: Final = 2
_FD: Final = struct.Struct("i")
#: What recvmsg needs to take them.
FORK_FDS_BYTES: Final = FORK_FDS * _FD.size


def fds_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a packet."""
    return [fd for _, _, numbers in ancillary for (fd,) in _FD.iter_unpack(numbers)]


@dataclass(frozen=True, slots=True)
class Places:
    """The numbers, all one after the other from `host_pidfd` on."""

    host_pidfd: int
    child_signals: int
    mail_r: int
    mail_w: int
    page: int
    arena_in: int
    arena_out: int
    crash_w: int
    ctl_r: int
    status_w: int

    @classmethod
    def reserve(cls, host_pidfd: int, child_signals: int) -> Self:
        """Choose the numbers, fill what is free below them, and move these two there. Raises OSError."""
        found = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)]
        while len(found) < _LASTING + FORK_FDS or found[-1] - found[-_LASTING - FORK_FDS] != _LASTING + FORK_FDS - 1:
            found.append(fcntl.fcntl(found[0], fcntl.F_DUPFD_CLOEXEC, 0))
        places = cls(*found[-_LASTING - FORK_FDS :])
        os.dup2(host_pidfd, places.host_pidfd, inheritable=False)
        os.dup2(child_signals, places.child_signals, inheritable=False)
        os.closerange(places.mail_r, places.status_w + 1)
        return places

    @property
    def of_the_session(self) -> tuple[int, ...]:
        """What the session process keeps."""
        return tuple(range(self.host_pidfd, self.arena_out + 1))

    def take(self, fds: list[int]) -> None:
        """Put what a Fork brought in its places, and make `fds` say so. Raises OSError; `fds` are then still open."""
        wanted = range(self.mail_r, self.status_w + 1)
        if len(fds) != FORK_FDS:
            raise ValueError(f"{len(fds)} descriptors")
        if not all(map(int.__eq__, fds, wanted)):
            self._move(fds, wanted)

    def speak_there(self) -> None:
        """Make the crash pipe the standard output and error: what goes wrong from here on is told there."""
        os.dup2(self.crash_w, 1)
        os.dup2(self.crash_w, 2)

    def _move(self, fds: list[int], wanted: Sequence[int]) -> None:
        for at, fd in enumerate(fds):  # out of the way first: one may stand in another's place
            fds[at] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.status_w + 1)
            os.close(fd)
        for at, place in enumerate(wanted):
            os.dup2(fds[at], place, inheritable=False)
            os.close(fds[at])
            fds[at] = place
