"""How much of something a session may do: so many at once, so many a second; the rest is refused and counted, or waited for.

Pure: the time is an argument. A bucket that fills with time. What an Allowance does not hold is not owed; a Pace refuses
nothing, and says how long to wait until what was taken is paid for.
"""

from __future__ import annotations


class Allowance:
    """See the module's text. refused: since somebody last asked with `take_refused`."""

    __slots__ = ("_at", "_burst", "_left", "_rate_s", "refused")

    def __init__(self, rate_s: float, burst: int, now: float) -> None:
        self._rate_s = rate_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at = now
        self.refused = 0

    def take(self, now: float) -> bool:
        """Use up one; say whether there was one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate_s)
        self._at = now
        if self._left < 1.0:
            self.refused += 1
            return False
        self._left -= 1.0
        return True

    def take_refused(self) -> int:
        """Return how many were refused since the last time."""
        refused, self.refused = self.refused, 0
        return refused


class Pace:
    """See the module's text: `take` never refuses."""

    __slots__ = ("_at", "_burst", "_left", "_rate_s")

    def __init__(self, rate_s: float, burst: int, now: float) -> None:
        self._rate_s = rate_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at = now

    def take(self, now: float, count: int = 1) -> float:
        """Use up so many; return for how many seconds nothing more should be taken."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate_s) - count
        self._at = now
        return max(0.0, -self._left / self._rate_s)
