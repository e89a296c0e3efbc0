"""A result against the type that was declared for it: the same rules in the caller's process and in a tool's worker.

It is *not* where annotations are read. Rules: plain annotations are checked strictly and without pydantic (`plain_types.py`);
records (dataclass, model, Enum, NamedTuple, TypedDict) are made by pydantic, which is imported then, msgspec Structs and
attrs classes by msgspec.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, Union

from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.plain_types import is_plain, is_scalar, mismatch
from procession.ipc.core.value_hints import record_kind

#: Annotations whose validators are kept; a program declares a few dozen result types, a notebook makes them anew.
_VALIDATORS_MAX: Final = 512
#: Longest validation text in an error.
_TEXT_CHARS_MAX: Final = 1_000

_BY_MSGSPEC: Final = frozenset({"a msgspec Struct", "an attrs class"})
_SAY_NOTHING: Final = (None, type(None), Any, object, typing.NoReturn, typing.Never)

Validate = Callable[[Any], object]


def says_nothing(annotation: object) -> bool:
    """Whether an annotation says nothing about a result."""
    return any(annotation is none for none in _SAY_NOTHING)


def is_checkable(annotation: Any) -> bool:
    """Whether a result can be checked against this annotation; what cannot counts as no annotation."""
    if is_scalar(annotation):
        return True
    try:
        validator_of(annotation)
    except Exception:  # noqa: BLE001 - an annotation is the program's, and a class in it may raise anything
        return False
    return True


def is_by_pydantic(annotation: Any) -> bool:
    """Whether it is pydantic that checks results against this annotation, where it can."""
    return not is_plain(annotation) and not _BY_MSGSPEC.intersection(_kinds(annotation))


def checked(value: object, returns: Any, validate: Validate | None = None) -> object:
    """Return plain data as what `returns` declares. Raises ToolResultInvalid when it is something else.

    validate: what `validator_of` gives, unless the caller has it already.
    """
    try:
        return (validate or validator_of(returns))(value)
    except ToolResultInvalid:
        raise
    except InvalidRequest:
        raise
    except Exception as error:
        raise _invalid(returns, str(error) or type(error).__name__) from error


def _invalid(returns: object, text: str) -> ToolResultInvalid:
    text = text if len(text) <= _TEXT_CHARS_MAX else text[: _TEXT_CHARS_MAX - 3] + "..."
    return ToolResultInvalid(
        f"the result is not {shown(returns)}: {text}",
        hint="return what the function declares, or declare what it returns (annotation or returns=)",
    )


@lru_cache(maxsize=_VALIDATORS_MAX)
def _cached_validator(returns: Any) -> Validate:
    return _make_validator(returns)


def validator_of(returns: Any) -> Validate:
    """Return what makes plain data what `returns` declares, and raises what it likes for any other."""
    try:
        return _cached_validator(returns)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _make_validator(returns)


def _make_validator(returns: Any) -> Validate:
    if is_plain(returns):
        return _plain_validator(returns)
    found = set(_kinds(returns))
    if found & _BY_MSGSPEC:
        return _msgspec_validator(returns)
    try:
        return _pydantic_validator(returns)
    except Exception:
        if "a TypedDict" not in found:
            raise
        return _msgspec_validator(returns)  # before Python 3.12, pydantic refuses the standard library's TypedDict


def _plain_validator(returns: Any) -> Validate:
    def validate(value: object) -> object:
        wrong = mismatch(value, returns)
        if wrong:
            raise _invalid(returns, wrong)
        return value

    return validate


def _msgspec_validator(returns: Any) -> Validate:
    import msgspec

    def already(kind: type, value: Any) -> Any:
        """Let through what msgspec has no form for (a Path) and is there already."""
        if not isinstance(value, kind):
            raise TypeError(f"expected {shown(kind)}, found {type(value).__qualname__}")
        return value

    msgspec.json.Decoder(returns)  # refuses a type it cannot make
    return lambda value: msgspec.convert(value, returns, dec_hook=already)


def _pydantic_validator(returns: Any) -> Validate:
    import pydantic

    adapter = pydantic.TypeAdapter(returns)
    adapter.rebuild(raise_errors=True)  # of names that it does not know, it would tell only when it is used
    return adapter.validate_python


def _kinds(annotation: Any, depth: int = 8) -> list[str]:
    """List the kinds of record that an annotation names."""
    if depth == 0:
        return []
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return ["a TypedDict" if typing.is_typeddict(annotation) else record_kind(annotation)]
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return []
    found = [record_kind(origin)] if isinstance(origin, type) else []
    for part in typing.get_args(annotation):
        found += _kinds(part, depth - 1)
    return found


def shown(annotation: Any) -> str:
    """Return an annotation as a program writes it."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(shown(part) for part in typing.get_args(annotation))
    return str(annotation).replace("typing.", "")[:200]
