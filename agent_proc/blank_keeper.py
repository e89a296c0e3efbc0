"""A keeper forked ahead: it has done all but its session's fork, and waits for the descriptors.

    zygote --fork, while nothing else is to do--> blank keeper
    zygote --8 descriptors of the next Fork-----> blank keeper --fork--> session process; it is a keeper like any other now

It takes the keeper's own fork, a third of a start, out of the next one. It is *not* a hot spare: there is no session yet. A
burst of starts finds one blank at most, and the others are forked on request as ever.

Rules: it is nobody's keeper until it is handed over, and no one is told of its end before; it ends with the zygote.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable

from procession.agent_proc import sysapi
from procession.agent_proc.descriptors import FORK_FDS, FORK_FDS_BYTES, Places, fds_in

_ORDER = b"F"


class BlankKeeper:
    """One of them, as the zygote holds it."""

    def __init__(self, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._sock = sock

    @classmethod
    def fork(cls, places: Places, guard: Callable[[Callable[[], None]], None]) -> BlankKeeper:
        """Fork one; `guard(begin)` is the keeper's whole life there, and calls `begin` before it forks. Raises OSError."""
        opened: list[int] = []
        zygote_pid = os.getpid()
        try:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # Out of the places, which have to be the lowest free numbers.
            opened += [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, places.status_w + 1) for end in pair]
            for end in pair:
                end.close()
            sysapi.set_name("keeper blank")  # before the fork, so that it is never taken for anything else
            try:
                pid = sysapi.fork_plain()
                if pid == 0:
                    os.close(opened[0])
                    theirs = socket.socket(fileno=opened[1])
                    guard(lambda: _wait_for_order(theirs, places, zygote_pid))
            finally:
                sysapi.set_name("zygote")
            pidfd = os.pidfd_open(pid)
            opened.append(fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, places.status_w + 1))
            os.close(pidfd)
        except OSError:
            for fd in opened:  # one that was forked sees its socket end
                os.close(fd)
            raise
        os.close(opened[1])
        return cls(pid, opened[2], socket.socket(fileno=opened[0]))

    def hand_over(self, fds: list[int]) -> int:
        """Give it the descriptors of a Fork, and its pidfd to the caller. Raises OSError when it is dead; `end` it then."""
        socket.send_fds(self._sock, [_ORDER], fds)
        self._sock.close()
        return self.pidfd

    def end(self) -> None:
        """Let go of it: without its socket it ends; a stopped one is killed."""
        self._sock.close()
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.pidfd)


def _wait_for_order(sock: socket.socket, places: Places, zygote_pid: int) -> None:
    """Wait to be handed over, and put everything where a keeper's is; ends with the zygote."""
    sysapi.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != zygote_pid:
        os._exit(0)
    data, extra, _, _ = sock.recvmsg(len(_ORDER), socket.CMSG_SPACE(FORK_FDS_BYTES), socket.MSG_CMSG_CLOEXEC)
    fds = fds_in(extra)
    if data != _ORDER or len(fds) != FORK_FDS:
        os._exit(0)
    sysapi.set_pdeathsig(0)  # a keeper outlives its zygote for as long as it takes to end its session
    places.take(fds)
    places.speak_there()
