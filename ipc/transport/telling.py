"""One owner's callbacks in the order in which what they tell was read, whichever threads come to run them.

    the lock held: add(callback) ──▶ queue ──▶ tell(), by every thread that read something       one of them runs all there is

Reading changes hands (channel.py): what one thread has read and not told yet, another must not overtake with what it reads
next. It is *not* one order for a whole channel: a callback that waits for another call must not keep that one's back.
Rules: nobody waits here; who finds somebody telling leaves its own to them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from procession.ipc.transport.reactor import Reactor, tell_surprise


class Telling:
    """See the module's text. What waits is bounded by whoever adds: a stream by its window, a call by its one outcome."""

    __slots__ = ("_queue", "_reactor", "_turn")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._queue: deque[Callable[[], None]] = deque()
        self._turn = threading.Lock()

    def add(self, callback: Callable[[], None], after: list[Callable[[], None]]) -> None:
        """Queue a callback, and have it told with what is to be run once the lock is let go. The lock is held."""
        self._queue.append(callback)
        after.append(self.tell)

    def tell(self) -> None:
        """Run what is queued, unless another thread is at it, or this one further down its stack: they see to it."""
        while self._queue and self._turn.acquire(blocking=False):
            try:
                while self._queue:
                    callback = self._queue.popleft()
                    try:
                        callback()
                    except Exception as problem:  # noqa: BLE001 - somebody else's: the ones behind it are told all the same
                        tell_surprise(self._reactor, problem, callback)
            finally:
                self._turn.release()
                if self._queue:  # an interrupt of whoever lent the thread, perhaps: then the reactor tells the rest
                    self._reactor.call_soon(self.tell)
