"""Tool calls in model replies: every shape of both APIs, and every bound on what a stranger may send."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.tools.calls import (
    ARGUMENTS_BYTES_MAX,
    ARGUMENTS_DEPTH_MAX,
    CALLS_MAX,
    ID_CHARS_MAX,
    ToolCall,
    parse_tool_calls,
)
from procession.ipc.core.bounds import BODY_NODES_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import AppendItems, apply, encode_ops
from procession.ipc.core.tool_tiers import TOOL_NAME_CHARS_MAX

ARGUMENTS = {"path": "a", "lines": [1, 2.5, None, True]}
TYPED = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": json.dumps(ARGUMENTS)}}
MAPPED = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": ARGUMENTS}}
DIRECT = {"id": "c1", "name": "read", "arguments": json.dumps(ARGUMENTS)}
BLOCK = {"type": "tool_use", "id": "c1", "name": "read", "input": ARGUMENTS}
TEXT = {"type": "text", "text": "I will read it."}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "x"}

ONE = [ToolCall(id="c1", name="read", arguments=ARGUMENTS)]


def parsed(reply: object) -> list[ToolCall]:
    numbers = itertools.count()
    return parse_tool_calls(reply, new_id=lambda: f"new{next(numbers)}")


def refusal(reply: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(reply)
    return caught.value


def call(arguments: object) -> dict[str, object]:
    return {"id": "c1", "name": "read", "arguments": arguments}


class Dumped:
    """An object of an API's package."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def model_dump(self) -> dict[str, Any]:
        return self.data


@pytest.mark.contract("2.5 parse")
@pytest.mark.parametrize("one", [TYPED, MAPPED, DIRECT, Dumped(TYPED)], ids=["typed", "mapped", "direct", "object"])
def test_openai_shapes(one):
    message = {"role": "assistant", "content": None, "tool_calls": [one]}
    reply = {"id": "r", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    for shape in (reply, Dumped(reply), message, {"tool_calls": [one]}, {"tool_calls": one}, [one], (one,), one):
        assert parsed(shape) == ONE


@pytest.mark.contract("2.5 parse")
@pytest.mark.parametrize("block", [BLOCK, Dumped(BLOCK)], ids=["block", "object"])
def test_anthropic_shapes(block):
    reply = {
        "id": "r",
        "type": "message",
        "role": "assistant",
        "content": [THOUGHT, TEXT, block],
        "stop_reason": "tool_use",
    }
    for shape in (reply, Dumped(reply), {"role": "assistant", "content": [block]}, [TEXT, block], [block], block):
        assert parsed(shape) == ONE


def test_a_list_of_either_keeps_its_order():
    other = {**BLOCK, "id": "c2", "input": {}}
    assert [one.id for one in parsed([{"tool_calls": [TYPED]}, {"content": [TEXT, other]}])] == ["c1", "c2"]
    assert [one.id for one in parsed([other, DIRECT])] == ["c2", "c1"]


def test_only_the_first_choice_counts():
    choices = [{"message": {"tool_calls": [TYPED]}}, {"message": {"tool_calls": [{**TYPED, "id": "c2"}]}}]
    assert parsed({"choices": choices}) == ONE


@pytest.mark.parametrize("nothing", [None, "", "{}", {}])
def test_no_arguments_are_no_arguments(nothing):
    assert parsed(call(nothing)) == [ToolCall(id="c1", name="read")]
    assert parsed({"id": "c1", "name": "read"}) == [ToolCall(id="c1", name="read")]


def test_a_call_without_an_id_gets_one():
    without = {"function": {"name": "read", "arguments": {}}}
    assert [one.id for one in parsed({"tool_calls": [without, without]})] == ["new0", "new1"]


@pytest.mark.contract("2.5 parse")
@pytest.mark.parametrize(
    "reply",
    [
        *(None, "", "text", 3, [], {}, [TEXT], TEXT),
        {"role": "assistant", "content": "hi"},
        {"role": "user", "name": "ann", "content": [TEXT]},
        {"tool_calls": []},
        {"tool_calls": None, "content": "hi"},
        *({"choices": none} for none in ([], None, [3], [{"message": {"content": "hi"}}])),
    ],
    ids=repr,
)
def test_a_reply_without_calls(reply):
    error = refusal(reply)
    assert error.code == "no_tool_calls"
    assert error.hint


@pytest.mark.contract("2.5 parse")
@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"tool_calls": ["x"]}, "a call is a mapping"),
        ({"tool_calls": [{"type": "custom", "id": "c"}]}, "no call of type 'custom'"),
        ({"id": "c1"}, "it needs a name"),
        ({"id": "c1", "function": "read"}, "its function is a str"),
        ({"id": "c1", "function": {}}, "it needs a name"),
        ({"name": ""}, "it needs a name"),
        ({"name": 3}, "it needs a name"),
        ({"name": "\ud800"}, "it needs a name"),
        ({"name": "a" * (TOOL_NAME_CHARS_MAX + 1)}, "it needs a name"),
        ({"id": "", "name": "a"}, "its id is not"),
        ({"id": 3, "name": "a"}, "its id is not"),
        ({"id": "a" * (ID_CHARS_MAX + 1), "name": "a"}, "its id is not"),
        (call("{"), "are not JSON"),
        (call("[1]"), "are a list"),
        (call([1]), "are a list"),
        (call(3), "are a int"),
        (call('{"a": NaN}'), "no number of JSON"),
        (call('{"a": 1e999}'), "no number of JSON"),
        (call({"a": float("inf")}), "no number of JSON"),
        (call('{"a": "\\ud800"}'), "not Unicode"),
        (call({"\ud800": 1}), "not Unicode"),
        (call({"a": b"x"}), "hold a bytes"),
        (call({"a": object()}), "hold a object"),
        (call({1: 2}), "a int for a name"),
        (call('{"a": ' + "9" * 5_000 + "}"), "are not JSON"),
        ([TYPED, DIRECT], "two calls have the id 'c1'"),
    ],
)
def test_a_wrong_call_refuses_the_reply_and_says_why(reply, why):
    error = refusal(reply)
    assert error.code == "invalid_tool_call"
    assert why in error.message


def test_a_refusal_says_which_call_it_is_and_what_to_answer():
    error = refusal([TYPED, {**DIRECT, "id": "c2", "arguments": "{not json"}])
    assert "call 2 (id 'c2') of read: its arguments are not JSON" in error.message
    assert "nothing of the reply is run" in error.hint
    assert error.__suppress_context__  # the parser's own error says nothing more
    assert "call 1 of read:" in refusal({"name": "read", "arguments": "{"}).message
    assert "call 2: its id is not" in refusal([TYPED, {"id": 3, "name": "read"}]).message


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_the_count_of_calls_is_bounded():
    calls = [{**DIRECT, "id": f"c{n}"} for n in range(CALLS_MAX + 1)]
    assert len(parsed(calls[:-1])) == CALLS_MAX
    assert "more than 128 calls" in refusal(calls).message


@pytest.mark.parametrize("form", [json.dumps, lambda value: value], ids=["text", "mapping"])
def test_the_depth_of_arguments_is_bounded(form):
    assert parsed(call(form(nested(ARGUMENTS_DEPTH_MAX))))
    assert "nested more than 24 deep" in refusal(call(form(nested(ARGUMENTS_DEPTH_MAX + 1)))).message


def test_the_deepest_arguments_still_fit_into_a_state():
    deepest = parsed(call(nested(ARGUMENTS_DEPTH_MAX)))[0].arguments
    op = AppendItems(("messages",), ({"content": [{"input": deepest}]},), 10)
    assert apply({}, [op])
    assert encode_ops([op])


@pytest.mark.parametrize("form", [json.dumps, lambda value: value], ids=["text", "mapping"])
def test_the_size_of_arguments_is_bounded_over_all_calls(form):
    half = "x" * (ARGUMENTS_BYTES_MAX // 2)
    calls = [{"id": f"c{n}", "name": "w", "arguments": form({"a": half})} for n in range(2)]
    assert parsed(calls[0])
    assert "larger than" in refusal(calls).message
    assert "larger than" in refusal(call(form({half: half}))).message
    assert "larger than" in refusal(call("x" * (ARGUMENTS_BYTES_MAX + 1))).message  # before it is parsed
    assert "larger than" in refusal(call(form({"a": "é" * (ARGUMENTS_BYTES_MAX // 2)}))).message


def test_the_number_of_values_is_bounded_over_all_calls():
    some = [0] * (BODY_NODES_MAX // 2)
    calls = [{"id": f"c{n}", "name": "w", "arguments": {"a": some}} for n in range(2)]
    assert parsed(calls[0])
    assert f"more than {BODY_NODES_MAX} values" in refusal(calls).message


@pytest.mark.parametrize(
    "hostile",
    [
        call("[" * 1_000_000),
        call('{"a":' * 150_000),
        call("9" * 1_000_000),
        call("x" * 10_000_000),
        [[[[[[[TYPED]]]]]]],
        [TEXT] * 1_000_000,
        {"tool_calls": [TYPED] * 1_000_000},
        {"content": [{"content": [{"content": [{"content": [{"content": [BLOCK]}]}]}]}]},
    ],
    ids=["brackets", "braces", "digits", "long", "lists", "texts", "calls", "contents"],
)
def test_a_hostile_reply_is_refused(hostile):
    assert refusal(hostile).code == "invalid_tool_call"


def test_a_reply_that_holds_itself_is_refused():
    looped: list[object] = []
    looped.append(looped)
    arguments: dict[str, object] = {}
    arguments["a"] = arguments
    assert refusal(looped).code == "invalid_tool_call"
    assert refusal(call(arguments)).code == "invalid_tool_call"


def test_what_comes_out_is_a_copy():
    mine: dict[str, Any] = {"a": [1], "b": (2,)}
    arguments = parsed(call(mine))[0].arguments
    arguments["a"].append(2)
    assert mine == {"a": [1], "b": (2,)}
    assert arguments["b"] == [2]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(["id", "type", "function", "name", "arguments", "input", "tool_calls", "content", "choices"])
replies = st.recursive(
    st.none() | st.sampled_from(["function", "tool_use", "text", "read", "{}", "{"]) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.just("message"), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
@settings(max_examples=examples(100), deadline=None)
def test_arguments_come_out_as_they_were_written(arguments):
    assert parsed(call(arguments))[0].arguments == arguments
    assert parsed(call(json.dumps(arguments)))[0].arguments == arguments
    assert parsed({**BLOCK, "input": arguments})[0].arguments == arguments


@given(replies)
@settings(max_examples=examples(200), deadline=None)
def test_any_reply_gives_calls_or_one_of_two_codes(reply):
    try:
        calls = parsed(reply)
    except InvalidRequest as error:
        code = error.code
    else:
        code = "calls"
        assert all(one.id and one.name for one in calls)
    assert code in {"calls", "no_tool_calls", "invalid_tool_call"}
