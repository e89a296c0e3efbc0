"""Where a host's callbacks run: an own thread over epoll, or the caller's asyncio loop. One port, two adapters.

    ThreadReactor   Host, Host.connect(): one daemon thread, started with the first host, ended by `close`
    LoopReactor     AsyncHost: callbacks run in the caller's loop, no thread is made

Callbacks are called one after the other in the reactor's thread and must not block; one that raises is handed to `on_error`
(one place turns the unexpected into an event). Timers are monotonic seconds. Descriptors are watched level-triggered.
`pause`/`resume` may be called from any thread: that is how a waiting caller takes over the reading of its session.
"""

from __future__ import annotations

import heapq
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

Callback = Callable[[], None]
OnError = Callable[[BaseException, str], None]

#: Longest sleep of the loop: a bound on how late it may notice a clock or a wake-up that went wrong.
SLEEP_S_MAX: Final = 60.0
#: Callbacks handed over by other threads that may wait; above it the sender is told (law 7).
SOON_MAX: Final = 1_000_000


class Timer:
    """A callback at a time; `cancel()` is idempotent and thread-safe."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Reactor(Protocol):
    """The port."""

    on_error: OnError | None

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


def _label(callback: Callback) -> str:
    return getattr(callback, "__qualname__", None) or repr(callback)


class ThreadReactor:
    """An epoll loop in a daemon thread of its own."""

    def __init__(self, name: str = "procession-host") -> None:
        self.on_error: OnError | None = None
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._paused: set[int] = set()
        self._lock = threading.Lock()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
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
            self._epoll.register(fd, events)

    # --- timers and messages from other threads -------------------------------------------------------------
    def call_at(self, when: float, callback: Callback) -> Timer:
        timer = Timer(when, callback)
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), timer))
            wake = when < self._sleeping_until
        if wake and not self.in_loop():
            self._rouse()
        return timer

    def call_soon(self, callback: Callback) -> None:
        if len(self._soon) >= SOON_MAX:
            raise RuntimeError("the host's loop is hopelessly behind")
        self._soon.append(callback)
        if not self.in_loop():
            self._rouse()

    def _rouse(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except (BlockingIOError, OSError):
            pass  # the counter is full (a wake-up is due anyway), or the loop is gone

    # --- the loop -------------------------------------------------------------------------------------------
    def _run(self) -> None:
        poll = self._epoll.poll
        while not self._closing:
            timeout = self._timeout()
            events = poll(timeout)
            self._sleeping_until = 0.0
            self._busy_since = time.monotonic()
            self._handle(events)
            self._busy_since = None
        self._close_descriptors()

    def _timeout(self) -> float:
        if self._soon:
            return 0.0
        with self._lock:
            timers = self._timers
            while timers and timers[0][2].callback is None:
                heapq.heappop(timers)
            until = time.monotonic() + SLEEP_S_MAX
            if timers:
                until = min(until, timers[0][0])
            self._sleeping_until = until
        return 0.0 if self._soon else max(0.0, until - time.monotonic())

    def _handle(self, events: list[tuple[int, int]]) -> None:
        for fd, mask in events:
            if fd == self._wake:
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass
                continue
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and fd not in self._paused:
                reader = self._readers.get(fd)
                if reader is not None:
                    self._guard(reader)
            if mask & (select.EPOLLOUT | select.EPOLLERR):
                writer = self._writers.get(fd)
                if writer is not None:
                    self._guard(writer)
        for _ in range(len(self._soon)):
            self._guard(self._soon.popleft())
        self._run_due()

    def _run_due(self) -> None:
        now = time.monotonic()
        due: list[Timer] = []
        with self._lock:
            while self._timers and self._timers[0][0] <= now:
                due.append(heapq.heappop(self._timers)[2])
        for timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guard(callback)

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as problem:  # noqa: BLE001 - the one place where a callback's surprise becomes an event
            report = self.on_error
            if report is None:
                raise
            report(problem, _label(callback))

    def close(self) -> None:
        """End the loop and its thread (bounded by the callback it is in)."""
        self._closing = True
        self._rouse()
        if not self.in_loop():
            self._thread.join(timeout=10.0)

    def _close_descriptors(self) -> None:
        self._epoll.close()
        os.close(self._wake)

    def forget_after_fork(self) -> None:
        """Close this process's copies of the loop's descriptors; its thread does not exist here."""
        self._closing = True
        self._close_descriptors()


class LoopReactor:
    """The caller's asyncio loop as a reactor. Everything but `call_soon` belongs to the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.on_error: OnError | None = None
        self._loop = loop
        self._thread = threading.get_ident()
        self._readers: dict[int, Callback] = {}
        self._writers: set[int] = set()
        self._beat = time.monotonic()
        self._closed = False
        self._timers: set[asyncio.TimerHandle] = set()
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

    def _guarded(self, callback: Callback) -> Callback:
        def run() -> None:
            try:
                callback()
            except Exception as problem:  # noqa: BLE001 - as in ThreadReactor
                if self.on_error is None:
                    raise
                self.on_error(problem, _label(callback))

        return run

    def add_reader(self, fd: int, callback: Callback) -> None:
        self._readers[fd] = self._guarded(callback)
        self._loop.add_reader(fd, self._readers[fd])

    def pause(self, fd: int) -> None:
        if fd in self._readers:
            self._loop.remove_reader(fd)

    def resume(self, fd: int) -> None:
        if fd in self._readers:
            self._loop.add_reader(fd, self._readers[fd])

    def want_write(self, fd: int, callback: Callback | None) -> None:
        if callback is not None:
            self._writers.add(fd)
            self._loop.add_writer(fd, self._guarded(callback))
        elif fd in self._writers:
            self._writers.discard(fd)
            self._loop.remove_writer(fd)

    def remove(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            self._loop.remove_reader(fd)
        if fd in self._writers:
            self._writers.discard(fd)
            self._loop.remove_writer(fd)

    def call_at(self, when: float, callback: Callback) -> Timer:
        timer = Timer(when, callback)

        def fire() -> None:
            self._timers.discard(handle)
            due, timer.callback = timer.callback, None
            if due is not None:
                self._guarded(due)()

        handle = self._loop.call_later(max(0.0, when - time.monotonic()), fire)
        self._timers.add(handle)
        return timer

    def call_soon(self, callback: Callback) -> None:
        if self.in_loop():
            self._loop.call_soon(self._guarded(callback))
        else:
            self._loop.call_soon_threadsafe(self._guarded(callback))

    def close(self) -> None:
        """Take everything of ours out of the loop; the loop itself is the caller's."""
        self._closed = True
        self._beating.cancel()
        for handle in self._timers:
            handle.cancel()
        self._timers.clear()
        for fd in [*self._readers, *self._writers]:
            self.remove(fd)

    def forget_after_fork(self) -> None:
        """Nothing to close: the loop's descriptors are not ours."""
        self._closed = True
