"""A value against its declared type, and what is wrong with it, in the contract's words. pydantic's core is imported then.

It is *not* where types are read (schema.py). Rule: values are taken strictly as JSON has them ("3" is not 3, 1 is not true),
and objects that are of the type already are taken too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails, SchemaValidator

ProblemCode = Literal["missing_parameter", "unknown_parameter", "invalid_type", "invalid_choice", "invalid_value"]

_CODES: Final[Mapping[str, ProblemCode]] = {
    "missing": "missing_parameter",
    "missing_argument": "missing_parameter",
    "extra_forbidden": "unknown_parameter",
    "unexpected_keyword_argument": "unknown_parameter",
    "enum": "invalid_choice",
    "literal_error": "invalid_choice",
    "int_from_float": "invalid_type",
}
"""pydantic's words for what is wrong, in ours. One that ends in `_type` or `_parsing` is invalid_type, others a value."""


class Problem(NamedTuple):
    """One thing that is wrong with the arguments of a call. where: `path`, `options.depth`, `paths[3]`."""

    code: ProblemCode
    where: str
    text: str


class Refused(Exception):
    """A value is not of its type; `problems` says where and why."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


def validate(validator: TypeAdapter[Any] | SchemaValidator, value: object, parameter: str) -> Any:
    """Return `value` as its parameter's type. Raises Refused."""
    from pydantic_core import ValidationError

    try:
        return validator.validate_python(value, strict=True)
    except ValidationError as error:
        strictly = error
    import json

    # Not an object of that type. It may still be the JSON of one: a text for an Enum, a list for a tuple.
    try:
        return validator.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise Refused(_problems(error, parameter)) from None
    except (TypeError, ValueError, RecursionError):
        raise Refused(_problems(strictly, parameter)) from None


def _problems(error: Any, parameter: str) -> tuple[Problem, ...]:
    details: list[ErrorDetails] = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(Problem(_code_of(one["type"]), _where(parameter, one["loc"]), one["msg"]) for one in details)


def _code_of(kind: str) -> ProblemCode:
    return _CODES.get(kind) or ("invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value")


def _where(parameter: str, loc: tuple[int | str, ...]) -> str:
    return parameter + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
