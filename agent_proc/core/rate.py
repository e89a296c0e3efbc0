"""A token bucket: so many bytes a second, with a burst. Time is an argument.

Rule: a clock that stands still or goes back gives nothing and takes nothing.
"""

from __future__ import annotations


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once; full at first."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"a bucket of {burst} tokens filled at {rate} a second")
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def available(self, now: float) -> int:
        """Return how many tokens could be taken now."""
        if now > self._at:
            self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._rate)
            self._at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Take tokens that `available` has just told of."""
        assert 0 <= count <= self._tokens
        self._tokens -= count
