"""What a session's agent tells its subscribers, as the host has it: the ring, and who follows it. Or how the agent is doing.

It is *not* the numbering or the bounds (core/signal_ring.py). Rule: a follower never slows the session; its own bounded
ring loses the oldest when it is slow, and says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from procession.host import clock
from procession.host.core.signal_ring import SIGNALS_KEPT, SignalRing
from procession.ipc.core.records import SentSignal

Follower = Callable[[SentSignal], None]


class SignalLog:
    """See the module's text; thread-safe. Signals are added by one thread, the reactor's."""

    def __init__(self, session: str, kept: int = SIGNALS_KEPT) -> None:
        self._lock = threading.Lock()
        self._ring = SignalRing(session, kept)
        self._followers: dict[int, Follower] = {}
        self._next = 1

    @property
    def is_followed(self) -> bool:
        """Whether anybody follows it."""
        return bool(self._followers)

    def add(self, data: bytes) -> None:
        """Keep a signal and hand it to the followers."""
        with self._lock:
            item = self._ring.add(data, clock.wall())
            followers = list(self._followers.values())
        for follower in followers:
            follower(item)

    def since(self, number: int) -> list[SentSignal]:
        """Return what is kept after `number`."""
        with self._lock:
            return self._ring.since(number)

    def shrink(self, bytes_max: int) -> None:
        """Keep only the last signals that fit into so many bytes."""
        with self._lock:
            self._ring.shrink(bytes_max)

    def follow(self, follower: Follower, since: int | None) -> tuple[int, list[SentSignal]]:
        """Hand `follower` what comes from now on; return its number and what came after `since`, with nothing in between."""
        with self._lock:
            number = self._next
            self._next += 1
            self._followers[number] = follower
            return number, [] if since is None else self._ring.since(since)

    def unfollow(self, number: int) -> None:
        """Hand it nothing more."""
        with self._lock:
            self._followers.pop(number, None)
