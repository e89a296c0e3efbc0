"""Results of tool calls: the text a model reads, and the messages of both APIs."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from pydantic import BaseModel

from procession.agent_proc.agent.tools.calls import ToolCall
from procession.agent_proc.agent.tools.results import (
    CONTENT_CHARS_MAX,
    ToolResult,
    content_of,
    error_result,
    ok_result,
    tool_messages,
)
from procession.ipc.core.errors import CallTimedOut, InvalidRequest, ToolRaised, ToolTimedOut

CALL = ToolCall(id="c1", name="read")


class Colour(Enum):
    RED = "red"


class Place(BaseModel):
    name: str
    at: Path = Path("a")


@dataclass
class Size:
    width: int


@pytest.mark.contract("2.5 result")
def test_a_value_makes_an_ok_result():
    assert ok_result(CALL, "text", 12) == ToolResult(
        tool_call_id="c1", tool_name="read", status="ok", content="text", duration_ms=12
    )


@pytest.mark.contract("2.5 result")
@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("text", "text"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}'),
        ([], "[]"),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
        (dt.date(2025, 1, 2), '"2025-01-02"'),
        (Decimal("1.50"), '"1.50"'),
        (Colour.RED, '"red"'),
        (Path("a/b"), '"a/b"'),
        (b"ab", '"YWI="'),
        (Size(1), '{"width":1}'),
        (Place(name="b"), '{"name":"b","at":"a"}'),
        ([Place(name="b")], '[{"name":"b","at":"a"}]'),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (1j, "1j"),
    ],
    ids=repr,
)
def test_a_text_stays_and_the_rest_becomes_json(value, content):
    assert content_of(value) == content


def test_a_value_too_deep_for_json_is_still_told():
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    assert content_of(deep).startswith("[[[")


@pytest.mark.contract("2.5 result")
@pytest.mark.parametrize(
    ("error", "status", "content"),
    [
        ("no such file", "error", "no such file"),
        (InvalidRequest("wrong", hint="do this"), "error", "wrong (hint: do this)"),
        (ToolRaised("ValueError: bad"), "error", "ValueError: bad"),
        (ToolTimedOut("over"), "timeout", "over"),
        (CallTimedOut("over"), "timeout", "over"),
        (FileNotFoundError("a"), "error", "FileNotFoundError: a"),
        (TimeoutError(), "timeout", "TimeoutError"),
        (KeyError("a"), "error", "KeyError: 'a'"),
    ],
    ids=repr,
)
def test_an_error_makes_an_error_or_a_timeout(error, status, content):
    result = error_result(CALL, error, 3)
    assert (result.status, result.content, result.duration_ms) == (status, content, 3)
    assert result.text == f"Error: {content}"
    assert not result.is_ok


def test_a_long_content_is_cut_and_says_so():
    exact = ok_result(CALL, "é" * CONTENT_CHARS_MAX)
    assert len(exact.content) == CONTENT_CHARS_MAX
    over = ok_result(CALL, "é" * (CONTENT_CHARS_MAX + 7))
    assert over.content.endswith("é\n... (7 more characters were cut)")
    assert len(error_result(CALL, "x" * 2 * CONTENT_CHARS_MAX).text.encode()) < 4 * 1024 * 1024


RESULTS = [ok_result(CALL, {"a": 1}), error_result(ToolCall(id="c2", name="exec"), ToolTimedOut("over"))]


@pytest.mark.contract("2.5 result")
def test_openai_wants_a_message_for_each_result():
    assert tool_messages(RESULTS, "openai") == [
        {"role": "tool", "tool_call_id": "c1", "content": '{"a":1}'},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: over"},
    ]


@pytest.mark.contract("2.5 result")
def test_anthropic_wants_one_message_with_all_results():
    assert tool_messages(RESULTS, "anthropic") == [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"a":1}'},
                {"type": "tool_result", "tool_use_id": "c2", "content": "Error: over", "is_error": True},
            ],
        }
    ]


def test_no_results_are_no_messages_and_other_apis_are_unknown():
    assert tool_messages([], "openai") == tool_messages([], "anthropic") == []
    with pytest.raises(InvalidRequest, match="use one of openai, anthropic") as caught:
        tool_messages([], "mistral")  # type: ignore[arg-type]
    assert caught.value.code == "unknown_api"


def test_a_result_is_plain_data():
    assert json.loads(json.dumps(RESULTS[1].asdict())) == {
        "tool_call_id": "c2",
        "tool_name": "exec",
        "status": "timeout",
        "content": "over",
    }
