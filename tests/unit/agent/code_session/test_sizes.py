"""Sizes: an element's is an upper bound of what readers count, budgets are held, and what is accepted can be read back."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.code_session import Played
from helpers.counts import examples
from procession.agent_proc.agent.code_session import sizes
from procession.agent_proc.agent.code_session.bounds import ELEMENT_DEPTH_MAX, STATE_RESERVE_BYTES
from procession.agent_proc.agent.code_session.sizes import size_of
from procession.agent_proc.agent.code_session.state import Budgets
from procession.ipc.core.bounds import RESULT_NODES_MAX, RESULT_OBJECT_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.prescan import measure
from procession.ipc.core.state_ops import decode_ops, encode_ops, state_bytes
from procession.ipc.core.values import decode_value, encode_value

SMALL = Budgets(element_bytes_max=100_000, state_bytes_max=1 << 20)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=8),
    st.text("äö語🦀", max_size=40),
    st.binary(max_size=8),
    st.datetimes(timezones=st.sampled_from([dt.UTC, None, ZoneInfo("Europe/Berlin")])),
    st.decimals(allow_nan=False, min_value=-(10**9), max_value=10**9),
    st.uuids(),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


@given(values)
@example(2**64)
@example(2**64 - 1)
@example(-(2**63))
@example(-(2**63) - 1)
@example({1: 2})
@example({"\0t": []})
@settings(max_examples=examples(200), deadline=None)
def test_a_size_is_at_least_what_a_reader_counts(value: object):
    data = encode_value(value)
    nodes, objects_bytes = measure(data, depth_max=80)
    written, held = size_of(value)
    assert held >= max(len(data), objects_bytes, nodes * (RESULT_OBJECT_BYTES_MAX // RESULT_NODES_MAX))
    assert written >= len(data) - 40 * nodes  # tags are small change; no text is missing
    assert held >= written - 9 * nodes


@given(values)
@settings(max_examples=examples(100), deadline=None)
def test_what_came_back_from_a_journal_has_the_size_that_it_had(value: object):
    assert size_of(decode_value(encode_value(value))) == size_of(value)


@pytest.mark.parametrize("text", ["", "x" * 5_000, "ä" * 500, "語🦀" * 500])
def test_a_text_is_written_in_the_bytes_of_its_utf8(text: str):
    assert size_of(text).written_bytes == len(text.encode()) + 9


@pytest.mark.parametrize(
    "field", [{}, {"metadata": {"a": {"b": ["x", 1]}}}, {"metadata": {"t": (1, 2), "d": Decimal(1), "n": 10**30}}]
)
def test_an_element_is_taken_up_to_its_budget_and_not_beyond(field: dict[str, object]):
    session = Played(SMALL)
    made = session.change("append_message", message={"role": "user", "content": "", **field}).reply
    room = 100_000 - size_of(made).written_bytes
    session.refusal(
        "message_too_large", "append_message", message={"role": "user", "content": "x" * (room + 1), **field}
    )
    session.do("append_message", message={"role": "user", "content": "x" * room, **field})


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("append_message", {"message": {"role": "user", "content": "x" * 100_000}}),
        ("prepend_message", {"message": {"role": "user", "content": "x" * 100_000}}),
        ("set_messages", {"messages": [{"role": "user", "content": "x" * 100_000}]}),
        ("append_message", {"message": {"role": "user", "content": "", "data": [0] * 100_000}}),
        ("append_message", {"message": {"role": "user", "content": "", "data": (0,) * 100_001}}),
        ("append_message", {"message": {"role": "user", "content": "", "data": {str(n): n for n in range(10_000)}}}),
        ("add_reasoning_step", {"step": {"content": "x" * 100_000}}),
        ("add_tool_call", {"tool_call": {"name": "read", "arguments": {"x": "x" * 100_000}}}),
        ("update_todos", {"todos": [{"content": "x" * 100_000}]}),
        ("add_todo", {"todo": {"content": "x" * 100_000}}),
        ("add_to_prompt_history", {"prompt": "x" * 100_000}),
        ("set_prompt_history", {"prompts": ["x" * 100_000]}),
        ("update_context", {"key": "framework", "value": "x" * 100_000}),
        (
            "add_pending_memory",
            {"item": {"content": "x" * 100_000, "memory_type": "fact", "confidence": 1, "source_type": "user"}},
        ),
    ],
)
def test_every_collection_refuses_an_element_that_is_too_large(name: str, params: dict[str, Any]):
    error = Played(SMALL).refusal("message_too_large", name, **params)
    assert isinstance(error, MessageTooLarge)
    assert "100000 bytes" in str(error)


def test_updates_are_held_to_the_same():
    session = Played(SMALL)
    session.do("add_tool_call", tool_call={"id": "c1", "name": "read"})
    session.do("add_todo", todo={"id": "t1", "content": "x"})
    large = "x" * 100_000
    session.refusal("message_too_large", "update_tool_call", id="c1", status="completed", result=large)
    session.refusal("message_too_large", "update_todo", id="t1", content=large)


def test_data_that_would_be_endless_work_are_refused_at_once():
    bomb: list[object] = []
    for _ in range(20):
        bomb = [bomb] * 1_000
    Played().refusal("message_too_large", "append_message", message={"role": "user", "content": "", "data": bomb})


@pytest.mark.parametrize(("levels", "fits"), [(ELEMENT_DEPTH_MAX - 2, True), (ELEMENT_DEPTH_MAX - 1, False)])
def test_an_element_nests_so_deep_and_no_deeper(levels: int, fits: bool):
    deep: object = 1
    for _ in range(levels):  # in metadata, in the message
        deep = [deep]
    session = Played()
    if fits:
        session.do("append_message", message={"role": "user", "content": "", "deep": deep})
    else:
        with pytest.raises(InvalidRequest, match="nested too deep"):
            session.change("append_message", message={"role": "user", "content": "", "deep": deep})


def test_the_state_is_taken_up_to_its_budget_and_says_what_fills_it():
    session = Played(SMALL)
    message = {"role": "user", "content": "x" * 90_000}
    for _ in range(((1 << 20) - STATE_RESERVE_BYTES) // 91_500):
        session.do("append_message", message=message)
    error = session.refusal("state_too_large", "append_message", message=message)
    assert "most of it is messages" in error.hint
    session.refusal("state_too_large", "set_messages", messages=[message] * 12)
    session.do("clear_messages")
    session.do("append_message", message=message)


def test_a_full_state_still_takes_what_makes_it_smaller():
    session = Played(SMALL)
    texts = ["x" * 90_000] * 10
    session.do("set_prompt_history", prompts=texts)
    session.refusal("state_too_large", "add_to_prompt_history", prompt="x" * 90_000)
    session.do("set_prompt_history", prompts=texts[:9])
    session.do("add_to_prompt_history", prompt="x" * 90_000)


def test_a_state_above_a_budget_that_was_lowered_can_be_made_smaller():
    session = Played()
    texts = ["x" * 900_000] * 3
    session.do("set_prompt_history", prompts=texts)
    session.state = {**session.state, "budgets": {"element_bytes_max": 1 << 20, "state_bytes_max": 1 << 20}}
    smaller = session.change("set_prompt_history", prompts=texts[:2])
    assert smaller.reply == texts[:2]
    session.refusal("state_too_large", "add_to_prompt_history", prompt="x")


@pytest.mark.parametrize(
    "filler",
    [[0] * 10_000, [[]] * 5_000, [{}] * 3_000, ["語" * 300] * 10, {"k" * 100: "x" * 30_000}],
    ids=["ints", "lists", "maps", "wide", "text"],
)
def test_a_state_at_its_budget_can_be_written_and_read_back(filler: object):
    session = Played(Budgets(state_bytes_max=4 << 20))
    endless = itertools.repeat({"message": {"role": "user", "content": "", "data": filler}})
    with pytest.raises(MessageTooLarge):
        session.fill("append_message", endless)
    assert state_bytes(session.state) <= 4 << 20
    data = encode_value(dict(session.state), nodes_max=RESULT_NODES_MAX // 16)
    nodes, objects_bytes = measure(data, nodes_max=RESULT_NODES_MAX)
    assert nodes <= RESULT_NODES_MAX // 16
    assert objects_bytes <= 4 << 20
    assert max(len(data), objects_bytes, 68 * nodes) > 3 << 19  # and the budget was of some use


def test_ops_of_the_largest_message_survive_the_journal():
    session = Played()
    message = {"role": "user", "content": "x" * ((4 << 20) - 1_000)}
    ops = session.change("append_message", message=message).ops
    assert tuple(decode_ops(encode_ops(ops))) == ops


@given(st.dictionaries(st.text(max_size=3), st.one_of(values, st.just({})), max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_the_short_way_for_flat_maps_comes_to_the_same(value: dict[str, object]):
    short = sizes._flat(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "_FLAT_ITEMS_MAX", -1)
        assert short in (None, size_of(value))
