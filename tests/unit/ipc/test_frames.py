"""The frame codec: round trips at every cut, its limits, and what each breach is called."""

from __future__ import annotations

import struct
import tracemalloc
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.frames import FRAME_BYTES_MAX, FrameBreach, FrameDecoder, FrameTooLarge, chunks, encode

MORE = 1 << 31
CONTROL = 1 << 30


def raw(header: int, payload: bytes = b"") -> bytes:
    return struct.pack("<I", header) + payload


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Split `data` into reads of the given sizes, repeated for as long as it lasts."""
    reads, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        reads.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return reads


messages = st.lists(
    st.tuples(st.booleans(), st.binary(max_size=400), st.integers(1, 90)),
    max_size=8,
)


@given(messages, st.lists(st.integers(1, 300), min_size=1, max_size=5))
@settings(max_examples=examples(300), deadline=None)
def test_messages_come_back_in_order_whatever_the_reads(wanted, sizes):
    wire = b"".join(
        encode(payload, control=True) if control else b"".join(chunks(payload, chunk))
        for control, payload, chunk in wanted
    )
    decoder = FrameDecoder()
    got = [message for read in cut(wire, sizes) for message in decoder.feed(read)]
    assert got == [(control, payload) for control, payload, _ in wanted]
    assert decoder.pending_bytes == 0
    assert not decoder.has_partial
    assert not decoder.has_open_message


@given(
    st.binary(min_size=2, max_size=300), st.binary(max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=4)
)
@settings(max_examples=examples(200), deadline=None)
def test_control_overtakes_between_the_chunks_of_a_data_message(payload, urgent, sizes):
    frames = list(chunks(payload, max(1, len(payload) // 3)))
    wire = encode(urgent, control=True).join(frames)
    decoder = FrameDecoder()
    got = [message for read in cut(wire, sizes) for message in decoder.feed(read)]
    assert got == [(True, urgent)] * (len(frames) - 1) + [(False, payload)]


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES_MAX])
def test_a_frame_at_its_limits(control, size):
    payload = b"x" * size
    assert FrameDecoder().feed(encode(payload, control=control)) == [(control, payload)]


@pytest.mark.parametrize("control", [False, True])
def test_a_frame_over_its_limit_is_refused_before_it_is_encoded(control):
    with pytest.raises(FrameTooLarge, match="262145 bytes is over the limit of 262144"):
        encode(b"x" * (FRAME_BYTES_MAX + 1), control=control)


def test_chunks_refuse_at_the_call_and_not_at_the_first_frame():
    with pytest.raises(FrameTooLarge) as caught:
        chunks(b"x" * 101, message_bytes_max=100)
    assert (caught.value.size_bytes, caught.value.bytes_max) == (101, 100)


@pytest.mark.parametrize("chunk_bytes", [0, -1, FRAME_BYTES_MAX + 1])
def test_a_chunk_size_that_is_no_frame_is_refused(chunk_bytes):
    with pytest.raises(ValueError, match="chunk_bytes"):
        chunks(b"x", chunk_bytes)


@pytest.mark.parametrize(("size", "chunk_bytes", "frames"), [(0, 5, 1), (5, 5, 1), (6, 5, 2), (10, 5, 2), (11, 5, 3)])
def test_a_message_takes_as_many_frames_as_it_needs(size, chunk_bytes, frames):
    assert len(list(chunks(b"x" * size, chunk_bytes))) == frames


BREACHES = {
    "reserved": (raw(1 << 19, b""), "reserved"),
    "reserved high": (raw(1 << 29 | 3, b"abc"), "reserved"),
    "length": (raw(FRAME_BYTES_MAX + 1), "frame is over"),
    "length on control": (raw(CONTROL | FRAME_BYTES_MAX + 1), "frame is over"),
    "control chunked": (raw(CONTROL | MORE | 1, b"x"), "control message is chunked"),
    "empty chunk": (raw(MORE), "chunk is empty"),
    "message in one frame": (raw(1001, b"x" * 1001), "message is over"),
    "message in two frames": (raw(MORE | 600, b"x" * 600) + raw(401, b"x" * 401), "message is over"),
}


@pytest.mark.guarantee("R-44")
@pytest.mark.parametrize("read", [1, 3, 4, 7, 10_000])
@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_named_and_final(name, read):
    wire, reason = BREACHES[name]
    decoder = FrameDecoder(message_bytes_max=1000)
    with pytest.raises(FrameBreach, match=reason) as caught:
        _ = [decoder.feed(piece) for piece in cut(wire, [read])]
    assert isinstance(caught.value, ProtocolBreach)
    assert decoder.pending_bytes == 0
    for later in (b"", encode(b"ok"), encode(b"ok", control=True)):
        with pytest.raises(FrameBreach, match=reason):
            decoder.feed(later)


def test_a_frame_over_the_limit_is_refused_at_its_header():
    decoder = FrameDecoder(message_bytes_max=1000)
    with pytest.raises(FrameBreach):
        decoder.feed(raw(1001))


def test_a_control_message_is_not_counted_against_the_data_message_it_overtakes():
    decoder = FrameDecoder(message_bytes_max=10)
    wire = raw(MORE | 9, b"a" * 9) + encode(b"c" * 500, control=True) + raw(1, b"b")
    assert decoder.feed(wire) == [(True, b"c" * 500), (False, b"a" * 9 + b"b")]


def test_an_incomplete_frame_is_seen_and_told_from_the_next_one():
    decoder = FrameDecoder()
    assert not decoder.has_partial
    decoder.feed(b"\x05")
    first = decoder.partial_serial
    assert decoder.has_partial
    assert decoder.feed(b"\x00\x00") == []
    assert decoder.feed(b"\x00ab") == []
    assert (decoder.has_partial, decoder.partial_serial, decoder.pending_bytes) == (True, first, 2)
    assert decoder.feed(b"") == []
    assert decoder.partial_serial == first
    assert decoder.feed(b"cde" + raw(9, b"x")) == [(False, b"abcde")]
    assert decoder.has_partial
    assert decoder.partial_serial != first
    assert decoder.feed(b"x" * 8) == [(False, b"x" * 9)]
    assert not decoder.has_partial


def test_between_the_chunks_of_a_message_no_frame_is_partial():
    decoder = FrameDecoder()
    assert decoder.feed(raw(MORE | 2, b"ab")) == []
    assert (decoder.has_partial, decoder.has_open_message, decoder.pending_bytes) == (False, True, 2)
    assert decoder.feed(raw(0)) == [(False, b"ab")]
    assert not decoder.has_open_message


@pytest.mark.slow
def test_a_large_message_costs_no_more_a_byte_than_a_small_one():
    """Doubling the message must not quadruple the time, neither with small reads nor with chunks of one byte."""

    def spend(size: int) -> float:
        best = float("inf")
        wire = b"".join(chunks(b"x" * size, 1))
        reads = cut(wire, [3])
        for _ in range(3):
            decoder = FrameDecoder()
            start = perf_counter()
            for read in reads:
                decoder.feed(read)
            best = min(best, perf_counter() - start)
        return best

    assert spend(80_000) < 10 * spend(20_000)


@pytest.mark.slow
@pytest.mark.guarantee("R-44")
def test_chunks_of_one_byte_cost_no_object_each():
    size = 256 * 1024
    wire = b"".join(chunks(b"x" * size, 1))[:-1]
    reads = cut(wire, [64 * 1024])
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        for read in reads:
            assert decoder.feed(read) == []
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.pending_bytes == size - 1
    assert held < 2 * size + 64 * 1024
    assert peak < 3 * size + 64 * 1024


def test_16_mib_in_pipe_sized_reads_is_held_about_once():
    payload = bytes(16 * 1024 * 1024)
    reads = cut(b"".join(chunks(payload)), [64 * 1024])
    decoder = FrameDecoder()
    got: list[tuple[bool, bytes]] = []
    tracemalloc.start()
    try:
        for read in reads[:-1]:
            got += decoder.feed(read)
        held, _ = tracemalloc.get_traced_memory()
        got += decoder.feed(reads[-1])
    finally:
        tracemalloc.stop()
    assert held < 1.2 * len(payload)
    assert got == [(False, payload)]
