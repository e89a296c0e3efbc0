"""R-57, R-68: events are numbered, bounded and counted, and no reader ever holds up who writes."""

import threading
from itertools import pairwise

import pytest

from procession.host import event_log
from procession.host.event_log import SUBSCRIBER_BYTES_MAX, SUBSCRIBERS_MAX, EventLog
from procession.ipc.core.bounds import EVENT_BURST, EVENT_RATE_S
from procession.ipc.core.records import Event


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_log(**fields) -> tuple[EventLog, Clock]:
    clock = Clock()
    return EventLog(monotonic=clock, wall=lambda: 1e9, **fields), clock


def accounted(events: list[Event]) -> int:
    """How many events a reader got or was told it lost."""
    return sum(1 + event.dropped for event in events)


def test_events_are_numbered_and_say_whose_they_are() -> None:
    log, _ = make_log()
    log.emit("host.started", None, 0, pid=7)
    log.emit("session.ready", "a", 3)
    first, second = log.since(0)
    assert first == Event(number=1, at=1e9, type="host.started", data={"pid": 7})
    assert second == Event(number=2, at=1e9, type="session.ready", session="a", incarnation=3)
    assert log.since(1) == [second]
    assert log.since(2) == []


def test_the_ring_forgets_the_oldest_and_tells_who_asks_for_it() -> None:
    log, _ = make_log(kept=10)
    for n in range(25):
        log.emit("x", None, 0, n=n)
    assert [event.number for event in log.since(0)] == list(range(16, 26))
    assert log.since(0)[0].dropped == 15
    assert log.since(12)[0].dropped == 3
    assert log.since(15)[0].dropped == log.since(20)[0].dropped == 0


def test_texts_are_cut_and_a_log_full_of_them_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "LOG_BYTES_MAX", 200_000)
    log, _ = make_log()
    for _ in range(100):
        log.emit("host.bug", None, 0, text="x" * 100_000)
    events = log.since(0)
    lengths = {len(str(event.data["text"])) for event in events}
    assert 3_900 < min(lengths) <= max(lengths) <= 4_000
    assert len(events) == 200_000 // (4 * max(lengths) + 512)
    assert accounted(events) == 100


@pytest.mark.guarantee("R-57")
def test_a_session_over_its_rate_is_cut_and_the_next_event_says_by_how_much() -> None:
    log, clock = make_log()
    for _ in range(EVENT_BURST + 70):
        log.emit("session.notice", "noisy", 1)
    log.emit("session.notice", "quiet", 1)
    log.emit("host.lag", None, 0)
    assert log.last_number == EVENT_BURST + 2
    assert log.dropped == 70
    clock.now += 1.0
    for _ in range(EVENT_RATE_S + 5):
        log.emit("session.notice", "noisy", 1)
    events = [event for event in log.since(0) if event.session == "noisy"]
    assert len(events) == EVENT_BURST + EVENT_RATE_S
    assert events[EVENT_BURST].dropped == 70
    assert log.dropped == 75


@pytest.mark.guarantee("R-68")
def test_a_wall_clock_that_jumps_changes_no_rate() -> None:
    walls = iter([1e9, 1e9 + 3600, 1e9 - 3600] * 10_000)
    log = EventLog(monotonic=lambda: 5.0, wall=lambda: next(walls))
    for _ in range(EVENT_BURST * 2):
        log.emit("session.notice", "a", 1)
    assert (log.last_number, log.dropped) == (EVENT_BURST, EVENT_BURST)


@pytest.mark.guarantee("R-57")
def test_a_reader_that_never_reads_costs_its_bound_and_gets_a_gap_marker() -> None:
    log, _ = make_log()
    reader = log.subscribe()
    for _ in range(5_000):
        log.emit("x", None, 0, text="y" * 200)
    assert reader._ring.bytes <= SUBSCRIBER_BYTES_MAX
    events = reader.take()
    assert events[0].dropped == 5_000 - len(events) > 0
    assert accounted(events) == 5_000
    assert all(event.dropped == 0 for event in events[1:])
    assert reader.take() == []


def test_a_reader_is_woken_once_for_what_it_has_not_taken() -> None:
    log, _ = make_log()
    woken: list[int] = []
    reader = log.subscribe(lambda: woken.append(log.last_number))
    log.emit("x", None, 0)
    log.emit("x", None, 0)
    assert woken == [1]
    assert [event.number for event in reader.take()] == [1, 2]
    log.emit("x", None, 0)
    assert woken == [1, 3]
    reader.close()
    log.emit("x", None, 0)
    assert woken == [1, 3]
    assert log.subscribers == 0


def test_notify_runs_outside_the_lock() -> None:
    log, _ = make_log()
    seen: list[list[int]] = []
    reader = log.subscribe(lambda: seen.append([e.number for e in reader.take()] + [e.number for e in log.since(0)]))
    log.emit("x", None, 0)
    assert seen == [[1, 1]]


def test_a_reader_begins_after_the_number_it_names_with_nothing_twice() -> None:
    log, _ = make_log()
    for _ in range(5):
        log.emit("x", None, 0)
    assert [e.number for e in log.subscribe(since=3).take()] == [4, 5]
    assert log.subscribe().take() == []
    got: list[int] = []
    stop = log.follow(lambda event: got.append(event.number), since=0)
    log.emit("x", None, 0)
    stop()
    log.emit("x", None, 0)
    assert got == [1, 2, 3, 4, 5, 6]


def test_a_reader_that_raises_is_dropped_and_the_emitter_does_not_notice() -> None:
    log, _ = make_log()

    def broken(event: Event) -> None:
        raise RuntimeError(event.type)

    log.follow(broken)
    log.emit("x", None, 0)
    log.emit("x", None, 0)
    assert log.subscribers == 0
    assert log.last_number == 2


def test_a_follower_may_emit_itself() -> None:
    log, _ = make_log()
    got: list[str] = []

    def answer(event: Event) -> None:
        got.append(event.type)
        if len(got) < 4:
            log.emit(f"{event.type}!", None, 0)

    log.follow(answer)
    log.emit("x", None, 0)
    assert got == ["x", "x!", "x!!", "x!!!"]


def test_one_reader_too_many_takes_the_place_of_the_oldest() -> None:
    log, _ = make_log()
    readers = [log.subscribe() for _ in range(SUBSCRIBERS_MAX + 1)]
    assert log.subscribers == SUBSCRIBERS_MAX
    assert readers[0].closed
    assert not readers[1].closed


def test_threads_that_emit_at_once_lose_nothing_and_a_follower_sees_one_order() -> None:
    log, _ = make_log()
    followed: list[Event] = []
    busy = threading.Lock()

    def take(event: Event) -> None:
        assert busy.acquire(blocking=False), "two at once"
        followed.append(event)
        busy.release()

    stop = log.follow(take)

    def emit_many() -> None:
        for _ in range(1_000):
            log.emit("x", None, 0)

    threads = [threading.Thread(target=emit_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop()
    assert accounted(followed) == 4_000
    assert all(a.number < b.number for a, b in pairwise(followed))
    assert log.subscribers == 0
