"""Where a host's callbacks run: an own thread over epoll, or the caller's asyncio loop. One port, two adapters.

    ThreadReactor   Host, Host.connect(): one daemon thread, started with the first host, ended by `close`
    LoopReactor     AsyncHost: callbacks run in the caller's loop, no thread is made

Callbacks are called one after the other in the reactor's thread and must not block; one that raises is handed to `on_error`
(one place turns the unexpected into an event). Timers are monotonic seconds. Descriptors are watched level-triggered; one
must be removed before it is closed. A callback is only ever called for what came after its own `add_reader`: a number that
was closed and given out again never brings its successor an old event.
`pause`, `resume`, `want_write`, `call_at` and `call_soon` may be called from any thread: that is how a waiting caller takes
over the reading of its session.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from procession.ipc.transport.timers import Callback, Timer, TimerHeap

if TYPE_CHECKING:
    import asyncio

__all__ = ["Callback", "LoopReactor", "OnError", "OnGap", "Reactor", "ThreadReactor", "Timer", "tell_surprise"]

OnError = Callable[[BaseException, str], None]
#: Told by how many seconds all timers were put back, since the process was gone for so long; before any of them is due again.
OnGap = Callable[[float], None]

#: Longest sleep of the loop: a bound on how late it may notice a clock or a wake-up that went wrong.
SLEEP_S_MAX: Final = 60.0
#: Callbacks handed over by other threads that may wait; above it the sender is told (law 7).
SOON_MAX: Final = 1_000_000
#: How long `close` waits for the callback that is running.
CLOSE_TIMEOUT_S: Final = 10.0


class Reactor(Protocol):
    """The port."""

    on_error: OnError | None
    on_gap: OnGap | None

    def now(self) -> float: ...
    def in_loop(self) -> bool: ...
    def add_reader(self, fd: int, callback: Callback) -> None: ...
    def pause(self, fd: int) -> None: ...
    def resume(self, fd: int) -> None: ...
    def want_write(self, fd: int, callback: Callback | None) -> None: ...
    def remove(self, fd: int) -> None: ...
    def call_at(self, when: float, callback: Callback) -> Timer: ...
    def call_soon(self, callback: Callback) -> None: ...
    def busy_since(self) -> float | None: ...
    def thread_id(self) -> int | None: ...
    def close(self) -> None: ...


def tell_surprise(reactor: Reactor, problem: BaseException, callback: Callable[..., object]) -> None:
    """Report what a callback raised: to `on_error`, else as an uncaught exception is reported; never raises itself."""
    label = getattr(callback, "__qualname__", None) or repr(callback)
    if reactor.on_error is not None:
        try:
            reactor.on_error(problem, label)
        except Exception as second:  # noqa: BLE001 - the reporter itself is broken: then as if there were none
            problem = second
        else:
            return
    sys.excepthook(type(problem), problem, problem.__traceback__)


class ThreadReactor:
    """An epoll loop in a daemon thread of its own."""

    def __init__(self, name: str = "procession-host") -> None:
        self.on_error: OnError | None = None
        self.on_gap: OnGap | None = None
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._paused: set[int] = set()
        self._fresh: set[int] = set()  # registered since the poll that is being handled began
        self._lock = threading.Lock()
        self._timers = TimerHeap()
        self._soon: deque[Callback] = deque()
        self._sleeping_until = 0.0
        self._busy_since: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    now = staticmethod(time.monotonic)

    def in_loop(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def thread_id(self) -> int | None:
        return self._thread.ident

    def busy_since(self) -> float | None:
        """When the callbacks now running began, None while the loop sleeps."""
        return self._busy_since

    # --- descriptors ----------------------------------------------------------------------------------------
    def add_reader(self, fd: int, callback: Callback) -> None:
        with self._lock:
            known = fd in self._readers or fd in self._writers
            self._readers[fd] = callback
            self._paused.discard(fd)
            self._apply(fd, known)

    def pause(self, fd: int) -> None:
        with self._lock:
            if fd in self._readers and fd not in self._paused:
                self._paused.add(fd)
                self._apply(fd, known=True)

    def resume(self, fd: int) -> None:
        with self._lock:
            if fd in self._paused:
                self._paused.discard(fd)
                self._apply(fd, known=True)

    def want_write(self, fd: int, callback: Callback | None) -> None:
        with self._lock:
            known = fd in self._readers or fd in self._writers
            if callback is None:
                if self._writers.pop(fd, None) is None:
                    return
            else:
                self._writers[fd] = callback
            self._apply(fd, known)

    def remove(self, fd: int) -> None:
        with self._lock:
            known = fd in self._readers or fd in self._writers
            self._readers.pop(fd, None)
            self._writers.pop(fd, None)
            self._paused.discard(fd)
            if known:
                self._apply(fd, known=True)

    def _apply(self, fd: int, known: bool) -> None:
        if self._closing:
            return
        if fd not in self._readers and fd not in self._writers:
            if known:
                self._epoll.unregister(fd)
            return
        events = 0 if fd in self._paused or fd not in self._readers else select.EPOLLIN
        if fd in self._writers:
            events |= select.EPOLLOUT
        if events == 0:
            events = select.EPOLLET  # a hang-up is always reported: edge-triggered it comes once, not in a busy loop
        if known:
            self._epoll.modify(fd, events)
        else:
            self._fresh.add(fd)
            self._epoll.register(fd, events)

    # --- timers and messages from other threads -------------------------------------------------------------
    def call_at(self, when: float, callback: Callback) -> Timer:
        with self._lock:
            timer = self._timers.add(when, callback)
            wake = when < self._sleeping_until
        if wake and not self.in_loop():
            self._rouse()
        return timer

    def call_soon(self, callback: Callback) -> None:
        if len(self._soon) >= SOON_MAX:
            raise RuntimeError("the host's loop is hopelessly behind")
        self._soon.append(callback)
        if self._sleeping_until and not self.in_loop():  # while it runs it looks by itself before it sleeps
            self._rouse()

    def _rouse(self) -> None:
        with self._lock:  # so that the number is never written to after it was closed and given to somebody else
            if self._wake >= 0:
                try:
                    os.eventfd_write(self._wake, 1)
                except BlockingIOError:
                    pass  # the counter is full: a wake-up is due anyway

    # --- the loop -------------------------------------------------------------------------------------------
    def _run(self) -> None:
        poll = self._epoll.poll
        while not self._closing:
            timeout = self._timeout()
            self._fresh.clear()
            events = poll(timeout)
            self._sleeping_until = 0.0
            self._busy_since = time.monotonic()
            self._handle(events)
            self._busy_since = None
        self._close_descriptors()

    def _timeout(self) -> float:
        if self._soon or self._closing:
            return 0.0
        with self._lock:
            until = time.monotonic() + SLEEP_S_MAX
            nearest = self._timers.nearest()
            if nearest is not None and nearest < until:
                until = nearest
            self._sleeping_until = until
        return 0.0 if self._soon or self._closing else max(0.0, until - time.monotonic())

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, mask in events:
            if fd == self._wake:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass
                continue
            if fd in self._fresh:  # the event is of the descriptor that had this number before
                continue
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and fd not in self._paused:
                reader = self._readers.get(fd)
                if reader is not None:
                    self._guard(reader)
            if mask & (select.EPOLLOUT | select.EPOLLERR) and fd not in self._fresh:
                writer = self._writers.get(fd)
                if writer is not None:
                    self._guard(writer)
        for _ in range(len(self._soon)):
            self._guard(self._soon.popleft())
        self._run_due()

    def _run_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            lost_s = self._timers.put_back(now)
            due = self._timers.take_due(now)
        if lost_s and (on_gap := self.on_gap) is not None:
            self._guard(lambda: on_gap(lost_s))
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guard(callback)

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except BaseException as problem:  # noqa: BLE001 - the one place where a callback's surprise becomes an event
            tell_surprise(self, problem, callback)

    def close(self) -> None:
        """End the loop and its thread (bounded by the callback it is in)."""
        self._closing = True
        self._rouse()
        if not self.in_loop():
            self._thread.join(timeout=CLOSE_TIMEOUT_S)

    def _close_descriptors(self) -> None:
        with self._lock:
            wake, self._wake = self._wake, -1
        self._epoll.close()
        if wake >= 0:
            os.close(wake)

    def forget_after_fork(self) -> None:
        """Close this process's copies of the loop's descriptors; its thread does not exist here."""
        self._closing = True
        self._lock = threading.Lock()  # whoever held it does not exist here either
        self._close_descriptors()

    def __repr__(self) -> str:
        state = "closed" if self._closing else f"readers={len(self._readers)} timers={len(self._timers)}"
        return f"<ThreadReactor {self._thread.name} {state}>"


class LoopReactor:
    """The caller's asyncio loop as a reactor. `add_reader`, `remove` and `close` belong to the loop's thread.

    What other threads ask for is written down under the lock and applied by the loop, in order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.on_error: OnError | None = None
        self.on_gap: OnGap | None = None
        self._loop = loop
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._paused: set[int] = set()
        self._reading: set[int] = set()  # what the loop has been told
        self._awaiting_room: set[int] = set()
        self._timers = TimerHeap()
        self._armed: asyncio.TimerHandle | None = None
        self._armed_at = float("inf")
        self._beat = time.monotonic()
        self._closed = False
        self._heartbeat()

    now = staticmethod(time.monotonic)

    #: The lag of a loop that is not ours shows in a late heartbeat.
    BEAT_S: Final = 0.05

    def _heartbeat(self) -> None:
        self._beat = time.monotonic()
        if not self._closed:
            self._beating = self._loop.call_later(self.BEAT_S, self._heartbeat)

    def busy_since(self) -> float | None:
        late = time.monotonic() - self._beat - self.BEAT_S
        return self._beat + self.BEAT_S if late > 0 and not self._closed else None

    def in_loop(self) -> bool:
        return threading.get_ident() == self._thread

    def thread_id(self) -> int | None:
        return self._thread

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as problem:  # as in ThreadReactor
            if self.on_error is None:
                raise  # the loop has a place of its own for it
            tell_surprise(self, problem, callback)

    # --- descriptors ----------------------------------------------------------------------------------------
    def add_reader(self, fd: int, callback: Callback) -> None:
        if fd in self._reading:  # a number that another thread removed, closed and given out again
            self._reading.discard(fd)
            self._loop.remove_reader(fd)
        self._readers[fd] = callback
        self._paused.discard(fd)
        self._apply(fd)

    def pause(self, fd: int) -> None:
        if fd in self._readers:
            self._paused.add(fd)
            self._apply(fd)

    def resume(self, fd: int) -> None:
        if fd in self._paused:
            self._paused.discard(fd)
            self._apply(fd)

    def want_write(self, fd: int, callback: Callback | None) -> None:
        if callback is not None:
            self._writers[fd] = callback
        elif self._writers.pop(fd, None) is None:
            return
        self._apply(fd)

    def remove(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._paused.discard(fd)
        self._apply(fd)

    def _apply(self, fd: int) -> None:
        """Tell the loop what is wanted by now; state and not steps, so a late or doubled turn does no harm."""
        if not self.in_loop():
            self._hand_over(lambda: self._apply(fd))
            return
        reads = fd in self._readers and fd not in self._paused
        if reads != (fd in self._reading):
            if reads:
                self._reading.add(fd)
                self._loop.add_reader(fd, self._readable, fd)
            else:
                self._reading.discard(fd)
                self._loop.remove_reader(fd)
        writes = fd in self._writers
        if writes != (fd in self._awaiting_room):
            if writes:
                self._awaiting_room.add(fd)
                self._loop.add_writer(fd, self._writable, fd)
            else:
                self._awaiting_room.discard(fd)
                self._loop.remove_writer(fd)

    def _readable(self, fd: int) -> None:
        callback = self._readers.get(fd)
        if callback is not None and fd not in self._paused:
            self._guard(callback)

    def _writable(self, fd: int) -> None:
        callback = self._writers.get(fd)
        if callback is not None:
            self._guard(callback)

    # --- timers and messages from other threads -------------------------------------------------------------
    def _hand_over(self, callback: Callback) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not (self._closed or self._loop.is_closed()):
                raise

    def call_at(self, when: float, callback: Callback) -> Timer:
        with self._lock:
            timer = self._timers.add(when, callback)
            arm = when < self._armed_at
        if arm:
            if self.in_loop():
                self._arm()
            else:
                self._hand_over(self._arm)
        return timer

    def _arm(self) -> None:
        """Have the loop call at the next timer: one handle of its for all of ours."""
        with self._lock:
            nearest = self._timers.nearest()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self._armed_at = float("inf")
        if nearest is not None and not self._closed:
            self._armed_at = nearest
            self._armed = self._loop.call_later(max(0.0, nearest - time.monotonic()), self._run_due)

    def _run_due(self) -> None:
        self._armed = None
        self._armed_at = float("-inf")  # what is added meanwhile is armed below
        try:
            now = time.monotonic()
            with self._lock:
                lost_s = self._timers.put_back(now)
                due = self._timers.take_due(now)
            if lost_s and (on_gap := self.on_gap) is not None:
                self._guard(lambda: on_gap(lost_s))
            for timer in due:
                callback, timer.callback = timer.callback, None
                if callback is not None:
                    self._guard(callback)
        finally:
            self._arm()

    def call_soon(self, callback: Callback) -> None:
        if not self.in_loop():
            self._hand_over(lambda: self._guard(callback))
        elif not self._loop.is_closed():
            self._loop.call_soon(self._guard, callback)

    def close(self) -> None:
        """Take everything of ours out of the loop; the loop itself is the caller's."""
        self._closed = True
        self._beating.cancel()
        with self._lock:
            self._timers.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        for fd in {*self._readers, *self._writers, *self._reading, *self._awaiting_room}:
            self.remove(fd)

    def forget_after_fork(self) -> None:
        """Nothing to close: the loop's descriptors are not ours."""
        self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"readers={len(self._readers)} timers={len(self._timers)}"
        return f"<LoopReactor {state}>"
