"""State ops: what each does, that the fold changes nothing it is given, and that encoding loses nothing."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.ipc.core import state_ops as so
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.state_op_types import OPS
from procession.ipc.core.state_ops import (
    AppendItems,
    AppendText,
    DeleteKeys,
    DeletePath,
    InvalidOp,
    PrependItems,
    PutEntry,
    RemoveItems,
    ReplaceState,
    SetPath,
    SetState,
    UpdateItem,
    apply,
    decode_ops,
    encode_ops,
    ops_bytes,
    state_bytes,
)

names = st.sampled_from(["a", "b", "c", "id", "\0t", ""])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.floats(allow_nan=False), st.binary(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=8,
)
maps = st.dictionaries(names, values, max_size=4)
items = st.lists(values | st.fixed_dictionaries({"id": st.integers(0, 3) | st.text("ab", max_size=1)}), max_size=4)
states = st.fixed_dictionaries(
    {}, optional={"a": maps, "b": items, "c": st.text(max_size=5), "id": st.fixed_dictionaries({"a": maps, "b": items})}
)
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
keeps = st.none() | st.integers(0, 5)
idents = st.integers(0, 3) | st.text("ab", max_size=1)
ops = st.one_of(
    st.builds(SetState, maps),
    st.builds(ReplaceState, maps),
    st.builds(DeleteKeys, st.lists(names, max_size=3).map(tuple)),
    st.builds(SetPath, paths, values),
    st.builds(DeletePath, paths),
    st.builds(AppendItems, paths, items.map(tuple), keeps),
    st.builds(PrependItems, paths, items.map(tuple), keeps),
    st.builds(UpdateItem, paths, names, idents, maps),
    st.builds(RemoveItems, paths, names, st.lists(idents, max_size=3).map(tuple)),
    st.builds(PutEntry, paths, names, values, st.none() | st.integers(1, 4)),
    st.builds(AppendText, paths, st.text(max_size=5)),
)
batches = st.lists(ops, max_size=6)


@pytest.mark.contract("2.2 ops are data")
@given(states, batches)
@settings(max_examples=examples(120), deadline=None)
def test_apply_changes_nothing_it_is_given(state, batch):
    before = copy.deepcopy((state, batch))
    try:
        after = apply(state, batch)
    except InvalidOp:
        pass
    else:
        assert after is not state
    assert (state, batch) == before


@given(states, batches, batches)
@settings(max_examples=examples(120), deadline=None)
def test_a_state_stays_as_it_was_while_later_ops_are_applied_to_it(state, first, second):
    try:
        middle = apply(state, first)
        kept = copy.deepcopy(middle)
        apply(middle, second)
    except InvalidOp:
        assume(False)
    assert middle == kept


@pytest.mark.contract("2.2 ops are data")
@given(batches)
@settings(max_examples=examples(120), deadline=None)
def test_encoding_loses_nothing(batch):
    wire = encode_ops(batch)
    assert decode_ops(wire) == batch
    assert encode_ops(decode_ops(wire)) == wire
    assert repr(decode_ops(wire)) == repr(batch)  # tuples stay tuples, and 1 is not True


@pytest.mark.contract("2.2 ops are data")
@given(states, batches)
@settings(max_examples=examples(120), deadline=None)
def test_the_journal_gives_the_state_that_the_session_has(state, batch):
    def outcome(batch, **options):
        try:
            return repr(apply(state, batch, **options))
        except InvalidOp as error:
            return error.index, error.reason

    assert outcome(decode_ops(encode_ops(batch)), checked=True) == outcome(batch)


@pytest.mark.contract("2.2 ops in order")
@given(states, st.lists(ops, max_size=3), ops)
@settings(max_examples=examples(120), deadline=None)
def test_one_at_a_time_is_the_same_as_all_at_once(state, batch, last):
    try:
        together = apply(state, [*batch, last])
    except InvalidOp:
        assume(False)
    assert apply(apply(state, batch), [last]) == together


@given(states, batches)
@settings(max_examples=examples(120), deadline=None)
def test_ops_add_no_more_bytes_than_they_say(state, batch):
    try:
        after = apply(state, batch)
    except InvalidOp:
        assume(False)
    assert state_bytes(after) <= state_bytes(state) + ops_bytes(batch)


@pytest.mark.contract("2.2 AppendItems")
@given(st.lists(st.tuples(items.map(tuple), st.integers(0, 5)), max_size=10))
@settings(max_examples=examples(120), deadline=None)
def test_a_bounded_list_keeps_its_bound_and_its_newest(appends):
    state: dict[str, Any] = {}
    model: list[object] = []
    for added, keep in appends:
        state = apply(state, [AppendItems(("m",), added, keep)])
        model = [*model, *added]
        model = model[len(model) - keep :] if len(model) > keep else model
        assert state["m"] == model
        assert len(state["m"]) <= keep


@pytest.mark.contract("2.2 PutEntry")
@given(st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=1), st.integers()), max_size=20), st.integers(1, 4))
@settings(max_examples=examples(120), deadline=None)
def test_a_bounded_map_keeps_the_entries_that_were_put_last(puts, keep):
    state: dict[str, Any] = {}
    model: dict[str, int] = {}
    for key, value in puts:
        state = apply(state, [PutEntry(("reads",), key, value, keep)])
        model.pop(key, None)
        model[key] = value
        model = dict(list(model.items())[-keep:])
        assert list(state["reads"].items()) == list(model.items())


ITEMS = [{"id": "1", "s": "pending"}, {"id": "2", "s": "pending", "d": {"x": 1}}, "loose", {"id": 1}, {"id": True}]
TABLE: dict[str, tuple[Any, Any, Any]] = {
    "merge is deep": (
        {"a": {"b": 1, "c": {"d": 2}}},
        SetState({"a": {"c": {"e": 3}}, "f": 4}),
        {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": 4},
    ),
    "merge replaces lists": ({"a": [1, 2]}, SetState({"a": [3]}), {"a": [3]}),
    "merge of nothing clears nothing": ({"a": {"b": 1}}, SetState({"a": {}}), {"a": {"b": 1}}),
    "merge of a map over a scalar": ({"a": 1}, SetState({"a": {"b": 1}}), {"a": {"b": 1}}),
    "replace": ({"a": 1}, ReplaceState({"b": 2}), {"b": 2}),
    "delete keys ignores missing": ({"a": 1, "b": 2}, DeleteKeys(("a", "z")), {"b": 2}),
    "set makes maps": ({}, SetPath(("a", "b", "c"), 1), {"a": {"b": {"c": 1}}}),
    "set clears": ({"a": {"b": 1}}, SetPath(("a",), {}), {"a": {}}),
    "set of none": ({"a": 1}, SetPath(("a",), None), {"a": None}),
    "delete": ({"a": {"b": 1, "c": 2}}, DeletePath(("a", "b")), {"a": {"c": 2}}),
    "delete at the top": ({"a": 1, "b": 2}, DeletePath(("a",)), {"b": 2}),
    "delete ignores missing": ({"a": {"b": 1}}, DeletePath(("a", "x", "y")), {"a": {"b": 1}}),
    "delete ignores what is under a scalar": ({"a": 1}, DeletePath(("a", "x")), {"a": 1}),
    "append makes the list": ({}, AppendItems(("a", "b"), (1,)), {"a": {"b": [1]}}),
    "append keeps the last": ({"a": [1, 2]}, AppendItems(("a",), (3, 4), 3), {"a": [2, 3, 4]}),
    "append of nothing trims": ({"a": [1, 2, 3]}, AppendItems(("a",), (), 2), {"a": [2, 3]}),
    "append keeping none": ({"a": [1]}, AppendItems(("a",), (2,), 0), {"a": []}),
    "prepend keeps the first": ({"a": [1, 2]}, PrependItems(("a",), (3, 4), 3), {"a": [3, 4, 1]}),
    "prepend keeping none": ({"a": [1]}, PrependItems(("a",), (2,), 0), {"a": []}),
    "update merges": (
        {"t": ITEMS},
        UpdateItem(("t",), "id", "2", {"s": "done", "d": {"y": 2}}),
        {"t": [ITEMS[0], {"id": "2", "s": "done", "d": {"x": 1, "y": 2}}, *ITEMS[2:]]},
    ),
    "update tells 1 from true": (
        {"t": ITEMS},
        UpdateItem(("t",), "id", 1, {"s": 0}),
        {"t": [*ITEMS[:3], {"id": 1, "s": 0}, ITEMS[4]]},
    ),
    "update takes the last": (
        {"t": [{"id": 1}, {"id": 1}]},
        UpdateItem(("t",), "id", 1, {"s": 0}),
        {"t": [{"id": 1}, {"id": 1, "s": 0}]},
    ),
    "remove": ({"t": ITEMS}, RemoveItems(("t",), "id", ("1", 1, "zz")), {"t": [ITEMS[1], "loose", {"id": True}]}),
    "remove from nothing": ({}, RemoveItems(("t",), "id", ("1",)), {}),
    "put moves to the end": ({"r": {"a": 1, "b": 2}}, PutEntry(("r",), "a", 3), {"r": {"b": 2, "a": 3}}),
    "text": ({"s": "Hello"}, AppendText(("s",), " World"), {"s": "Hello World"}),
    "text from nothing": ({}, AppendText(("s",), "x"), {"s": "x"}),
}  # fmt: skip


@pytest.mark.contract(
    "2.2 SetState",
    "2.2 ReplaceState",
    "2.2 DeleteKeys",
    "2.2 SetPath",
    "2.2 DeletePath",
    "2.2 AppendItems",
    "2.2 PrependItems",
    "2.2 UpdateItem",
    "2.2 RemoveItems",
    "2.2 PutEntry",
    "2.2 AppendText",
)
@pytest.mark.parametrize("name", TABLE)
def test_what_each_op_does(name):
    state, op, after = TABLE[name]
    assert repr(apply(state, [op])) == repr(after)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def wrong(value: Any) -> Any:
    """Say to the type checker that the mistake is meant."""
    return value


INVALID: dict[str, tuple[Any, Any, str]] = {
    "no path": ({}, SetPath((), 1), "1 to 16 parts, not 0"),
    "no path to delete": ({}, DeletePath(()), "1 to 16 parts"),
    "long path": ({}, SetPath(("a",) * 17, 1), "1 to 16 parts, not 17"),
    "a path of numbers": ({}, SetPath(wrong((1,)), 1), "a path must be"),
    "a path that is text": ({}, SetPath(wrong("ab"), 1), "a path must be"),
    "through a list": ({"a": []}, SetPath(("a", "b"), 1), r"\['a'\] is a list, not a map"),
    "through none": ({"a": None}, AppendItems(("a", "b"), ()), r"\['a'\] is a NoneType, not a map"),
    "append to a map": ({"a": {}}, AppendItems(("a",), (1,)), r"\['a'\] is a dict, not a list"),
    "prepend to a text": ({"a": ""}, PrependItems(("a",), (1,)), "not a list"),
    "remove from a text": ({"a": ""}, RemoveItems(("a",), "id", ()), "not a list"),
    "put in a list": ({"a": []}, PutEntry(("a",), "k", 1), "not a map"),
    "text on none": ({"a": None}, AppendText(("a",), "k"), "not a text"),
    "update what is not there": ({"a": []}, UpdateItem(("a",), "id", "x", {}), r"\['a'\] has no item whose id is 'x'"),
    "a negative bound": ({}, AppendItems(("a",), (), -1), "a number from 0"),
    "a map that keeps none": ({}, PutEntry(("a",), "k", 1, 0), "a number from 1"),
    "a function": ({}, SetPath(("a",), len), "is a function"),
    "a function deep inside": ({}, SetState({"a": [{"b": nested}]}), r"\['a'\]\[0\]\['b'\] is a function nested"),
    "a state that is none": ({}, ReplaceState(wrong([])), "a state must be a map"),
    "attrs with numbers": ({}, SetState(wrong({1: 2})), "attrs must be a map"),
    "found by a float": ({"a": []}, UpdateItem(("a",), "id", wrong(1.0), {}), "texts or integers"),
    "items in a list": ({}, AppendItems(("a",), wrong([1])), "items must be a tuple"),
    "too deep for its place": ({}, SetPath(("a",) * 16, nested(17)), "deeper than 32 levels"),
    "items too deep": ({}, AppendItems(("a",) * 16, (nested(16),)), "deeper than 32 levels"),
    "no op": ({}, "SetState", "a str is no op"),
}


@pytest.mark.contract("2.2 ops in order")
@pytest.mark.parametrize("name", INVALID)
def test_an_op_that_cannot_be_applied_names_itself_and_applies_none(name):
    state, op, reason = INVALID[name]
    before = copy.deepcopy(state)
    with pytest.raises(InvalidOp, match=reason) as caught:
        apply(state, [SetPath(("first",), 1), op])
    assert caught.value.index == 1
    assert state == before


def test_the_deepest_state_can_be_written_and_read():
    state = apply({}, [SetPath(("a",) * 16, nested(16))])
    assert state_bytes(state) > 0
    with pytest.raises(InvalidOp, match="deeper"):
        apply({}, [SetPath(("a",) * 16, nested(17))])


@pytest.mark.slow
def test_a_cycle_and_a_bomb_are_refused():
    loop: list[object] = []
    loop.append(loop)
    laughs: object = "ha"
    for _ in range(20):
        laughs = [laughs] * 10
    for value in (loop, laughs):
        with pytest.raises(InvalidOp) as caught:
            encode_ops([SetPath(("a",), 1), SetPath(("a",), value)])
        assert caught.value.index == 1


def test_too_many_ops_are_refused():
    with pytest.raises(InvalidOp, match="more than 1000"):
        encode_ops([DeletePath(("a",))] * 1001)


def test_unchanged_parts_are_shared():
    state = {"a": {"x": [1]}, "b": {"y": [2]}}
    after = apply(state, [SetPath(("a", "x"), 3)])
    assert after["b"] is state["b"]


HOSTILE = {
    "no list": {"a": 1},
    "a number": 7,
    "an unknown op": [["exec", "code"]],
    "an op without its fields": [["set", ["a"]]],
    "an op with one more": [["delete", ["a"], 1]],
    "an empty path": [["delete", []]],
    "a path of numbers": [["delete", [1]]],
    "a text for a map": [["merge", "x"]],
    "a negative bound": [["append", ["a"], [], -1]],
    "a bool for a bound": [["append", ["a"], [], True]],
    "found by a float": [["update", ["a"], "id", 1.5, {}]],
    "too many": [["delete", ["a"]]] * 1001,
    "deeper than a state": [["set", ["a"] * 16, nested(17)]],
}


@pytest.mark.guarantee("R-44")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ops_are_a_breach(name):
    with pytest.raises(ProtocolBreach):
        decode_ops(msgspec.msgpack.encode(HOSTILE[name]))


def test_the_reasons_of_ops_fit_one_line():
    assert str(InvalidOp(2, "why")) == "op 2: why"


def test_every_op_is_in_the_fold():
    assert set(so._APPLY) == set(so.Op.__subclasses__()) == OPS
