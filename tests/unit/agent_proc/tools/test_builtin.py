"""The table of the built-in tools: what a model is told, what is checked, in the contract's order, and the defaults."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.tools.builtin import BUILTIN, check_arguments
from procession.agent_proc.agent.tools.registry import ToolRegistry
from procession.agent_proc.agent.tools.spec import APIS
from procession.agent_proc.agent.tools.validation import ProblemCode
from procession.ipc.core.errors import InvalidRequest

TIERS = {
    "read_only": {"read_file", "list_directory", "glob", "grep", "recall"},
    "write": {"write_file", "edit_file", "multi_edit_file", "todo", "remember", "forget"},
    "execute": {"exec", "git", "python"},
}
RUNS = {
    "interpreter": {"python"},
    "agent": {"todo", "remember", "recall", "forget"},
}


def refusal(name: str, arguments: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check_arguments(name, arguments)
    return caught.value


def test_the_table_has_fourteen_tools_with_their_tiers_and_places() -> None:
    assert len(BUILTIN) == 14
    for name, tool in BUILTIN.items():
        assert tool.spec.name == name
        assert name in TIERS[tool.spec.tier]
        assert name in RUNS.get(tool.runs, BUILTIN.keys() - RUNS["interpreter"] - RUNS["agent"])


def test_both_apis_take_the_schemas_and_every_parameter_is_described() -> None:
    registry = ToolRegistry().register(*(tool.spec for tool in BUILTIN.values()))
    for api in APIS:
        assert json.loads(json.dumps(registry.schemas(api))) == registry.schemas(api)
    for tool in BUILTIN.values():
        assert tool.spec.description
        for schema in tool.spec.parameters["properties"].values():
            assert schema["description"].endswith(".")
    assert "- exec: " in registry.describe()
    assert "command (string or array, required)" in registry.describe()


@pytest.mark.parametrize(
    ("name", "arguments", "checked"),
    [
        ("read_file", {"path": "a"}, {"path": "a", "offset": 1, "limit": 2_000}),
        ("read_file", {"path": "a", "offset": None}, {"path": "a", "offset": 1, "limit": 2_000}),
        ("list_directory", {}, {"path": ".", "recursive": False}),
        ("glob", {"pattern": "*"}, {"pattern": "*", "path": "."}),
        (
            "grep",
            {"pattern": "x"},
            {
                "pattern": "x",
                "path": ".",
                "include": None,
                "ignore_case": False,
                "context": 0,
                "limit": 200,
            },
        ),
        ("exec", {"command": "x"}, {"command": "x", "cwd": ".", "env": None}),
        ("exec", {"command": ["x", ""], "env": {"A": ""}}, {"command": ["x", ""], "cwd": ".", "env": {"A": ""}}),
        ("git", {"subcommand": "log"}, {"subcommand": "log", "args": [], "allow_destructive": False}),
        ("todo", {"todos": []}, {"todos": []}),
        ("todo", {"todos": [{"content": "x", "owner": "me"}]}, {"todos": [{"content": "x", "owner": "me"}]}),
        ("remember", {"content": "x"}, {"content": "x", "memory_type": "fact", "confidence": 0.8}),
        ("recall", {}, {"query": None, "limit": 10, "min_confidence": 0.5, "mode": "text"}),
        ("forget", {"memory_id": "m"}, {"memory_id": "m", "reason": None, "replacement_id": None}),
    ],
)
def test_defaults_are_filled_in(name: str, arguments: dict[str, Any], checked: dict[str, Any]) -> None:
    assert check_arguments(name, arguments) == checked


def test_a_default_is_the_callers_own() -> None:
    check_arguments("git", {"subcommand": "log"})["args"].append("--all")
    assert check_arguments("git", {"subcommand": "log"})["args"] == []


@pytest.mark.contract("2.5 argument checks")
def test_problems_are_told_in_the_contracts_order_and_all_at_once() -> None:
    error = refusal("remember", {"memory_type": "x", "confidence": 2, "colour": "red"})
    assert error.code == "missing_parameter"
    told = [
        "content: is required",
        "colour: is no parameter",
        "memory_type: must be one of",
        "confidence: must be at most 1",
    ]
    places = [error.message.index(text) for text in told]
    assert places == sorted(places)
    assert error.hint == "remember takes content, memory_type (optional), confidence (optional)"
    assert refusal("remember", {"content": 1, "colour": 1}).code == "unknown_parameter"
    assert refusal("remember", {"content": 1, "memory_type": "x"}).code == "invalid_type"
    assert refusal("remember", {"content": "", "memory_type": "x"}).code == "invalid_choice"


@pytest.mark.contract("2.5 argument checks")
@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("remember", {"content": "é" * 1_001}, "invalid_value"),
        ("remember", {"content": "x", "confidence": float("nan")}, "invalid_value"),
        ("remember", {"content": "x", "confidence": -0.1}, "invalid_value"),
        ("remember", {"content": "x", "confidence": True}, "invalid_type"),
        ("remember", {"content": None}, "invalid_type"),
        ("recall", {"query": "é" * 501}, "invalid_value"),
        ("recall", {"limit": 0}, "invalid_value"),
        ("recall", {"limit": 51}, "invalid_value"),
        ("recall", {"limit": 1.0}, "invalid_type"),
        ("recall", {"mode": "vector"}, "invalid_choice"),
        ("forget", {"memory_id": "m", "reason": "é" * 251}, "invalid_value"),
        ("todo", {"todos": [{}]}, "missing_parameter"),
        ("todo", {"todos": [{"content": "x", "status": "done"}]}, "invalid_choice"),
        ("todo", {"todos": [{"content": "x"}] * 1_001}, "invalid_value"),
        ("todo", {"todos": {"content": "x"}}, "invalid_type"),
        ("exec", {"command": "x", "env": {str(n): "" for n in range(101)}}, "invalid_value"),
        (
            "multi_edit_file",
            {"path": "a", "edits": [{"old_string": "a", "new_string": "b", "all": True}]},
            "unknown_parameter",
        ),
        ("python", {"code": ""}, "invalid_value"),
        ("nothing", {}, "not_found"),
        ("read_file", None, "invalid_arguments"),
    ],
)
def test_what_the_schema_says_is_enforced(name: str, arguments: object, code: str) -> None:
    assert refusal(name, arguments).code == code


def test_bytes_are_counted_without_the_blanks_around_them() -> None:
    given_reason = "  " + "é" * 250 + "  "
    assert check_arguments("forget", {"memory_id": "m", "reason": given_reason})["reason"] == given_reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(BUILTIN)), st.data())
@settings(max_examples=examples(200), deadline=None)
def test_any_arguments_at_all_are_taken_or_refused_by_name(name: str, data: st.DataObject) -> None:
    known = list(BUILTIN[name].spec.parameters["properties"])
    arguments = data.draw(st.dictionaries(st.sampled_from(known) | st.text(max_size=5), _JSON, max_size=4))
    try:
        checked = check_arguments(name, arguments)
        code = None
    except InvalidRequest as refused:
        checked, code = {}, refused.code
    assert code in {None, *get_args(ProblemCode)}
    assert set(checked) == set(known if code is None else ())
