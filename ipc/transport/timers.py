"""A heap of timers: what both reactors keep their deadlines in.

It is *not* thread-safe (its reactor locks) and reads no clock. Rule: a timer that is cancelled costs nothing but its
place, and places are given back before the dead outnumber the living by two to one; so a deadline on every call is cheap.
When its reactor was gone for a while, no timer is late: all are put back (ipc/core/gap.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

from procession.ipc.core import gap

Callback = Callable[[], None]

#: Below this many entries the dead ones are not worth a sweep.
SWEEP_ABOVE: Final = 1024


class Timer:
    """A callback at a time; `cancel()` is idempotent and thread-safe."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class TimerHeap:
    """Timers by time, and by age within one moment."""

    __slots__ = ("_heap", "_looked_at", "_order", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._sweep_at = SWEEP_ABOVE
        self._looked_at = float("-inf")

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, callback: Callback) -> Timer:
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(SWEEP_ABOVE, 2 * len(self._heap))
        timer = Timer(when, callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def nearest(self) -> float | None:
        """Return when the next living timer is due."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def put_back(self, now: float) -> float:
        """Put every timer back if there was a gap; return by how much, 0 for none. To be asked before what is due is taken."""
        looked_at, self._looked_at = self._looked_at, now
        nearest = self.nearest()
        if nearest is None:
            return 0.0
        lost_s = gap.lost_s(now - max(nearest, looked_at), gap.HOST_GAP_S)  # a timer for a time long past: no gap
        if lost_s:
            for _, _, timer in self._heap:
                timer.when += lost_s
            self._heap = [(timer.when, order, timer) for _, order, timer in self._heap]  # in the order that it had
        return lost_s

    def take_due(self, now: float) -> list[Timer]:
        """Take out what is due, the earliest first."""
        heap = self._heap
        due: list[Timer] = []
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            if timer.callback is not None:
                due.append(timer)
        return due

    def clear(self) -> None:
        for _, _, timer in self._heap:
            timer.cancel()
        self._heap.clear()
