"""Small plain values take the short way, and it makes no difference: the same bytes, the same value, of the same types."""

import datetime as dt
from collections import Counter, OrderedDict
from enum import IntEnum

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core import value_decode, value_encode
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.prescan import prescan
from procession.ipc.core.value_plain import PLAIN_BYTES_MAX, PLAIN_DEPTH_MAX, is_plain
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

UTC = dt.UTC


class Number(IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@given(plain)
@settings(max_examples=examples(200), deadline=None)
def test_the_short_way_and_the_long_way_agree(value: object) -> None:
    data = encode_value(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_encode, "is_plain", lambda _: False)
        patch.setattr(value_decode, "is_plain", lambda _: False)
        assert encode_value(value) == data
        assert decode_value(data) == value
    assert decode_value(data) == value
    assert types_in(decode_value(data)) == types_in(value)


def types_in(value: object) -> object:
    if isinstance(value, dict):
        return {key: types_in(item) for key, item in value.items()}
    return [types_in(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: 2},
        {"a": (1,)},
        {1, 2},
        OrderedDict(a=1),
        Counter("a"),
        bytearray(b"x"),
        Number.ONE,
        Text("x"),
        {Text("a"): 1},
        {"\0t": [1]},
        dt.datetime(2025, 1, 1),  # noqa: DTZ001 - naive on purpose
        dt.datetime(2025, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.datetime(2025, 1, 1, tzinfo=UTC, fold=1),
        dt.date(2025, 1, 1),
        list(range(65)),
        {"a": list(range(65))},
    ],
    ids=repr,
)
def test_what_is_not_plain_or_not_small_is_left_to_the_long_way(value: object) -> None:
    assert not is_plain(value)
    assert not is_plain([value])


def test_how_deep_it_looks() -> None:
    value: object = 1
    for _ in range(PLAIN_DEPTH_MAX):
        value = [value]
    assert is_plain(value)
    assert not is_plain([value])


@pytest.mark.parametrize("value", [[2**64], ["\ud800"], {"\ud800": 1}, {"a": {"b": -(2**63) - 1}}])
def test_what_the_encoder_cannot_write_plainly_is_still_written(value: object) -> None:
    assert is_plain(value)
    assert decode_value(encode_value(value)) == value


def test_bounds_hold_on_the_short_way_too() -> None:
    with pytest.raises(UnsupportedValue):
        encode_value(["x" * 100], bytes_max=50)
    with pytest.raises(UnsupportedValue):
        encode_value([[1]] * 20, nodes_max=10)
    with pytest.raises(ProtocolBreach):
        decode_value(encode_value([1] * 30), nodes_max=10)
    large = ["x" * PLAIN_BYTES_MAX]
    assert decode_value(encode_value(large)) == large


# --- timestamps -------------------------------------------------------------------------------------------------------
@given(st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(fold=0)))
@settings(max_examples=examples(100), deadline=None)
def test_a_time_in_utc_is_msgpacks_own_and_comes_back_the_same(time: dt.datetime) -> None:
    data = encode_value([time])
    assert len(data) <= 16
    assert prescan(data) == 2
    back = decode_value(data)
    assert back == [time]
    assert [moment.tzinfo for moment in back] == [UTC]


@pytest.mark.parametrize(
    "data",
    [
        b"\xd6\x00\x00\x00\x00\x00",  # another type of ext
        b"\xd7\xfe" + bytes(8),
        b"\xc7\x0c\x01" + bytes(12),
        b"\xc7\x0b\xff" + bytes(11),  # a timestamp of another length
        b"\xd4\xff\x00",
        b"\xd7\xff" + bytes(4),  # cut short
        b"\xd7\xff" + b"\xff" * 8,  # more than a second of nanoseconds
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7,  # a year that no calendar has
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_no_other_ext_and_no_impossible_time_is_read(data: bytes, wrapped: bool) -> None:
    with pytest.raises(ProtocolBreach):
        decode_value(b"\x91" + data if wrapped else data)
    with pytest.raises(ProtocolBreach):
        decode_value(b"\x92" + data + msgspec.msgpack.encode("x" * (PLAIN_BYTES_MAX + 1)))
