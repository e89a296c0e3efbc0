"""The host's end of one keeper: its command pipe, its status pipe, its pidfd.

The keeper's two records are the truth about a session process: `Born` once, `Ended` once. A keeper that is gone without its
`Ended` is *lost*: what became of the session is then unknown, and said so. Signals go through the pidfd, never a pid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from procession.ipc.core import frames
from procession.ipc.core.bounds import READ_BYTES
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.messages import Born, Ended, decoder
from procession.ipc.transport.reactor import Reactor

_read = decoder("from_keeper")


class KeeperLink:
    """One keeper. `on_ended(record)` is called once in the reactor's thread; None means the keeper was lost."""

    def __init__(
        self,
        reactor: Reactor,
        ctl_w: int,
        status_r: int,
        on_born: Callable[[Born], None],
        on_ended: Callable[[Ended | None], None],
    ) -> None:
        self.pid = 0
        self.born: Born | None = None
        self.over = False
        self._reactor = reactor
        self._ctl_w = ctl_w
        self._status_r = status_r
        self._pidfd = -1
        self._on_born = on_born
        self._on_ended = on_ended
        self._decoder = frames.FrameDecoder()
        self._record: Ended | None = None
        reactor.add_reader(status_r, self._readable)

    def adopt(self, pid: int, pidfd: int) -> None:
        """Take over the keeper the zygote made."""
        self.pid = pid
        self._pidfd = pidfd
        if self.over:
            os.close(pidfd)
            self._pidfd = -1
        else:
            self._reactor.add_reader(pidfd, self._died)

    def command(self, letter: bytes) -> None:
        """Send T, K, A or I. A keeper that is gone needs none."""
        if not self.over:
            try:
                os.write(self._ctl_w, letter)
            except OSError:
                pass  # it is ending; its record or its loss is on the way

    def end_it(self) -> None:
        """End a keeper that does not do its work; its session dies with it, and what it leaves goes to the zygote."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except OSError:
                pass

    def _readable(self) -> None:
        try:
            data = os.read(self._status_r, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reactor.remove(self._status_r)
            self._finish(self._record)
            return
        try:
            for _, payload in self._decoder.feed(data):
                record = _read(payload)
                if isinstance(record, Born) and self.born is None:
                    self.born = record
                    self._on_born(record)
                elif isinstance(record, Ended) and self._record is None:
                    self._record = record
        except ProtocolBreach:  # a keeper is ours; nonsense from it means that it is not itself any more
            self.end_it()
            self._finish(None)
            return
        if self._record is not None:
            self._finish(self._record)

    def _died(self) -> None:
        """The pidfd is readable: the keeper is gone. Its record may still be in the pipe."""
        self._reactor.remove(self._pidfd)
        for _ in range(4):  # Born and Ended fit one read; a few more never hurt
            if self.over:
                return
            self._readable()
        self._finish(self._record)

    def _finish(self, record: Ended | None) -> None:
        if not self.over:
            self.over = True
            self.close()
            self._on_ended(record)

    def close(self) -> None:
        """Let go of the descriptors; the keeper takes EOF on its command pipe as an order to end its domain."""
        self.over = True
        for fd in (self._ctl_w, self._status_r, self._pidfd):
            if fd >= 0:
                self._reactor.remove(fd)
                os.close(fd)
        self._ctl_w = self._status_r = self._pidfd = -1

    def forget_after_fork(self) -> None:
        self.over = True
        for fd in (self._ctl_w, self._status_r, self._pidfd):
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    pass
