"""Types to JSON schemas, by pydantic, which is imported when the first is made.

It is *not* a schema language of our own: what pydantic can describe as JSON is allowed, and nothing else. Rule: what is wrong
with a type or a default is told where the tool is made.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, get_origin

from procession.agent_proc.agent.tools.signature import Signature, unknown_name_hint
from procession.agent_proc.agent.tools.spec import JsonSchema, invalid_tool
from procession.agent_proc.agent.tools.validation import Refused, validate
from procession.ipc.core.declared import is_by_pydantic, says_nothing

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import CoreSchema

Adapters = Mapping[str, "TypeAdapter[Any]"]

#: These are read one item at a time, while the tool already runs: too late to say that an argument is wrong.
_READ_LATER: Final = (
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)
#: Keys of a schema whose values are data, not schemas.
_DATA_KEYS: Final = frozenset({"default", "enum", "const", "examples"})
_TYPES_HINT: Final = (
    "use str, int, float, bool, list[...], dict[str, ...], Literal, an Enum, a dataclass or a pydantic model"
)


def make_adapters(signature: Signature, name: str) -> Adapters:
    """Return what checks each parameter's values. Raises InvalidRequest, code invalid_tool, for a type JSON cannot say."""
    return {
        parameter: _make_adapter(annotation, parameter, name) for parameter, annotation in signature.annotations.items()
    }


def _make_adapter(annotation: Any, parameter: str, name: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError

    for part in _parts(annotation):
        if isinstance(part, TypeVar) or any(part is kind for kind in _READ_LATER):
            raise _unsupported(annotation, parameter, name, f"{part} names no type of values")
    try:
        adapter = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)  # says which name it does not know, where the first attempt only put it off
        adapter.json_schema()
    except PydanticUndefinedAnnotation as error:
        raise invalid_tool(
            name,
            f"its parameter {parameter!r} is a {_shown(annotation)}, in which an annotation names {error.name!r}, "
            "which is not known where the class is",
            unknown_name_hint(error.name),
        ) from None
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise _unsupported(annotation, parameter, name, error.message.partition("\n")[0]) from None
    return adapter


def make_result_schema(returns: Any) -> CoreSchema | None:
    """Return by what pydantic checks results that are declared as `returns`; None when it is not for pydantic, or cannot."""
    if says_nothing(returns) or not is_by_pydantic(returns):
        return None
    from pydantic import TypeAdapter

    try:
        adapter = TypeAdapter(returns)
        adapter.rebuild(raise_errors=True)
    except Exception:  # a type of results need not be one that JSON can say
        return None
    return adapter.core_schema


def _parts(annotation: Any) -> Iterator[Any]:
    """List an annotation and everything inside its brackets; the values of a Literal are no types, and do no harm."""
    yield get_origin(annotation) or annotation
    if get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _parts(argument)


def _unsupported(annotation: Any, parameter: str, name: str, why: str) -> Exception:
    return invalid_tool(
        name, f"its parameter {parameter!r} is a {_shown(annotation)}, which JSON cannot give: {why}", _TYPES_HINT
    )


def _shown(annotation: Any) -> str:
    named = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if named else str(annotation)


def make_schema(signature: Signature, adapters: Adapters, descriptions: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the JSON schema of all parameters together. Raises InvalidRequest for a default that is not of its type."""
    from pydantic import TypeAdapter

    schemas, definitions = TypeAdapter.json_schemas([(key, "validation", adapter) for key, adapter in adapters.items()])
    properties = {}
    for parameter in adapters:
        schema: JsonSchema = dict(schemas[parameter, "validation"])
        if parameter in descriptions:
            schema.setdefault("description", descriptions[parameter])
        if parameter in signature.defaults:
            schema["default"] = _plain_default(signature, adapters[parameter], parameter, name)
        properties[parameter] = schema
    required = [parameter for parameter in adapters if parameter not in signature.defaults]
    whole = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    untitled: JsonSchema = _without_titles({**whole, **definitions})
    return untitled


def _plain_default(signature: Signature, adapter: TypeAdapter[Any], parameter: str, name: str) -> object:
    """Return a default as JSON has it; "enforced" begins here, with a default that is of its parameter's type."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    default = signature.defaults[parameter]
    try:
        validate(adapter, default, parameter)
        return to_jsonable_python(default)
    except (Refused, PydanticSerializationError) as error:
        why = error.problems[0].text if isinstance(error, Refused) else str(error)
        raise invalid_tool(
            name,
            f"the default {default!r:.100} of its parameter {parameter!r} is not of the parameter's type: {why}",
            f"correct it; where None is meant, write `{parameter}: ... | None = None`",
        ) from None


def _without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names: each costs a model tokens and says nothing new."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _DATA_KEYS else _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
