"""The ring keeps the last bytes and counts the others exactly, however they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.core.ring import Ring


@given(st.integers(1, 50), st.lists(st.binary(max_size=120), max_size=40))
def test_it_holds_the_last_bytes_and_counts_the_rest(bytes_max: int, pieces: list[bytes]) -> None:
    ring = Ring(bytes_max)
    for piece in pieces:
        ring.append(piece)
    everything = b"".join(pieces)
    assert ring.content() == everything[-bytes_max:]
    assert ring.total == len(everything)
    assert ring.dropped == len(everything) - len(ring.content())


@given(st.integers(1, 20), st.binary(max_size=60), st.integers(-1, 80))
def test_a_tail_is_never_more_than_is_kept(bytes_max: int, data: bytes, count: int) -> None:
    ring = Ring(bytes_max)
    ring.append(data)
    kept = data[-bytes_max:]
    assert ring.tail(count) == (kept[-count:] if count > 0 else b"")


def test_many_small_pieces_hold_no_more_memory_than_twice_the_bound() -> None:
    ring = Ring(1000)
    for _ in range(10_000):
        ring.append(b"x")
        assert len(ring._kept) < 2000
    assert ring.dropped == 9_000


def test_clear_forgets_the_counts_too() -> None:
    ring = Ring(4)
    ring.append(b"abcdef")
    ring.clear()
    assert (ring.content(), ring.total, ring.dropped) == (b"", 0, 0)


def test_a_ring_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        Ring(0)
