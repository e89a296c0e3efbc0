"""What a run returned: decoded and checked in the caller's process, against the annotation or `returns=`.

It is *not* an unpickler: bytes become plain data (`ipc.core.values`), and data becomes a record only of a type that the
caller itself named.

Rules: without an annotation, plain data comes back as it was; with one, it is made what that declares (`ipc.core.declared`).
An annotation that cannot be resolved counts as none; a `returns=` that cannot be checked is refused before the call.
"""

from __future__ import annotations

import functools
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any, Final

from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.declared import checked, is_checkable, says_nothing, shown, validator_of
from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.plain_types import is_plain, is_scalar
from procession.ipc.core.value_hints import record_kind
from procession.ipc.core.values import decode_value

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
    return checked(value, returns)


def prepare_returns(returns: object) -> None:
    """Make sure that results can be checked against `returns`; raises InvalidRequest (`invalid_returns`) if not."""
    if returns is None or is_scalar(returns):
        return
    try:
        if isinstance(returns, str):
            raise TypeError("a type is needed, not its name")
        validator_of(returns)
    except Exception as error:
        raise InvalidRequest(
            f"returns: results cannot be checked against {shown(returns)}: {_first_line(error)}",
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
    if says_nothing(annotation) or isinstance(annotation, str | typing.TypeVar) or not is_checkable(annotation):
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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
