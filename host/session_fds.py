"""The descriptors of one incarnation: two mailbox pipes, the keeper's two, the crash pipe, status page and arenas.

The host makes them all; the session's ends are sent to the zygote and closed here. Nothing a session can pass back is ever
a descriptor (pipes carry bytes only). Memfds are sealed against a change of size, and the host reads them with pread only.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import Final

from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, PIPE_BYTES
from procession.ipc.core.status_page import PAGE_BYTES

#: Room for two payloads of the largest size at once; the memory is only there once it is written.
ARENA_BYTES: Final = 2 * PAYLOAD_BYTES_MAX
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def _memfd(name: str, size_bytes: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size_bytes)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


@dataclass
class SessionFds:
    """mail_w, mail_r: commands out, replies in. ctl_w, status_r: the keeper's. crash_r: the process's own output, raw.

    theirs: the session's ends of the pipes (mail_r, mail_w, ctl_r, status_w, crash_w), closed here once they are sent; page
    and arenas are both sides'.
    """

    mail_w: int
    mail_r: int
    ctl_w: int
    status_r: int
    crash_r: int
    page: int
    arena_in: int
    arena_out: int
    pipe_bytes: int
    theirs: list[int]

    @classmethod
    def make(cls) -> SessionFds:
        """Create all of them; raises OSError (EMFILE, ENFILE) and then keeps none."""
        opened: list[int] = []

        def pipe() -> tuple[int, int]:
            pair = os.pipe2(os.O_CLOEXEC)
            opened.extend(pair)
            return pair

        try:
            mail_in, mail_w = pipe()
            mail_r, mail_out = pipe()
            ctl_in, ctl_w = pipe()
            status_r, status_out = pipe()
            crash_r, crash_out = pipe()
            page = _memfd("procession-page", PAGE_BYTES)
            opened.append(page)
            arena_in = _memfd("procession-in", ARENA_BYTES)
            opened.append(arena_in)
            arena_out = _memfd("procession-out", ARENA_BYTES)
            opened.append(arena_out)
            theirs = [mail_in, mail_out, ctl_in, status_out, crash_out]
            for fd in (ctl_w, status_r, crash_r, mail_out):
                os.set_blocking(fd, False)
            pipe_bytes = int(fcntl.fcntl(mail_w, fcntl.F_GETPIPE_SZ)) or PIPE_BYTES
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        return cls(mail_w, mail_r, ctl_w, status_r, crash_r, page, arena_in, arena_out, pipe_bytes, theirs)
