"""Who may start now: at most 8 starts under way, and of those after a crash at most 20 in any second. First come, first served.

Pure: the time is an argument. It keeps sessions that crash together from coming back together (R-15), and bounds how
many processes are being forked and imported at once. A start that a user asked for waits for a place only, never for
the rate, so it may pass restarts that do.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: Starts under way at once: forks and imports are CPU work, more than this only makes each of them late.
PARALLEL_MAX: Final = 8
#: Restarts let through in any window of one second. A window and not a bucket: a full bucket would let twice as many
#: through in the first two seconds as in any others.
RATE_PER_S: Final = 20
_WINDOW_S: Final = 1.0
#: The instants of sums of floats: a restart that is due is due.
_EPSILON_S: Final = 1e-9


class StartGate:
    """See the module's text. Ids are sessions; each has at most one start waiting or under way."""

    def __init__(self, parallel_max: int = PARALLEL_MAX, rate_per_s: int = RATE_PER_S) -> None:
        self._parallel_max = parallel_max
        self._rate = rate_per_s
        self._waiting: dict[str, bool] = {}  # id -> after a crash; in order of arrival
        self._running: set[str] = set()
        self._let_in_at: deque[float] = deque(maxlen=rate_per_s)

    def offer(self, id: str, now: float, restart: bool = False) -> None:  # noqa: ARG002 - the port gives the time to every verb
        """Let a start wait for its turn; one that waits already keeps its place."""
        self._waiting.setdefault(id, restart)

    def withdraw(self, id: str) -> None:
        """Take back a start that waits; one that was let in is ended with `release`."""
        self._waiting.pop(id, None)

    def admit(self, now: float) -> list[str]:
        """Let in, in order, every start that may begin now."""
        admitted: list[str] = []
        for session, restart in list(self._waiting.items()):
            if len(self._running) >= self._parallel_max:
                break
            if session in self._running or (restart and self._rate_due(now) > now + _EPSILON_S):
                continue
            if restart:
                self._let_in_at.append(now)
            del self._waiting[session]
            self._running.add(session)
            admitted.append(session)
        return admitted

    def release(self, id: str, now: float) -> None:  # noqa: ARG002 - as `offer`
        """Free the place of a start that is over: ready, failed or given up. Idempotent."""
        self._running.discard(id)

    def next_due(self, now: float) -> float | None:
        """Return when `admit` could next let somebody in without a release, None when only a release can help."""
        if len(self._running) >= self._parallel_max:
            return None
        waiting = [restart for session, restart in self._waiting.items() if session not in self._running]
        if not waiting:
            return None
        return max(now, self._rate_due(now)) if all(waiting) else now

    def _rate_due(self, now: float) -> float:
        """Return when the next restart keeps within the rate."""
        if len(self._let_in_at) < self._rate:
            return now
        return self._let_in_at[0] + _WINDOW_S

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<StartGate waiting={self.waiting} running={self.running}>"
