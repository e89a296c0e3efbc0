"""The ring of signals to subscribers: numbered, bounded by number and bytes, and what is lost is told."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.signal_ring import SignalRing
from procession.host.signal_log import SignalLog
from procession.ipc.core.records import SentSignal


def numbers(items: list[SentSignal]) -> list[int]:
    return [item.number for item in items]


def test_signals_are_numbered_and_kept_in_order() -> None:
    ring = SignalRing("s")
    assert ring.add(b"one", 1.5) == SentSignal(number=1, at=1.5, data=b"one", session="s")
    ring.add(b"two", 2.5)
    assert [(item.number, item.data) for item in ring.since(0)] == [(1, b"one"), (2, b"two")]
    assert numbers(ring.since(1)) == [2]
    assert ring.since(2) == []


def test_the_oldest_go_first_and_a_reader_is_told_how_many_it_lost() -> None:
    ring = SignalRing("s", count_max=3)
    for _ in range(10):
        ring.add(b"x", 0.0)
    found = ring.since(0)
    assert (numbers(found), [item.dropped for item in found]) == ([8, 9, 10], [7, 0, 0])
    assert [item.dropped for item in ring.since(5)] == [2, 0, 0]
    assert [item.dropped for item in ring.since(7)] == [0, 0, 0]


def test_one_that_is_larger_than_the_ring_leaves_nothing_but_its_number() -> None:
    ring = SignalRing("s", bytes_max=10)
    ring.add(b"x" * 5, 0.0)
    ring.add(b"x" * 11, 0.0)
    assert ring.since(0) == []
    ring.add(b"y", 0.0)
    assert [(item.number, item.dropped) for item in ring.since(0)] == [(3, 2)]


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(0, 70))
@settings(max_examples=examples(100))
def test_nothing_is_lost_in_silence_and_nothing_is_over_its_bounds(sizes: list[int], since: int) -> None:
    ring = SignalRing("s", count_max=7, bytes_max=30)
    for size in sizes:
        ring.add(b"x" * size, 0.0)
    kept = ring.since(0)
    assert len(kept) <= 7
    assert sum(len(item.data) for item in kept) <= 30
    found = ring.since(since)
    if found:
        assert sum(item.dropped for item in found) + len(found) == ring.last_number - since


def test_a_follower_gets_what_comes_after_what_was_kept_and_nothing_once_it_has_left() -> None:
    log = SignalLog("s")
    log.add(b"one")
    got: list[SentSignal] = []
    place, kept = log.follow(got.append, since=0)
    log.add(b"two")
    assert (numbers(kept), numbers(got)) == ([1], [2])
    log.unfollow(place)
    log.add(b"three")
    assert (numbers(got), numbers(log.since(1))) == ([2], [2, 3])
    assert log.follow(got.append, since=None)[1] == []
