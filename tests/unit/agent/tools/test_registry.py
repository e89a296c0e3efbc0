"""The registry of tools: an immutable value, sorted, with a code for each refusal; schemas and text of what it holds."""

import copy
from enum import Enum
from typing import Literal

import msgspec
import pytest

from procession.agent_proc.agent.tools.define import define, definition_of, tool
from procession.agent_proc.agent.tools.registry import TOOLS_MAX, ToolRegistry
from procession.agent_proc.agent.tools.spec import ToolSpec, tool_schemas
from procession.ipc.core.errors import InvalidRequest


class Choice(Enum):
    A = "a"
    B = "b"
    C = "c"


def spec(name: str) -> ToolSpec:
    return ToolSpec(name=name, parameters={"type": "object", "properties": {}})


@tool(tier="read_only")
def find(text: str, kind: str | None = None, limit: int = 3) -> list[str]:
    """Find a text.

    Args:
        text: what to find
    """
    return [text, str(kind)][:limit]


FIND = definition_of(find).spec


def code_of(act, *arguments: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        act(*arguments)
    return caught.value.code


@pytest.mark.contract("2.5 registry")
def test_tools_are_listed_by_name_and_counted():
    registry = ToolRegistry().register(spec("b"), spec("c")).register(spec("a"))
    assert [one.name for one in registry.list_tools()] == ["a", "b", "c"]
    assert len(registry) == 3
    assert "b" in registry
    assert "z" not in registry
    assert repr(registry) == "<ToolRegistry a, b, c>"


def test_a_registry_never_changes():
    empty = ToolRegistry()
    one = empty.register(spec("a"))
    assert (len(empty), len(one), len(one.clear()), len(one.unregister("a")), len(one)) == (0, 1, 0, 0, 1)
    assert one == ToolRegistry().register(spec("a"))


@pytest.mark.contract("2.5 registry")
def test_a_name_is_registered_once():
    registry = ToolRegistry().register(spec("a"))
    assert code_of(registry.register, spec("a")) == "already_registered"
    assert code_of(ToolRegistry().register, spec("a"), spec("a")) == "already_registered"


@pytest.mark.contract("2.5 registry")
@pytest.mark.parametrize("given", [find, definition_of(find), "find", {"name": "find"}, None])
def test_what_is_no_description_of_a_tool_is_not_registered(given):
    assert code_of(ToolRegistry().register, given) == "invalid_tool"


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": "array", "properties": {}}, [], None])
def test_a_description_needs_a_schema_of_an_object(parameters):
    assert code_of(lambda: ToolSpec(name="a", parameters=parameters)) == "invalid_tool"


@pytest.mark.contract("2.5 registry")
def test_an_unknown_tool_is_not_found_and_near_names_are_told():
    registry = ToolRegistry().register(spec("read_file"), spec("write"))
    assert registry.get("write") == spec("write")
    with pytest.raises(InvalidRequest, match="did you mean read_file") as caught:
        registry.get("read_fil")
    assert caught.value.code == "not_found"
    assert code_of(registry.unregister, "zzz") == "not_found"
    with pytest.raises(InvalidRequest, match="there are 0 tools: none"):
        ToolRegistry().get("a" * 10_000)


def test_there_are_at_most_as_many_tools_as_a_model_can_be_given():
    registry = ToolRegistry().register(*(spec(f"t{n}") for n in range(TOOLS_MAX)))
    assert len(registry) == TOOLS_MAX
    assert code_of(registry.register, spec("one_more")) == "too_many_tools"


@pytest.mark.contract("2.5 schema")
def test_openai_takes_functions_and_anthropic_input_schemas():
    registry = ToolRegistry().register(FIND, spec("a"))
    assert registry.schemas("openai") == [
        {"type": "function", "function": {"name": "a", "parameters": {"type": "object", "properties": {}}}},
        {
            "type": "function",
            "function": {"name": "find", "description": "Find a text.", "parameters": FIND.parameters},
        },
    ]
    assert registry.schemas("anthropic") == [
        {"name": "a", "input_schema": {"type": "object", "properties": {}}},
        {"name": "find", "description": "Find a text.", "input_schema": FIND.parameters},
    ]
    assert code_of(registry.schemas, "mistral") == "unknown_api"


def test_schemas_are_the_caller_s_own():
    before = copy.deepcopy(FIND)
    tool_schemas([FIND], "openai")[0]["function"]["parameters"]["properties"].clear()
    tool_schemas([FIND], "anthropic")[0]["input_schema"].clear()
    assert before == FIND


@pytest.mark.contract("2.5 text description")
def test_the_text_names_each_tool_and_each_parameter():
    def pick(choice: Choice, mode: Literal["x"] | list[int]) -> None: ...

    text = ToolRegistry().register(FIND, define(pick).spec).describe()
    assert text.splitlines() == [
        "- find: Find a text.",
        "    text (string, required): what to find",
        "    kind (string or null, optional)",
        "    limit (integer, optional)",
        "- pick",
        "    choice (a, b or c, required)",
        "    mode (x or array, required)",
    ]
    assert ToolRegistry().describe() == "No tools available."


def test_a_schema_that_refers_to_itself_can_be_described():
    loop = {"$ref": "#/$defs/A"}
    parameters = {"type": "object", "properties": {"a": loop}, "$defs": {"A": loop}}
    assert "a (any, optional)" in ToolRegistry().register(ToolSpec(name="t", parameters=parameters)).describe()


def test_a_description_crosses_processes_and_a_bad_one_does_not_arrive():
    data = msgspec.msgpack.encode(FIND)
    assert msgspec.msgpack.decode(data, type=ToolSpec) == FIND
    bad = msgspec.msgpack.encode({"name": "Bad Name", "parameters": FIND.parameters})
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(bad, type=ToolSpec)
