"""Plain annotations: the types whose values cross processes as they are, and checking a value against one.

It is *not* a validator of records; those are pydantic's and msgspec's. Rule: strict. A value is never changed to fit: an
int is no str, a list no tuple. The one width Python itself has: an int is good where a float is declared.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import types
import typing
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Final, Literal, Union
from uuid import UUID

#: Types whose values are one piece, and travel as they are.
PLAIN_SCALARS: Final[frozenset[type]] = frozenset(
    (
        bool, int, float, complex, str, bytes, bytearray, type(None), Path, UUID, Decimal,
        dt.datetime, dt.date, dt.time, dt.timedelta,
    )
)  # fmt: skip
_SEQUENCES: Final = (list, set, frozenset, collections.deque)
_MAPPINGS: Final = (dict, collections.OrderedDict, collections.Counter)
_ABSTRACT: Final = (
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.Set,
    collections.abc.MutableSet,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)
_CONTAINERS: Final = (tuple, *_SEQUENCES, *_MAPPINGS, *_ABSTRACT)
#: What else is good where a type is declared: subclasses that travel, and PEP 484's numeric tower.
_WIDER: Final[dict[type, tuple[type, ...]]] = {
    int: (bool,),
    float: (int, bool),
    complex: (float, int, bool),
    dt.date: (dt.datetime,),
}
_DEPTH_MAX: Final = 32


def is_scalar(annotation: Any) -> bool:
    """Whether `annotation` is a plain type whose values are one piece."""
    return isinstance(annotation, type) and (annotation in PLAIN_SCALARS or annotation is PurePath)


def is_plain(annotation: Any, depth: int = _DEPTH_MAX) -> bool:
    """Whether every value that `annotation` allows travels as it is."""
    if annotation is Any or annotation is object or annotation is None or is_scalar(annotation):
        return True
    if annotation in _CONTAINERS:
        return True
    origin = typing.get_origin(annotation)
    if origin is None or depth == 0:
        return False
    if origin is Literal:
        return all(type(choice) in PLAIN_SCALARS for choice in typing.get_args(annotation))
    if origin is typing.Annotated:
        return False  # its metadata is a rule that only pydantic or msgspec know
    parts = typing.get_args(annotation)
    if origin in (Union, types.UnionType) or origin in _CONTAINERS:
        return all(part is ... or is_plain(part, depth - 1) for part in parts)
    return False


def mismatch(value: Any, annotation: Any, path: str = "result") -> str:
    """Say how `value` is not what a plain `annotation` declares, naming the place; "" when it is."""
    if annotation in (Any, object):
        return ""
    if annotation is None:
        annotation = type(None)
    if is_scalar(annotation):
        return _scalar(value, annotation, path)
    origin = typing.get_origin(annotation) or annotation
    parts = typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        if not any(not mismatch(value, part, path) for part in parts):
            return f"{path}: expected one of {', '.join(map(_name, parts))}, found {_found(value)}"
        return ""
    if origin is Literal:
        good = any(type(value) is type(choice) and value == choice for choice in parts)
        return "" if good else f"{path}: expected one of {parts!r}, found {_found(value)}"
    if not isinstance(value, origin) or (
        isinstance(value, str | bytes) and origin in _ABSTRACT and parts not in _TEXTS
    ):
        return f"{path}: expected {_name(origin)}, found {_found(value)}"
    if not parts:
        return ""
    if origin is tuple:
        return _tuple(value, parts, path)
    if isinstance(value, collections.abc.Mapping):
        return _mapping(value, parts, path)
    return _items(value, parts[0], path)


#: Text is a sequence of texts, bytes of ints: good where exactly that is declared, a mistake elsewhere.
_TEXTS: Final = ((), (str,), (int,))


def _scalar(value: object, kind: Any, path: str) -> str:
    found = type(value)
    if found is kind or found in _WIDER.get(kind, ()):
        return ""
    if kind in (Path, PurePath) and isinstance(value, PurePath):
        return ""
    return f"{path}: expected {_name(kind)}, found {_found(value)}"


def _items(value: Any, part: Any, path: str) -> str:
    if is_scalar(part) and set(map(type, value)) <= {part}:
        return ""
    for index, item in enumerate(value):
        wrong = mismatch(item, part, f"{path}[{index}]")
        if wrong:
            return wrong
    return ""


def _tuple(value: Any, parts: tuple[Any, ...], path: str) -> str:
    if len(parts) == 2 and parts[1] is ...:
        return _items(value, parts[0], path)
    if len(parts) != len(value):
        return f"{path}: expected {len(parts)} items, found {len(value)}"
    for index, (item, part) in enumerate(zip(value, parts, strict=True)):
        wrong = mismatch(item, part, f"{path}[{index}]")
        if wrong:
            return wrong
    return ""


def _mapping(value: Any, parts: tuple[Any, ...], path: str) -> str:
    for key, item in value.items():
        wrong = mismatch(key, parts[0], f"{path} (a key)")
        if not wrong and len(parts) > 1:  # a Counter declares its keys only
            wrong = mismatch(item, parts[1], f"{path}[{key!r:.40}]")
        if wrong:
            return wrong
    return ""


def _name(annotation: Any) -> str:
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _found(value: object) -> str:
    shown = repr(value) if type(value) in PLAIN_SCALARS else ""
    kind = "None" if value is None else type(value).__qualname__
    return f"{kind} {shown}" if shown and len(shown) <= 40 and value is not None else kind
