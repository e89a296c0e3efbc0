"""What a run returned: decoded and checked in the caller's process, against the annotation or `returns=`.

It is *not* an unpickler: bytes become plain data (`ipc.core.values`), and data becomes a record only of a type that the
caller itself named.

Rules: without an annotation, plain data comes back as it was; plain annotations are checked here, strictly and without
pydantic; records (dataclass, model, Enum, NamedTuple, TypedDict) are made by pydantic, msgspec Structs and attrs classes
by msgspec. An annotation that cannot be resolved counts as none; a `returns=` that cannot be checked is refused before
the call.
"""

from __future__ import annotations

import functools
import types
import typing
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, Union

from procession.api.core.plain_types import is_plain, is_scalar, mismatch
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.value_hints import record_kind
from procession.ipc.core.values import decode_value

#: Annotations whose validators are kept; a program declares a few dozen result types, a notebook makes them anew.
_VALIDATORS_MAX: Final = 512
#: Longest validation text in an error.
_TEXT_CHARS_MAX: Final = 1_000

#: Annotations that say nothing about a result.
_SAY_NOTHING: Final = (None, type(None), Any, object, typing.NoReturn, typing.Never)

Validate = Callable[[Any], object]

_UNSET: Final = object()
_annotations: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def decode_result(payload: bytes | None, returns: object = None) -> object:
    """Return the value that a run's payload holds, as `returns` declares it when that is given.

    Raises ToolResultInvalid when it is something else.
    """
    try:
        value = decode_value(payload or b"\xc0", nodes_max=RESULT_NODES_MAX)
    except ProtocolBreach as breach:
        raise ToolResultInvalid(f"the result cannot be read: {breach}", code="result_unreadable") from None
    if returns is None or type(value) is returns:
        return value
    return _check(value, returns)


def prepare_returns(returns: object) -> None:
    """Make sure that results can be checked against `returns`; raises InvalidRequest (`invalid_returns`) if not."""
    if returns is None or is_scalar(returns):
        return
    try:
        if isinstance(returns, str):
            raise TypeError("a type is needed, not its name")
        _validator(returns)
    except Exception as error:
        raise InvalidRequest(
            f"returns: results cannot be checked against {_shown(returns)}: {_first_line(error)}",
            code="invalid_returns",
            hint="use plain types, a dataclass, a pydantic model, an Enum, a NamedTuple, a TypedDict or a Struct",
        ) from error


def annotation_of(fn: Callable[..., object]) -> Any:
    """Return what `fn` says it returns, as a type; None when it says nothing that can be checked."""
    try:
        found = _annotations.get(fn, _UNSET)
    except TypeError:  # not hashable, or not weakly referable
        return _find_annotation(fn)
    if found is _UNSET:
        found = _find_annotation(fn)
        try:
            _annotations[fn] = found
        except TypeError:
            pass
    return found


def is_lossy(annotation: object) -> bool:
    """Whether `annotation` is something other than plain data, so that records may travel as their data."""
    return annotation is not None and not is_plain(annotation)


# --- annotations ----------------------------------------------------------------------------------------------------


def _find_annotation(fn: Any) -> Any:
    seen = 0
    while isinstance(fn, functools.partial) and seen < 32:
        fn, seen = fn.func, seen + 1
    if isinstance(fn, type):
        return fn if record_kind(fn) else None
    target = fn if hasattr(fn, "__annotations__") else type(fn).__call__
    noted = getattr(target, "__annotations__", None)
    annotation = noted.get("return") if isinstance(noted, dict) else None
    if isinstance(annotation, str):
        annotation = _resolve(target, annotation)
    if any(annotation is none for none in _SAY_NOTHING):
        return None
    if isinstance(annotation, str | typing.TypeVar) or not _is_usable(annotation):
        return None
    return annotation


def _resolve(target: Any, annotation: str) -> Any:
    """Resolve a text annotation where the function was defined, its closure included; None when that fails."""
    plain = getattr(target, "__func__", target)
    seen = 0
    while hasattr(plain, "__wrapped__") and seen < 32:
        plain, seen = plain.__wrapped__, seen + 1
    names = dict(getattr(plain, "__globals__", {}))
    code = getattr(plain, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(plain, "__closure__", None) or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # an empty cell
            continue
    holder = types.SimpleNamespace(__annotations__={"return": annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True).get("return")
    except Exception:  # noqa: BLE001 - an annotation is the program's text and may name anything
        return None


def _is_usable(annotation: Any) -> bool:
    """Whether a result can be checked against this annotation; what cannot counts as no annotation."""
    if is_scalar(annotation):
        return True
    try:
        _validator(annotation)
    except Exception:  # noqa: BLE001 - as in prepare_returns
        return False
    return True


# --- checking -------------------------------------------------------------------------------------------------------


def _check(value: object, returns: Any) -> object:
    try:
        return _validator(returns)(value)
    except ToolResultInvalid:
        raise
    except InvalidRequest:
        raise
    except Exception as error:
        raise _invalid(returns, str(error) or type(error).__name__) from error


def _invalid(returns: object, text: str) -> ToolResultInvalid:
    text = text if len(text) <= _TEXT_CHARS_MAX else text[: _TEXT_CHARS_MAX - 3] + "..."
    return ToolResultInvalid(
        f"the result is not {_shown(returns)}: {text}",
        hint="return what the function declares, or declare what it returns (annotation or returns=)",
    )


@lru_cache(maxsize=_VALIDATORS_MAX)
def _cached_validator(returns: Any) -> Validate:
    return _make_validator(returns)


def _validator(returns: Any) -> Validate:
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
    if found & {"a msgspec Struct", "an attrs class"}:
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
            raise TypeError(f"expected {_shown(kind)}, found {type(value).__qualname__}")
        return value

    msgspec.json.Decoder(returns)  # refuses a type it cannot make
    return lambda value: msgspec.convert(value, returns, dec_hook=already)


def _pydantic_validator(returns: Any) -> Validate:
    import pydantic

    adapter = pydantic.TypeAdapter(returns)
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


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(_shown(part) for part in typing.get_args(annotation))
    return str(annotation).replace("typing.", "")[:200]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
