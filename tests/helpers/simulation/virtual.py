"""Virtual time: one heap of events, one clock, one source of chance; and a reactor that runs in it, over real pipes.

Nothing here sleeps, and no thread is started. What happens next is decided by the clock and the order in which things were
asked for, so a run is the same each time for the same seed.
"""

import heapq
import itertools
import random
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from procession.host import call_mailbox, clock, kept_calls, session_calls
from procession.ipc.transport import channel
from procession.ipc.transport.timers import Timer

Callback = Callable[[], None]
_CAPTURED = (call_mailbox, kept_calls, session_calls, channel)
"""Modules of the production code that keep the clock under a name of their own."""
TURNS_MAX = 2_000_000
EPOCH = 1_800_000_000.0


class Time:
    """The clock and what is to happen; the one place where a simulation goes forward."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._heap: list[tuple[float, int, Callback]] = []
        self._order = itertools.count()

    def at(self, when: float, callback: Callback) -> None:
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), callback))

    def after(self, seconds: float, callback: Callback) -> None:
        self.at(self.now + seconds, callback)

    def next_due(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def take_due(self) -> Callback | None:
        if self._heap and self._heap[0][0] <= self.now:
            return heapq.heappop(self._heap)[2]
        return None

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now


@contextmanager
def virtual(made: Time) -> Iterator[Time]:
    """Have the production code read this clock and draw from this chance."""
    patched: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, name: str, value: Any) -> None:
        patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    patch(clock, "monotonic", made.monotonic)
    patch(clock, "wall", made.wall)
    patch(clock, "random", made.random.random)
    for module in _CAPTURED:
        assert module._monotonic is time.monotonic
        patch(module, "_monotonic", made.monotonic)
    try:
        yield made
    finally:
        for owner, name, value in patched:
            setattr(owner, name, value)


class SimReactor:
    """The port of ipc/transport/reactor.py, in virtual time; descriptors are real, and looked at without waiting."""

    def __init__(self, made: Time) -> None:
        self.on_error: Callable[[BaseException, str], None] | None = None
        self.on_gap: Callable[[float], None] | None = None
        self.closed = False
        self._time = made
        self._soon: list[Callback] = []
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._paused: set[int] = set()
        self._poll = select.poll()

    def now(self) -> float:
        return self._time.now

    def in_loop(self) -> bool:
        return True

    def thread_id(self) -> int | None:
        return None

    def busy_since(self) -> float | None:
        return None

    def _apply(self, fd: int) -> None:
        wanted = (select.POLLIN if fd in self._readers and fd not in self._paused else 0) | (
            select.POLLOUT if fd in self._writers else 0
        )
        if wanted:
            self._poll.register(fd, wanted)
        else:
            try:
                self._poll.unregister(fd)
            except KeyError:
                pass

    def add_reader(self, fd: int, callback: Callback) -> None:
        self._readers[fd] = callback
        self._paused.discard(fd)
        self._apply(fd)

    def pause(self, fd: int) -> None:
        if fd in self._readers:
            self._paused.add(fd)
            self._apply(fd)

    def resume(self, fd: int) -> None:
        self._paused.discard(fd)
        self._apply(fd)

    def want_write(self, fd: int, callback: Callback | None) -> None:
        if callback is None:
            self._writers.pop(fd, None)
        else:
            self._writers[fd] = callback
        self._apply(fd)

    def remove(self, fd: int) -> None:
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)
        self._paused.discard(fd)
        self._apply(fd)

    def call_at(self, when: float, callback: Callback) -> Timer:
        timer = Timer(when, callback)

        def fire() -> None:
            called, timer.callback = timer.callback, None
            if called is not None and not self.closed:
                called()

        self._time.at(when, fire)
        return timer

    def call_soon(self, callback: Callback) -> None:
        self._soon.append(callback)

    def close(self) -> None:
        self.closed = True
        self._soon.clear()

    def turn(self) -> bool:
        """Run what is ready; say whether there was anything."""
        if self.closed:
            return False
        soon, self._soon = self._soon, []
        for callback in soon:
            self._run(callback)
        found = sorted(self._poll.poll(0)) if self._readers or self._writers else []
        for fd, what in found:
            if what & select.POLLOUT and fd in self._writers:
                self._run(self._writers[fd])
            if (
                what & (select.POLLIN | select.POLLHUP | select.POLLERR)
                and fd in self._readers
                and fd not in self._paused
            ):
                self._run(self._readers[fd])
        return bool(soon or found)

    def _run(self, callback: Callback) -> None:
        if not self.closed:
            callback()  # what it raises fails the simulation: nothing is swallowed here


class Loop:
    """Turns every reactor that is there until nothing is ready, then moves the clock to what comes next."""

    def __init__(self, made: Time) -> None:
        self.time = made
        self.reactors: list[SimReactor] = []
        self.turns = 0

    def run_until(self, when: float, over: Callable[[], bool] = lambda: False) -> None:
        while not over():
            self.turns += 1
            assert self.turns < TURNS_MAX, "the simulation does not come to rest"
            turned = [reactor.turn() for reactor in list(self.reactors)]  # all of them, not only up to the first
            if any(turned):
                continue
            callback = self.time.take_due()
            if callback is not None:
                callback()
                continue
            due = self.time.next_due()
            if due is None or due > when:
                self.time.now = max(self.time.now, when)
                return
            self.time.now = due
