"""The prescan: it accepts exactly what the decoder accepts, and refuses bombs at the price of one pass."""

from __future__ import annotations

import tracemalloc
from time import perf_counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.prescan import measure, prescan

pytestmark = pytest.mark.guarantee("R-44")

encode = msgspec.msgpack.encode

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=300),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=40,
)


def count(value: object) -> int:
    if isinstance(value, list):
        return 1 + sum(map(count, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(count, value.values()))
    return 1


@given(values)
@settings(max_examples=examples(300), deadline=None)
def test_counts_every_value(value):
    assert prescan(encode(value)) == count(value)


@given(values, st.binary(min_size=1, max_size=4))
@settings(max_examples=examples(200), deadline=None)
def test_bytes_after_the_value_are_a_breach(value, more):
    with pytest.raises(ProtocolBreach, match="after"):
        prescan(encode(value) + more)


@given(values, st.data())
@settings(max_examples=examples(200), deadline=None)
def test_every_cut_is_a_breach(value, data):
    wire = encode(value)
    cut = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(ProtocolBreach, match="cut short"):
        prescan(wire[:cut])


@given(st.binary(max_size=40))
@settings(max_examples=examples(1000), deadline=None)
def test_agrees_with_the_decoder_on_any_bytes(data):
    try:
        nodes = prescan(data)
    except ProtocolBreach:
        return
    try:
        assert nodes >= count(msgspec.msgpack.decode(data))  # fewer when a map repeats a key
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        assert "utf-8" in str(error).lower()  # noqa: PT017 - the only thing that is left to the decoder


@pytest.mark.parametrize("code", [0xC1, *range(0xC7, 0xCA), *range(0xD4, 0xD9)])
def test_ext_types_and_the_unused_code_are_breaches(code):
    with pytest.raises(ProtocolBreach, match="ext type"):
        prescan(bytes([code]) + bytes(40))


@pytest.mark.parametrize("key", [1, None, 1.5, b"k", True])
def test_a_key_that_is_no_text_is_a_breach(key):
    for nested in (b"\x81" + encode(key) + b"\x01", b"\x82\xa1a\x01" + encode(key) + b"\x01"):
        with pytest.raises(ProtocolBreach, match="key"):
            prescan(nested)


def test_depth_is_allowed_to_the_limit_and_no_further():
    def nested(depth: int) -> bytes:
        return b"\x91" * (depth - 1) + b"\x90"

    assert prescan(nested(32)) == 32
    with pytest.raises(ProtocolBreach, match="deep"):
        prescan(nested(33))
    assert prescan(b"\x01", depth_max=0) == 1
    with pytest.raises(ProtocolBreach, match="deep"):
        prescan(b"\x90", depth_max=0)


def test_nodes_are_allowed_to_the_limit_and_no_further():
    assert prescan(encode([0] * 49_999)) == 50_000
    with pytest.raises(ProtocolBreach, match="too many"):
        prescan(encode([0] * 50_000))
    with pytest.raises(ProtocolBreach, match="too many"):
        prescan(b"\x01", nodes_max=0)


BOMBS = {
    "a million arrays in each other": b"\x91" * 1_000_000,
    "a million maps in each other": b"\x81\xa0" * 1_000_000,
    "an array that claims 4 G": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
    "a map that claims 4 G": b"\xdf\xff\xff\xff\xff" + b"\xc0" * 100,
    "a text that claims 4 GiB": b"\xdb\xff\xff\xff\xff" + b"x" * 100,
    "1 MiB of empty maps": encode([{}] * (1 << 20)),
    "arrays of arrays that claim": b"\xdc\xff\xff" * 30,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_neither_memory_nor_time(name):
    tracemalloc.start()
    start = perf_counter()
    try:
        with pytest.raises(ProtocolBreach):
            prescan(BOMBS[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024
    assert perf_counter() - start < 1.0


@pytest.mark.parametrize(
    "value",
    [
        [{}] * 5000,
        [[]] * 5000,
        [{"a": index} for index in range(5000)],
        [{f"key {k}": index for k in range(5)} for index in range(1000)],
        [float(index) for index in range(20_000)],
        [f"text {index}" for index in range(20_000)],
        ["\U0001f600" + "x" * 250] * 5000,
        ["\U0001f600" + "x" * 70_000] * 50,
    ],
    ids=["maps", "arrays", "small maps", "maps", "floats", "texts", "wide texts", "long wide texts"],
)
def test_the_estimate_of_memory_is_the_right_order(value):
    wire = encode(value)
    estimate = measure(wire, nodes_max=1_000_000)[1]
    tracemalloc.start()
    try:
        kept = msgspec.msgpack.decode(wire)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    assert held / 2 < estimate + len(wire) < held * 4
