"""The session's loop: one epoll over descriptors, one heap of timers. No threads, no asyncio.

An epoll, because a session with a few tools under way watches a dozen descriptors, and answers hundreds of calls meanwhile. It is
made when something is first watched: not in the zygote, whose copies would all share it, nor in a session that only answers.

It is *not* the mailbox (session.py) and decides nothing. Handlers run one after the other and must not block; each reads
a bounded amount a turn, so that the mailbox is looked at between two floods.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable
from typing import Final

from procession.ipc.core import gap

READABLE: Final = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT | select.EPOLLERR
#: A turn never sleeps longer: the milliseconds must not overflow, and nothing is lost by one turn a minute.
_SLEEP_S_MAX: Final = 60.0

monotonic: Final = time.monotonic


class Timer:
    """One call that is due at a time; `cancel` is safe at any moment, and twice."""

    __slots__ = ("_loop", "action", "at")

    def __init__(self, loop: Loop, at: float, action: Callable[[], None]) -> None:
        self._loop = loop
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Make sure that it does not happen."""
        if self.action is not None:
            self.action = None
            self._loop.timer_gone(self)


class Loop:
    """See the module's text."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._registered: set[int] = set()
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._expected: list[int] = []
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0
        self._timers = 0
        self._deadlines: set[Timer] = set()
        self._looked_at = 0.0
        self.watched = 0
        """How many handlers there are."""

    def expect(self, fd: int, handler: Callable[[], None]) -> None:
        """Do as `watch`, for a descriptor that will be open when the loop first turns."""
        self._readers[fd] = handler
        self._expected.append(fd)
        self.watched = len(self._readers) + len(self._writers)

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is readable or over."""
        self._readers[fd] = handler
        self._register(fd)

    def watch_writable(self, fd: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` can be written."""
        self._writers[fd] = handler
        self._register(fd)

    def unwatch(self, fd: int) -> None:
        """Stop calling the reading handler of `fd`, if there is one."""
        if self._readers.pop(fd, None) is not None:
            self._register(fd)

    def unwatch_writable(self, fd: int) -> None:
        """Stop calling the writing handler of `fd`, if there is one."""
        if self._writers.pop(fd, None) is not None:
            self._register(fd)

    def _register(self, fd: int) -> None:
        self.watched = len(self._readers) + len(self._writers)
        epoll = self._epoll
        if epoll is None:
            epoll = self._epoll = select.epoll()
        events = (select.EPOLLIN if fd in self._readers else 0) | (select.EPOLLOUT if fd in self._writers else 0)
        if not events:
            self._registered.discard(fd)
            epoll.unregister(fd)
        elif fd in self._registered:
            epoll.modify(fd, events)
        else:
            self._registered.add(fd)
            epoll.register(fd, events)

    def is_watched(self, fd: int) -> bool:
        """Say whether `fd` has a reading handler."""
        return fd in self._readers

    @property
    def has_timers(self) -> bool:
        """Whether anything is due at some time."""
        return self._timers > 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, at the monotonic time `when`."""
        timer = Timer(self, when, action)
        self._made += 1
        self._timers += 1
        heapq.heappush(self._heap, (when, self._made, timer))
        return timer

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, in `delay_s` seconds."""
        return self.at(monotonic() + delay_s, action)

    def deadline(self, when: float, action: Callable[[], None]) -> Timer:
        """Do as `at`; and when everybody was gone for a while, it is due so much later (ipc/core/gap.py)."""
        if not self._deadlines:
            self._looked_at = monotonic()
        timer = self.at(when, action)
        self._deadlines.add(timer)
        return timer

    def _look_for_a_gap(self) -> None:
        now = monotonic()
        lost_s = gap.lost_s(now - self._looked_at - gap.LOOK_S, gap.SESSION_GAP_S)
        self._looked_at = now
        if lost_s:
            for timer in self._deadlines:
                timer.at += lost_s
            self._heap = [(timer.at, number, timer) for _, number, timer in self._heap]
            heapq.heapify(self._heap)

    def timer_gone(self, timer: Timer) -> None:
        """Count a timer that was cancelled; the heap forgets it when it comes up, or when it was the last one."""
        self._timers -= 1
        self._deadlines.discard(timer)
        if not self._timers:
            self._heap.clear()

    def turn(self, timeout_s: float | None = None) -> None:
        """Wait for whatever comes first, for `timeout_s` at most, and call its handlers and what is due."""
        while self._expected or self._epoll is None:
            self._register(self._expected.pop())
        wait_s = _SLEEP_S_MAX if timeout_s is None else min(timeout_s, _SLEEP_S_MAX)
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        if self._heap:
            wait_s = min(wait_s, max(0.0, self._heap[0][0] - monotonic()))
        if self._deadlines:
            wait_s = min(wait_s, gap.LOOK_S)
        for fd, events in self._epoll.poll(wait_s):
            if events & READABLE and (reader := self._readers.get(fd)) is not None:
                reader()
            if events & WRITABLE and (writer := self._writers.get(fd)) is not None:
                writer()
        if self._deadlines:
            self._look_for_a_gap()
        if self._heap:
            self._run_due()

    def _run_due(self) -> None:
        """Run what is due by now, and nothing that was only armed meanwhile: an action may arm itself again for ever."""
        now, made = monotonic(), self._made
        while self._heap:
            at, number, timer = self._heap[0]
            if timer.action is not None and (at > now or number > made):
                return
            heapq.heappop(self._heap)
            action, timer.action = timer.action, None
            if action is not None:
                self._timers -= 1
                self._deadlines.discard(timer)
                action()
