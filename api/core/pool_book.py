"""Which workers of a pool are free, which are lent, and when there is room for one more. Pure: it starts and ends nothing.

    take()       a free worker, or leave to start one, or neither: wait
    give_back()  keep it, or have it ended: one too many, or one that is no good any more

It is *not* thread-safe: its owner locks. Rules: never more than `size + overflow` in all, those that are being started
included; what is more than `size` is kept only while somebody waits; a worker that is lost is started anew when needed.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Literal

Strategy = Literal["lifo", "fifo"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("lifo", "fifo")
"""The worker that was given back last, whose memory is warm; or the one that rested longest, so that all are used alike."""


class Room(Enum):
    """What `take` says when there is no free worker."""

    START = "start"
    """Start one: the place is held until `started` or `not_started`."""
    FULL = "full"


class PoolBook:
    """See the module's text. waiting: how many wait for a worker; its owner counts them."""

    __slots__ = ("_free", "_lent", "_lifo", "_starting", "overflow", "size", "waiting")

    def __init__(self, size: int, overflow: int, strategy: Strategy) -> None:
        self.size = size
        self.overflow = overflow
        self.waiting = 0
        self._lifo = strategy == "lifo"
        self._free: deque[str] = deque()
        self._lent: set[str] = set()
        self._starting = 0

    @property
    def free(self) -> int:
        """Workers that wait to be lent."""
        return len(self._free)

    @property
    def lent(self) -> int:
        """Workers that somebody has."""
        return len(self._lent)

    @property
    def all(self) -> list[str]:
        """Every worker there is."""
        return [*self._free, *self._lent]

    def _count(self) -> int:
        return len(self._free) + len(self._lent) + self._starting

    def add(self, worker: str) -> None:
        """A worker that was started ahead is there."""
        self._free.append(worker)

    def take(self) -> str | Room:
        """Lend a free worker, or say whether one may be started for it."""
        if self._free:
            worker = self._free.pop() if self._lifo else self._free.popleft()
            self._lent.add(worker)
            return worker
        if self._count() < self.size + self.overflow:
            self._starting += 1
            return Room.START
        return Room.FULL

    def started(self, worker: str) -> None:
        """The worker that `take` gave leave to start is there, and lent."""
        self._starting -= 1
        self._lent.add(worker)

    def not_started(self) -> None:
        """It is not, and will not be."""
        self._starting -= 1

    def give_back(self, worker: str, *, good: bool) -> bool:
        """Take a worker back; False when it is to be ended. good: it can be lent again."""
        self._lent.remove(worker)
        if not good or (self._count() >= self.size and not self.waiting):
            return False
        self._free.append(worker)
        return True
