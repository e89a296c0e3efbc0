"""A few descriptors kept open for when there are no others: so that a host can still let a client in, answer, log, and stop.

    full ──lend──▶ one less open, for whoever needs it now ──timer, once there are free ones──▶ full

It is *not* a limit, and starts of sessions get nothing of it: they are refused as `StartFailed(resources)`, and sessions that
run go on (R-42). Rule: what was lent is taken back by opening others, not by closing the borrower's.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Final

from procession.ipc.transport.reactor import Reactor, Timer

#: Four programs at two each, which look what is wrong and stop the host, and what it opens itself meanwhile, a file at a time.
RESERVED_FDS: Final = 10
#: While some are lent: how often it is looked whether there are free ones again.
_LOOK_S: Final = 0.25
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class FdReserve:
    """See the module's text; any thread."""

    def __init__(self, reactor: Reactor, count: int = RESERVED_FDS) -> None:
        self._reactor = reactor
        self._count = count
        self._lock = threading.Lock()
        self._fds: list[int] = []
        self._timer: Timer | None = None
        self._closed = False
        self._fill()

    @property
    def left(self) -> int:
        """How many can be lent."""
        return len(self._fds)

    def lend_for(self, problem: OSError) -> bool:
        """Close one, if that is what was missing; say whether it is worth trying again."""
        with self._lock:
            if problem.errno not in _NO_DESCRIPTORS or not self._fds:
                return False
            os.close(self._fds.pop())
            if self._timer is None and not self._closed:
                self._timer = self._reactor.call_at(self._reactor.now() + _LOOK_S, self._look)
            return True

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            if not self._closed and not self._fill():
                self._timer = self._reactor.call_at(self._reactor.now() + _LOOK_S, self._look)

    def _fill(self) -> bool:
        """Open what is missing; say whether it is full."""
        try:
            while len(self._fds) < self._count:
                self._fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give all of them to whoever needs some now, for good: the host stops. Idempotent."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            while self._fds:
                os.close(self._fds.pop())

    def forget_after_fork(self) -> None:
        """In a forked child: close the copies."""
        self._lock = threading.Lock()  # whoever held it does not exist here
        self._closed = True
        while self._fds:
            os.close(self._fds.pop())
