"""One locked channel: a connection, its outbound queue and its readers under one lock; the host's and the client's end.

    writing   whoever holds the lock writes; what a full pipe refuses stays queued until the reactor says it is writable
    reading   leader and follower: the reactor leads by default. A caller that waits becomes the leader: it polls with its own
              deadline, completes everybody's replies, and hands the role back; so its call crosses no loop and no thread.
              Callers that wait while another one leads follow: they sleep until their own reply, or until the role is free.

What a message means is not decided here: `dispatch` is called with the lock held and returns what is to be run without it.
Rules: both ends are non-blocking; nothing is ever read without the lock; whoever leaves `wait` hands the role on.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from procession.ipc.core.bounds import READ_BYTES
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.connection import Connection
from procession.ipc.transport.reactor import Reactor

After = Sequence[Callable[[], None]]
#: Handles messages with the lock held; returns callbacks to run after it is released (None for none).
Dispatch = Callable[[list[Any]], After | None]
#: Told once when the channel is unusable: a breach of the other side, or a reason as text.
Lost = Callable[["ProtocolBreach | str"], None]

_monotonic = time.monotonic
_ident = threading.get_ident


class Waiter:
    """One call somebody waits for. `outcome` is set once, with the lock held; `items` are what it streamed meanwhile."""

    __slots__ = ("gate", "items", "outcome")

    def __init__(self) -> None:
        self.outcome: Any = None
        self.items: deque[Any] | None = None
        self.gate: threading.Lock | None = None


class Channel:
    """See the module's text."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        connection: Connection,
        reactor: Reactor,
        dispatch: Dispatch,
        lost: Lost,
        lock: threading.Lock | None = None,
    ) -> None:
        self.lock = lock or threading.Lock()  # the owner's, when the channel is part of a larger value
        self.connection = connection
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.closed = False
        self._reactor = reactor
        self._dispatch = dispatch
        self._lost = lost
        self._unsent = b""
        self._writing = False  # the reactor watches for room
        self._flush_due = False
        self._leader: Waiter | None = None
        self._leader_thread = 0
        self._followers: deque[Waiter] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_left = -1
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    def start(self) -> None:
        """Let the reactor read."""
        self._reactor.add_reader(self.read_fd, self._readable)

    # --- writing --------------------------------------------------------------------------------------------
    def flush(self) -> None:
        """Write what may be written. The lock is held."""
        if self.closed:
            return
        connection = self.connection
        data = self._unsent or connection.take()
        while data:
            try:
                count = os.write(self.write_fd, data)
            except BlockingIOError:
                count = 0
            except OSError:  # the reader is gone; its end is told by its keeper (law 8), so nothing is said here
                self._unsent = b""
                self._watch_writable(False)
                return
            if count < len(data):
                self._unsent = data[count:]
                self._watch_writable(True)
                return
            self._unsent = b""
            data = connection.take() if connection.wants_write else b""
        if self._writing:
            self._watch_writable(False)

    def flush_soon(self) -> None:
        """Write with the reactor's next turn, once for all that is queued by then. The lock is held, by the loop's thread."""
        if not self._flush_due:
            self._flush_due = True
            self._reactor.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        with self.lock:
            self._flush_due = False
            self.flush()

    def _watch_writable(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            self._reactor.want_write(self.write_fd, self._writable if wanted else None)

    def _writable(self) -> None:
        with self.lock:
            self.flush()

    @property
    def unsent_bytes(self) -> int:
        """Bytes queued on this side."""
        return len(self._unsent) + self.connection.queued_bytes

    # --- reading --------------------------------------------------------------------------------------------
    def _readable(self) -> None:
        """The reactor's turn, unless somebody has taken the lead since it looked."""
        with self.lock:
            if self._leader is not None or self.closed:
                return
            after, lost = self._read()
        self._settle(after, lost)

    def _read(self) -> tuple[After | None, ProtocolBreach | str | None]:
        """Read once and dispatch. The lock is held."""
        try:
            data = os.read(self.read_fd, READ_BYTES)
        except BlockingIOError:
            return None, None
        except OSError as problem:
            return None, str(problem)
        if not data:
            return None, "end of file"
        try:
            messages = self.connection.feed(data)
            after = self._dispatch(messages) if messages else None
        except ProtocolBreach as breach:
            return None, breach
        if self.connection.wants_write and not self._writing:
            self.flush()
        return after, None

    def _settle(self, after: After | None, lost: ProtocolBreach | str | None) -> None:
        if after:
            for callback in after:
                callback()
        if lost is not None:
            self.stop_reading()
            self._lost(lost)

    def stop_reading(self) -> None:
        """Read no more; callers that wait go on waiting for their outcome from elsewhere."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self._reactor.remove(self.read_fd)
            if self._writing:
                self._watch_writable(False)
            self._wake_leader()

    def drain(self, rounds: int) -> None:
        """Read what is still in the pipe of an end that is over, at most `rounds` reads (the reactor's thread)."""
        for _ in range(rounds):
            with self.lock:
                if self.closed:
                    return
                after, lost = self._read()
            if after:
                for callback in after:
                    callback()
            if lost is not None:
                self.stop_reading()
                if isinstance(lost, ProtocolBreach):
                    self._lost(lost)
                return

    # --- waiting --------------------------------------------------------------------------------------------
    def finish(self, waiter: Waiter, outcome: Any) -> None:
        """Give a waiter its outcome and wake it. The lock is held; a second outcome is a bug."""
        assert waiter.outcome is None
        waiter.outcome = outcome
        self.wake(waiter)

    def wake(self, waiter: Waiter) -> None:
        """Make a waiter look: it has an outcome, or something in `items`. The lock is held."""
        gate = waiter.gate
        if gate is not None:
            waiter.gate = None
            gate.release()
        elif waiter is self._leader and self._leader_thread != _ident():
            self._wake_leader()

    def _wake_leader(self) -> None:
        if self._leader is not None:
            os.eventfd_write(self._wake, 1)

    def wait(self, waiter: Waiter, until: float) -> None:
        """Wait until the waiter has an outcome or an item, or monotonic time `until` has come."""
        while True:
            with self.lock:
                if waiter.outcome is not None or waiter.items:
                    return
                lead = self._leader is None and not self.closed
                if lead:
                    self._leader = waiter
                    self._leader_thread = _ident()
                else:
                    gate = waiter.gate = threading.Lock()
                    gate.acquire()
                    self._followers.append(waiter)
            if lead:
                self._lead(waiter, until)
            else:
                self._follow(waiter, gate, until)
            if waiter.outcome is not None or waiter.items or _monotonic() >= until:
                return

    def _lead(self, waiter: Waiter, until: float) -> None:
        try:
            self._reactor.pause(self.read_fd)
            while waiter.outcome is None and not waiter.items and not self.closed:
                left = until - _monotonic()
                if left <= 0:
                    return
                for fd, _ in self._poll.poll(left * 1000.0 + 0.5):
                    if fd == self._wake:
                        self._drain_wake()
                        continue
                    with self.lock:
                        if self.closed:
                            return
                        after, lost = self._read()
                    if after or lost is not None:
                        self._settle(after, lost)
        finally:
            self._hand_on(waiter)

    def _drain_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    def _follow(self, waiter: Waiter, gate: threading.Lock, until: float) -> None:
        try:
            gate.acquire(timeout=max(0.0, until - _monotonic()))
        finally:
            with self.lock:
                waiter.gate = None
                try:
                    self._followers.remove(waiter)
                except ValueError:
                    pass
            self._hand_on(waiter)

    def _hand_on(self, waiter: Waiter) -> None:
        """Leave the lead, if it is ours, to a follower that still waits, else to the reactor."""
        with self.lock:
            if self._leader is waiter:
                self._leader = None
                if self._wake_left >= 0:  # `close` left it to us: we were polling it
                    os.close(self._wake_left)
                    self._wake_left = -1
            if self._leader is not None:
                return
            while self._followers:
                follower = self._followers.popleft()
                if follower.gate is not None:
                    gate, follower.gate = follower.gate, None
                    gate.release()
                    return
            if not self.closed:
                self._reactor.resume(self.read_fd)

    # --- end ------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Stop reading and close the descriptors. The reactor's thread, or nobody else is left."""
        self.stop_reading()
        with self.lock:
            if self._wake < 0:
                return
            fds = {self.read_fd, self.write_fd}
            leading = self._leader is not None
            wake, self._wake = self._wake, -1
            if leading:
                self._wake_left = wake
        for fd in fds:
            os.close(fd)
        if not leading:
            os.close(wake)

    def forget_after_fork(self) -> None:
        """In a forked child: close this process's copies, touch nothing shared."""
        self.closed = True
        for fd in {self.read_fd, self.write_fd, self._wake}:
            try:
                os.close(fd)
            except OSError:
                pass
