"""What a tool is to those that do not run it: a name, a description, a tier and a JSON schema. Plain data.

It is *not* the function: that stays with its author and in the worker, while a spec crosses processes and lies in the
session and the host. Rule: a spec that exists is a good one; whatever is wrong with it is told when it is made.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any, Final, Literal, assert_never, get_args

import msgspec

from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.tool_tiers import DEFAULT_TIER, TIERS, TOOL_NAME_CHARS_MAX, Tier

Api = Literal["openai", "anthropic"]
APIS: Final[tuple[Api, ...]] = get_args(Api)

NAME_RULE: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
#: The OpenAI API refuses a longer description of a function.
DESCRIPTION_CHARS_MAX: Final = 1_024

JsonSchema = dict[str, Any]


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See the module's text. parameters: a JSON schema of type object. Raises InvalidRequest, code invalid_tool."""

    name: str
    parameters: JsonSchema
    description: str = ""
    tier: Tier = DEFAULT_TIER

    def __post_init__(self) -> None:
        check_name(self.name)
        if type(self.description) is not str or len(self.description) > DESCRIPTION_CHARS_MAX:
            raise invalid_tool(
                self.name,
                f"its description is not a text of at most {DESCRIPTION_CHARS_MAX} characters",
                "shorten the first paragraph of its docstring, or give @tool(description=...)",
            )
        if self.tier not in TIERS:
            raise invalid_tool(self.name, f"there is no tier {self.tier!r}", "use one of " + ", ".join(TIERS))
        schema = self.parameters
        if type(schema) is not dict or schema.get("type") != "object" or type(schema.get("properties")) is not dict:
            raise invalid_tool(
                self.name, "its parameters are not a JSON schema of type object with properties", "let @tool write it"
            )

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters that a call has to give."""
        return tuple(self.parameters.get("required", ()))


def invalid_tool(name: str, why: str, hint: str) -> InvalidRequest:
    """Make the error for something that cannot be a tool."""
    return InvalidRequest(f"{name!r} is not a tool: {why}", code="invalid_tool", hint=hint)


def check_name(name: object) -> None:
    """Refuse a name that the rule does not allow: InvalidRequest, code invalid_tool."""
    if type(name) is not str or len(name) > TOOL_NAME_CHARS_MAX or not NAME_RULE.fullmatch(name):
        shown = name[: TOOL_NAME_CHARS_MAX + 1] if type(name) is str else type(name).__name__
        raise invalid_tool(
            shown,
            f"a name is a lower-case letter, then lower-case letters, digits and _, at most {TOOL_NAME_CHARS_MAX} in all",
            "rename it, or give @tool(name=...)",
        )


def tool_schemas(specs: Iterable[ToolSpec], api: Api) -> list[dict[str, Any]]:
    """Return `specs` as the `tools=` of a model API takes them. Raises InvalidRequest, code unknown_api."""
    check_api(api)
    return [_schema_of(spec, api) for spec in specs]


def check_api(api: object) -> None:
    """Refuse anything that does not name a model API: InvalidRequest, code unknown_api."""
    if api not in APIS:
        raise InvalidRequest(f"there is no model API {api!r}", code="unknown_api", hint="use one of " + ", ".join(APIS))


def _schema_of(spec: ToolSpec, api: Api) -> dict[str, Any]:
    parameters = copy.deepcopy(spec.parameters)  # the caller's from now on
    described = {"description": spec.description} if spec.description else {}
    match api:
        case "openai":
            return {"type": "function", "function": {"name": spec.name, **described, "parameters": parameters}}
        case "anthropic":
            return {"name": spec.name, **described, "input_schema": parameters}
        case _:
            assert_never(api)


def describe(specs: Iterable[ToolSpec]) -> str:
    """Return a text about `specs` for a prompt: a line for each tool, and one for each of its parameters."""
    return "\n".join(line for spec in specs for line in _lines_about(spec)) or "No tools available."


def _lines_about(spec: ToolSpec) -> list[str]:
    lines = [f"- {spec.name}: {spec.description}" if spec.description else f"- {spec.name}"]
    for name, schema in spec.parameters["properties"].items():
        need = "required" if name in spec.required else "optional"
        about = f": {schema['description']}" if schema.get("description") else ""
        lines.append(f"    {name} ({_type_word(schema, spec.parameters.get('$defs', {}))}, {need}){about}")
    return lines


def _type_word(schema: JsonSchema, definitions: JsonSchema) -> str:
    """Return a word for what a schema takes: `string`, `integer or null`, `a, b or c` of an enum."""
    if "enum" in schema:
        words = [str(value) for value in schema["enum"]]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_type_word(option, definitions) for option in schema["anyOf"])
    if "$ref" in schema:  # followed once: a schema may refer to itself
        return _type_word(definitions.get(schema["$ref"].rpartition("/")[2], {}), {})
    return str(schema.get("type", "any"))
