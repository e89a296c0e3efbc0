"""The host's events: one numbered ring, and any number of readers who can never slow down who writes.

    emit -> [bucket of the session] -> ring -> ring of each subscriber -> its own thread's pace

Thread-safe. Everything is bounded: the ring by number and bytes, a session by its rate, a reader by its bytes. What a
bound costs is never silent: the next event a reader gets says in `dropped` how many it did not get before it (R-57).

Rules: `emit` waits for nobody. A reader's `notify` runs outside the lock, in the thread that emitted, and only has to
wake somebody up; it may raise, then that reader is dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from procession.host import clock
from procession.ipc.core.bounds import EVENT_BURST, EVENT_RATE_S, EVENTS_KEPT, KiB, MiB
from procession.ipc.core.errors import cut
from procession.ipc.core.records import Event

Scalar = str | int | float | bool | None

#: Texts in an event are cut here: an event is a line, a report is read elsewhere. A traceback still fits.
TEXT_CHARS_MAX: Final = 4_000
#: All kept events together; beside EVENTS_KEPT this bounds a host full of long texts.
LOG_BYTES_MAX: Final = 16 * MiB
#: What one slow reader may hold (R-57).
SUBSCRIBER_BYTES_MAX: Final = 1 * MiB
#: Readers at once; each costs an append an event.
SUBSCRIBERS_MAX: Final = 256
#: Sessions whose rate is remembered; a bucket that falls out was the longest unused, hence full.
BUCKETS_MAX: Final = 1_024
#: An event without texts, its slots and its data dict, measured generously.
_EVENT_BYTES: Final = KiB // 2


class _Bucket:
    """Tokens of one session, and what it lost since its last event."""

    __slots__ = ("at", "dropped", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = float(EVENT_BURST)
        self.at = now
        self.dropped = 0

    def take(self, now: float) -> bool:
        self.tokens = min(float(EVENT_BURST), self.tokens + (now - self.at) * EVENT_RATE_S)
        self.at = now
        if self.tokens < 1.0:
            self.dropped += 1
            return False
        self.tokens -= 1.0
        return True


class _Ring:
    """Events, the oldest given up first. Not locked: its owner is."""

    __slots__ = ("bytes", "bytes_max", "count_max", "gone", "items")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self.items: deque[tuple[Event, int]] = deque()
        self.bytes = 0
        self.gone = 0
        """Given up since somebody last looked (the log's own: in all)."""
        self.count_max = count_max
        self.bytes_max = bytes_max

    def push(self, event: Event, size: int) -> None:
        self.items.append((event, size))
        self.bytes += size
        while len(self.items) > self.count_max or self.bytes > self.bytes_max:
            self.bytes -= self.items.popleft()[1]
            self.gone += 1


class Subscription:
    """One reader's place. `take` gives what came since, `close` ends it; both from any thread."""

    def __init__(self, log: EventLog, notify: Callable[[], None] | None) -> None:
        self._log = log
        self._ring = _Ring(EVENTS_KEPT, SUBSCRIBER_BYTES_MAX)
        self.notify = notify
        self.closed = False

    def take(self) -> list[Event]:
        """Return what came since the last time; the first of them counts what was lost before it."""
        with self._log.lock:
            ring = self._ring
            events = [event for event, _ in ring.items]
            ring.items.clear()
            ring.bytes = 0
            gone, ring.gone = ring.gone, 0
        if gone and events:
            events[0] = msgspec.structs.replace(events[0], dropped=events[0].dropped + gone)
        return events

    @property
    def pending(self) -> bool:
        """Say whether `take` would give something."""
        return bool(self._ring.items)

    def push(self, event: Event, size: int) -> bool:
        """Add an event (the log's lock is held); say whether the reader is to be told."""
        was_empty = not self._ring.items
        self._ring.push(event, size)
        return was_empty and self.notify is not None

    def close(self) -> None:
        self._log.drop(self)


class EventLog:
    """See the module's text. last_number: of the newest event. dropped: refused to sessions over their rate, in all."""

    def __init__(
        self,
        *,
        kept: int = EVENTS_KEPT,
        monotonic: Callable[[], float] = clock.monotonic,
        wall: Callable[[], float] = clock.wall,
    ) -> None:
        self.lock = threading.Lock()
        self.last_number = 0
        self.dropped = 0
        self._ring = _Ring(kept, LOG_BYTES_MAX)
        self._buckets: dict[str, _Bucket] = {}
        self._subscribers: dict[Subscription, None] = {}
        self._monotonic = monotonic
        self._wall = wall
        self._reserved = 0
        self._reserve: Callable[[int], None] | None = None
        self._step = 0

    def go_on_from(self, number: int, step: int, reserve: Callable[[int], None]) -> None:
        """Number events from here on, so that no number of a former host is used again.

        reserve(n): keep in mind that numbers up to n may have been used; it is asked for `step` at a time.
        """
        with self.lock:
            self._ring.gone += number  # they were never here, and whoever asks for them is told that they are gone
            self.last_number += number
            self._reserved, self._step, self._reserve = number, step, reserve
        self._reserve_more()

    def stop_numbering(self) -> None:
        """Say which was the last number: the next host goes on right after it."""
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve(self.last_number)

    def _reserve_more(self) -> None:
        if self._reserve is not None and self.last_number + self._step // 2 > self._reserved:
            self._reserved = self.last_number + self._step
            self._reserve(self._reserved)

    def emit(self, type: str, session: str | None, inc: int, **data: Scalar) -> None:
        """Record an event. Never waits and never raises for what a session did."""
        size = _EVENT_BYTES
        for name, value in data.items():
            if isinstance(value, str):
                data[name] = text = cut(value, TEXT_CHARS_MAX)
                size += 4 * len(text)  # the widest a character can be in memory
        with self.lock:
            lost = 0
            if session is not None:
                bucket = self._bucket(session)
                if not bucket.take(self._monotonic()):
                    self.dropped += 1
                    return
                lost, bucket.dropped = bucket.dropped, 0
            self.last_number += 1
            event = Event(
                number=self.last_number,
                at=self._wall(),
                type=type,
                session=session,
                incarnation=inc,
                data=data,
                dropped=lost,
            )
            self._ring.push(event, size)
            wake = [reader for reader in self._subscribers if reader.push(event, size)]
        for reader in wake:
            self._notify(reader)
        self._reserve_more()

    def _bucket(self, session: str) -> _Bucket:
        bucket = self._buckets.pop(session, None) or _Bucket(self._monotonic())
        self._buckets[session] = bucket  # the newest last
        if len(self._buckets) > BUCKETS_MAX:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def _notify(self, reader: Subscription) -> None:
        notify = reader.notify
        if notify is None or reader.closed:
            return
        try:
            notify()
        except Exception:  # noqa: BLE001 - a broken reader is that reader's loss, never the emitter's
            reader.close()

    def since(self, number: int) -> list[Event]:
        """Return the kept events after `number`; the first counts those that are kept no longer."""
        with self.lock:
            events = [event for event, _ in self._ring.items if event.number > number]
            oldest = self._ring.gone + 1
        if events and number + 1 < oldest:
            events[0] = msgspec.structs.replace(events[0], dropped=events[0].dropped + oldest - number - 1)
        return events

    def subscribe(self, notify: Callable[[], None] | None = None, *, since: int | None = None) -> Subscription:
        """Begin to read: `notify` is called when there is something after nothing. since: begin after that number.

        Raises nothing; a reader beyond SUBSCRIBERS_MAX takes the place of the oldest, which is closed.
        """
        reader = Subscription(self, notify)
        old = self.since(since) if since is not None else []
        with self.lock:
            for event in old:
                reader.push(event, _size(event))
            first = old[-1].number if old else (since if since is not None else self.last_number)
            for event, size in self._ring.items:
                if event.number > first:
                    reader.push(event, size)
            while len(self._subscribers) >= SUBSCRIBERS_MAX:
                oldest = next(iter(self._subscribers))
                oldest.closed = True
                del self._subscribers[oldest]
            self._subscribers[reader] = None
        if reader.pending:
            self._notify(reader)
        return reader

    def follow(self, on_event: Callable[[Event], None], *, since: int | None = None) -> Callable[[], None]:
        """Call `on_event` with each event, in order, one at a time; returns what ends it.

        It is called in whichever thread emits and must not block; one that raises is not called again.
        """
        follower = _Follower(on_event)
        follower.reader = reader = self.subscribe(follower.wake, since=since)
        self._notify(reader)
        return reader.close

    def drop(self, reader: Subscription) -> None:
        """Forget a reader. Idempotent."""
        with self.lock:
            reader.closed = True
            self._subscribers.pop(reader, None)

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)


class _Follower:
    """Hands one reader's events to a callback; whoever finds it idle does the handing, so order is kept."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.reader: Subscription | None = None
        self._on_event = on_event
        self._lock = threading.Lock()

    def wake(self) -> None:
        reader = self.reader
        while reader is not None and reader.pending:
            if not self._lock.acquire(blocking=False):
                return  # somebody is at it, and looks once more after letting go
            try:
                self._hand_out(reader)
            finally:
                self._lock.release()

    def _hand_out(self, reader: Subscription) -> None:
        for event in reader.take():
            if reader.closed:
                return
            self._on_event(event)


def _size(event: Event) -> int:
    return _EVENT_BYTES + sum(4 * len(value) for value in event.data.values() if isinstance(value, str))
