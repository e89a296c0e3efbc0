"""Values: what crosses comes back equal and of the same type; what does not is refused by path, with a hint."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import math
import threading
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

UTC = dt.UTC
BERLIN = ZoneInfo("Europe/Berlin")


def back(value: object, *, lossy: bool = False) -> Any:
    return decode_value(encode_value(value, lossy=lossy))


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal and of the same types all the way down; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return len(left) == len(right) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(left, list | tuple | collections.deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dt.datetime | dt.time):
        return left.replace(tzinfo=None) == right.replace(tzinfo=None) and (
            left.fold,
            str(left.tzinfo),
            left.utcoffset(),
        ) == (right.fold, str(right.tzinfo), right.utcoffset())
    return bool(left == right)


zones = st.one_of(
    st.none(),
    st.sampled_from([UTC, BERLIN, ZoneInfo("UTC"), ZoneInfo("America/Argentina/Buenos_Aires"), ZoneInfo("Etc/GMT+1")]),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
    st.just(dt.timezone(dt.timedelta(hours=2), "Sommerzeit ä")),
)
keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(st.characters(), max_size=10),
    st.binary(max_size=10),
    st.decimals(allow_nan=False).filter(lambda value: not value.is_finite() or abs(value.adjusted()) <= 9000),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.tuples(st.integers(), st.text(max_size=3)),
    st.frozensets(st.integers(), max_size=3),
)
leaves = st.one_of(
    keys,
    st.floats(),
    st.complex_numbers(),
    st.binary(max_size=20).map(bytearray),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        zones,
        st.sampled_from([0, 1]),
    ),
    st.builds(lambda moment, zone: moment.replace(tzinfo=zone), st.times(), zones),
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=10).map(Path),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=5),
        st.dictionaries(keys, inner, max_size=5),
        st.dictionaries(st.sampled_from(["\0t", "\0d", "\0?", "\0", "\0tt"]), inner, max_size=2),
        st.dictionaries(keys, inner, max_size=3).map(collections.OrderedDict),
        st.lists(inner, max_size=4).map(lambda items: collections.deque(items, maxlen=9)),
        st.lists(inner, max_size=4).map(collections.deque),
        st.sets(keys, max_size=5),
    ),
    max_leaves=12,
)


@pytest.mark.guarantee("R-20")
@given(values)
@settings(max_examples=examples(400), deadline=None)
def test_every_value_of_the_table_comes_back_equal_and_of_the_same_type(value):
    assert same(back(value), value)


EDGES = {
    "largest msgpack int": 2**64 - 1,
    "smallest msgpack int": -(2**63),
    "one over": 2**64,
    "one under": -(2**63) - 1,
    "big int": -(10**5000),
    "infinity": math.inf,
    "minus zero": -0.0,
    "lone surrogate": "a\ud800b",
    "lone surrogate as a key": {"\udfff": 1, "plain": 2},
    "a dict that looks like a tag": {"\0t": [1, 2]},
    "a dict that looks like an unknown tag": [{"\0?": {"\0t": 1}}],
    "empty containers": [[], {}, (), set(), frozenset(), b"", "", bytearray()],
    "counter": collections.Counter("hello"),
    "the first moment with an offset": dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14))),
    "the last moment with an offset": dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-14))),
    "the last moment in a zone": dt.datetime.max.replace(tzinfo=BERLIN),
    "the second of two equal hours": dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    "a time in a zone": dt.time(1, 2, tzinfo=BERLIN, fold=1),
    "signalling nan": Decimal("sNaN123"),
    "trailing zeros": Decimal("1.100"),
    "zero with an exponent": Decimal("0E-9000"),
    "path that is no utf-8": Path("dir/\udcff"),
    "nested to the limit": None,
}
deep: list[object] = []
for _ in range(31):
    deep = [deep]
EDGES["nested to the limit"] = deep


@pytest.mark.parametrize("name", EDGES)
def test_the_edges_come_back(name):
    assert same(back(EDGES[name]), EDGES[name])


def test_tuples_nest_as_deep_as_lists():
    value: tuple[object, ...] = ((2**70),)
    for _ in range(31):
        value = (value,)
    assert back(value) == value
    with pytest.raises(UnsupportedValue, match="nested too deep"):
        encode_value((value,))


def test_a_pure_path_comes_back_as_a_path():
    assert same(back(PurePosixPath("/a/b")), Path("/a/b"))


def test_a_zone_that_is_unknown_here_leaves_the_offset():
    moment = dt.datetime(2024, 6, 1, tzinfo=BERLIN)
    wire = encode_value(moment).replace(b"Europe/Berlin", b"Europe/Nowhre")
    found: Any = decode_value(wire)
    assert found == moment
    assert found.utcoffset() == dt.timedelta(hours=2)


def test_what_was_read_is_not_changed_and_what_comes_back_is_not_shared():
    inner: list[object] = [(1, 2)]
    value = {"a": inner, "b": inner}
    copy = back(value)
    assert value == {"a": [(1, 2)], "b": [(1, 2)]}
    assert value["a"] is inner
    assert copy["a"] is not copy["b"]


class Colour(enum.Enum):
    RED = 1


class Name(enum.StrEnum):
    ANN = "ann"


@dataclasses.dataclass
class Point:
    x: int
    y: object = None
    kind: dataclasses.InitVar[int] = 0


class Pair(NamedTuple):
    left: int
    right: object


class Model(pydantic.BaseModel):
    name: str
    when: dt.date
    inner: Model | None = None


class Struct(msgspec.Struct, rename="camel"):
    some_field: int


class Tagged(msgspec.Struct, tag="t"):
    a: int


class Arrayed(msgspec.Struct, array_like=True, tag=True):
    a: int


class Text(str):
    __slots__ = ()


RECORDS = {
    "dataclass": (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
    "enum": ([Colour.RED, Name.ANN], [1, "ann"]),
    "enum as key": ({Name.ANN: 1}, {"ann": 1}),
    "named tuple": (Pair(1, Point(2)), (1, {"x": 2, "y": None})),
    "pydantic": (
        Model(name="a", when=dt.date(2024, 1, 2), inner=Model(name="b", when=dt.date(2024, 1, 3))),
        {
            "name": "a",
            "when": dt.date(2024, 1, 2),
            "inner": {"name": "b", "when": dt.date(2024, 1, 3), "inner": None},
        },
    ),
    "struct": (Struct(1), {"someField": 1}),
    "tagged struct": (Tagged(1), {"type": "t", "a": 1}),
    "array struct": (Arrayed(1), ["Arrayed", 1]),
    "subclasses": (
        [Text("a"), collections.defaultdict(list, a=[1]), np.float64(1.5)],
        ["a", {"a": [1]}, 1.5],
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_go_as_their_data_only_when_asked(name):
    record, data = RECORDS[name]
    assert same(back(record, lossy=True), data)
    with pytest.raises(UnsupportedValue, match=r"annotate the function's return type or pass returns="):
        encode_value(record)


def test_a_deep_record_uses_one_level_for_each_record():
    value: object = None
    for _ in range(32):
        value = Point(1, value)
    assert back(value, lossy=True)["x"] == 1
    with pytest.raises(UnsupportedValue, match="too deep"):
        encode_value(Point(1, value), lossy=True)


def cycle() -> object:
    items: list[object] = []
    items.append({"again": items})
    return items


def record_cycle() -> object:
    point = Point(1)
    point.y = point
    return point


REFUSED = {
    "dataclass in a list in a dict": (
        {"items": [1, 2, 3, Point(1)]},
        r"result\['items'\]\[3\] is a dataclass Point: annotate the function's return type or pass returns=Point",
    ),
    "generator": ((item for item in ""), "result is a generator: return list"),
    "lock": ([threading.Lock()], r"result\[0\] is a lock: it belongs to the process"),
    "module": (math, "a module"),
    "function": (same, "a function same: call it"),
    "builtin": (print, "a function: call it"),
    "class": (Point, "a class Point"),
    "exception": (ValueError("x"), "an exception ValueError: raise it"),
    "array": ({"a": np.zeros(3)}, r"result\['a'\] is a numpy array: return its \.tolist"),
    "array scalar": (np.int64(3), r"a numpy int64: return its \.item"),
    "float scalar": (np.float64(3), r"a subclass of float, float64: return its \.item"),
    "in a set": ({frozenset({Colour.RED})}, r"result \(an element\) \(an element\) is an Enum member Colour"),
    "as a key": ({1: 2, Colour.RED: 3}, r"result \(a key\) is an Enum"),
    "under an int key": ({1: [Colour.RED]}, r"result\[1\]\[0\] is an Enum"),
    "under a long key": ({"k" * 99: [Colour.RED]}, r"result\['k+\.\.\.\]\[0\] is an Enum"),
    "dict views": ({1: 1}.keys(), "a view of a dict"),
    "iterator": (iter([1]), "an iterator"),
    "range": (range(3), "a range"),
    "memoryview": (memoryview(b"x"), "a memoryview: return bytes"),
    "windows path": (PureWindowsPath("c:/x"), "PureWindowsPath"),
    "foreign zone": (
        dt.datetime(
            2024, 1, 1, tzinfo=pydantic.TypeAdapter(dt.datetime).validate_python("2024-01-01T00:00:00Z").tzinfo
        ),
        "in a time zone of type TzInfo",
    ),
    "cycle": (cycle(), "is part of a cycle"),
    "deep": ([deep], "nested too deep: the limit is 32 levels"),
    "wide": ([0] * 50_000, "more than it may hold: the limit is 50000 values"),
    "huge int": (1 << (8 * 64 * 1024), "an int of 65537 bytes"),
    "huge exponent": (Decimal("1E10001"), "a Decimal too large"),
    "long decimal": (Decimal("1" * 10_001), "a Decimal too large"),
    "path with nul": (Path("a\0b"), "a path that is none"),
}


@pytest.mark.guarantee("R-20")
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_cross_is_refused_by_path_and_with_a_hint(name):
    value, text = REFUSED[name]
    with pytest.raises(UnsupportedValue, match=text) as caught:
        encode_value(value)
    assert caught.value.path.startswith("result")
    assert caught.value.hint
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("lossy", [False, True])
def test_a_cycle_through_records_is_refused(lossy):
    with pytest.raises(UnsupportedValue, match="part of a cycle" if lossy else "a dataclass"):
        encode_value(record_cycle(), lossy=lossy)


def test_a_foreign_zone_goes_as_its_offset_when_asked():
    moment = pydantic.TypeAdapter(dt.datetime).validate_python("2024-01-01T00:00:00+02:00")
    assert back(moment, lossy=True) == moment


def test_the_name_of_the_path_is_the_callers():
    with pytest.raises(UnsupportedValue, match=r"^args\[0\] is a lock"):
        encode_value([threading.Lock()], path="args")


def test_sizes_are_refused_before_anything_is_copied():
    shared = "x" * 1_000_000
    with pytest.raises(UnsupportedValue, match="too large: the limit is 10000000 bytes"):
        encode_value([shared] * 20_000, bytes_max=10_000_000)
    with pytest.raises(UnsupportedValue, match="too large"):
        encode_value([bytearray(1_000_000)] * 20_000, bytes_max=10_000_000)
    with pytest.raises(UnsupportedValue, match="too large"):
        encode_value([1 << 500_000] * 20_000, bytes_max=10_000_000)
    with pytest.raises(UnsupportedValue, match="too large") as caught:
        encode_value("x" * 11, bytes_max=10)
    assert caught.value.too_large
    with pytest.raises(UnsupportedValue, match="11 bytes long") as caught:
        encode_value("x" * 10, bytes_max=10)
    assert caught.value.too_large
    with pytest.raises(UnsupportedValue, match="lock") as caught:
        encode_value(threading.Lock())
    assert not caught.value.too_large


def test_lists_of_lists_are_counted_and_not_walked_for_ever():
    laughs: list[object] = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 10
    with pytest.raises(UnsupportedValue, match="more than it may hold"):
        encode_value(laughs)


@pytest.mark.slow
def test_what_the_reader_would_refuse_for_its_memory_is_refused_by_the_writer():
    value: list[dict[str, object]] = [{str(index): {}} for index in range(300_000)]
    with pytest.raises(UnsupportedValue, match="MiB of objects"):
        encode_value(value, nodes_max=1_000_000)
    with pytest.raises(UnsupportedValue, match="MiB of objects"):
        encode_value("\U0001f600" + "x" * (20 << 20))
    assert len(back("x" * (20 << 20))) == 20 << 20


@given(values)
@settings(max_examples=examples(200), deadline=None)
def test_what_was_encoded_fits_the_same_bounds(value: object):
    """The nodes that the writer counts are the nodes that the reader counts."""
    low, high = 1, 2000
    while low < high:  # the least budget with which the writer succeeds
        middle = (low + high) // 2
        try:
            encode_value(value, nodes_max=middle)
            high = middle
        except UnsupportedValue:
            low = middle + 1
    wire = encode_value(value, nodes_max=high)
    decode_value(wire, nodes_max=high)
    if high > 1:
        with pytest.raises(ProtocolBreach, match="too many"):
            decode_value(wire, nodes_max=high - 1)
