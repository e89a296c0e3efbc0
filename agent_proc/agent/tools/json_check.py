"""Check plain data against the part of JSON schema that the built-in tools' parameters are written in.

It is *not* a JSON schema validator: users' tools are checked by pydantic (schema.py), which a worker of a built-in tool need
not load. Rules: types are strict, as there ("3" is not 3, true is not 1); a keyword that is not here is only a description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from procession.agent_proc.agent.texts import shown
from procession.agent_proc.agent.tools.spec import JsonSchema
from procession.agent_proc.agent.tools.validation import Problem

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def problems_of(value: object, schema: JsonSchema, where: str) -> Iterator[Problem]:
    """List what is wrong with a value."""
    if "anyOf" in schema:
        options = schema["anyOf"]
        meant = [option for option in options if _is_of(value, option)]
        if meant:
            yield from problems_of(value, meant[0], where)
        else:
            yield _wrong_type(value, " or ".join(option["type"] for option in options), where)
    elif not _is_of(value, schema):
        yield _wrong_type(value, schema["type"], where)
    elif "enum" in schema and value not in schema["enum"]:
        yield Problem("invalid_choice", where, f"must be one of {', '.join(schema['enum'])}, not {shown(value)}")
    elif type(value) is list:
        yield from _problems_of_size(len(value), "Items", "items", schema, where)
        for index, item in enumerate(value):
            yield from problems_of(item, schema["items"], f"{where}[{index}]")
    elif type(value) is dict:
        yield from _problems_of_object(value, schema, where)
    elif type(value) is str:
        yield from _problems_of_size(len(value), "Length", "characters", schema, where)
    else:
        yield from _problems_of_number(value, schema, where)


def _is_of(value: object, schema: JsonSchema) -> bool:
    return type(value) in _TYPES[schema["type"]]


def _wrong_type(value: object, wanted: str, where: str) -> Problem:
    return Problem("invalid_type", where, f"must be of type {wanted}, not {shown(value)}")


def _problems_of_size(size: int, of: str, unit: str, schema: JsonSchema, where: str) -> Iterator[Problem]:
    least, most = schema.get(f"min{of}", 0), schema.get(f"max{of}")
    if size < least:
        yield Problem("invalid_value", where, f"must have at least {least} {unit}, not {size}")
    if most is not None and size > most:
        yield Problem("invalid_value", where, f"must have at most {most} {unit}, not {size}")


def _problems_of_number(value: Any, schema: JsonSchema, where: str) -> Iterator[Problem]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and not value >= least:  # so that what is no number (NaN) is refused
        yield Problem("invalid_value", where, f"must be at least {least}, not {shown(value)}")
    elif most is not None and not value <= most:
        yield Problem("invalid_value", where, f"must be at most {most}, not {shown(value)}")


def _problems_of_object(value: Mapping[object, object], schema: JsonSchema, where: str) -> Iterator[Problem]:
    yield from _problems_of_size(len(value), "Properties", "entries", schema, where)
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield Problem("missing_parameter", f"{where}.{name}", "is required")
    for name, item in value.items():
        if type(name) is not str:
            yield Problem("invalid_type", where, f"has {shown(name)} as a key, and keys are texts")
        elif name in known:
            yield from problems_of(item, known[name], f"{where}.{name}")
        elif others is False:
            yield Problem("unknown_parameter", f"{where}.{name}", "is none of those that it has: " + ", ".join(known))
        elif others is not True:
            yield from problems_of(item, others, f"{where}.{name}")
