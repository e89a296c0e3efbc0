"""The state ops as types, and what each may say.

It is *not* what they do: that is the fold in `state_ops.py`, which is the name everyone else imports them by.

Rules: an op is immutable plain data and compares by value; what it may say is checked before it is written and again
after it is read, by the same functions; a path is keys of maps, from the state inwards, and never empty.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Final, TypeAlias, get_args

import msgspec

from procession.ipc.core.bounds import BODY_DEPTH_MAX

PATH_PARTS_MAX: Final = 16
"""Half of what data may nest, so that a place can still hold some."""
STATE_DEPTH_MAX: Final = BODY_DEPTH_MAX

Value: TypeAlias = Any  # data of the closed table
State: TypeAlias = Mapping[str, Value]
Path: TypeAlias = tuple[str, ...]


class Op(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One change. Ops compare by value."""


class SetState(Op, frozen=True, tag="merge"):
    """Merge into the state: maps merge into maps at every level, everything else replaces."""

    attrs: dict[str, Value]


class ReplaceState(Op, frozen=True, tag="replace"):
    """Make this the state."""

    state: dict[str, Value]


class DeleteKeys(Op, frozen=True, tag="delete_keys"):
    """Drop keys of the state itself; those it has not are ignored."""

    keys: tuple[str, ...]


class SetPath(Op, frozen=True, tag="set"):
    """Put a value at a place, making the maps on the way."""

    path: Path
    value: Value


class DeletePath(Op, frozen=True, tag="delete"):
    """Drop a place; one that is not there is ignored."""

    path: Path


class AppendItems(Op, frozen=True, tag="append"):
    """Add to the end of a list, then keep its last `keep_last`. Without items it only trims."""

    path: Path
    items: tuple[Value, ...]
    keep_last: int | None = None


class PrependItems(Op, frozen=True, tag="prepend"):
    """Put before a list, in the order given, then keep its first `keep_first`."""

    path: Path
    items: tuple[Value, ...]
    keep_first: int | None = None


class UpdateItem(Op, frozen=True, tag="update"):
    """Merge into the last item of a list whose `match_key` is `match_value`. It must be there."""

    path: Path
    match_key: str
    match_value: str | int
    attrs: dict[str, Value]


class RemoveItems(Op, frozen=True, tag="remove"):
    """Drop every item of a list whose `match_key` is one of `values`; what is not there is ignored."""

    path: Path
    match_key: str
    values: tuple[str | int, ...]


class PutEntry(Op, frozen=True, tag="put"):
    """Put an entry last in a map, even when its key was there, then keep the last `keep_last` entries."""

    path: Path
    key: str
    value: Value
    keep_last: int | None = None


class AppendText(Op, frozen=True, tag="text"):
    """Add to the end of a text."""

    path: Path
    text: str


AnyOp: TypeAlias = (
    SetState
    | ReplaceState
    | DeleteKeys
    | SetPath
    | DeletePath
    | AppendItems
    | PrependItems
    | UpdateItem
    | RemoveItems
    | PutEntry
    | AppendText
)


class InvalidOp(ValueError):
    """An op that cannot be applied or does not say anything; no op of its batch was applied."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"op {index}: {reason}")
        self.index = index
        self.reason = reason


class Invalid(Exception):
    """A reason on its way to the index of its op."""


OPS: Final = frozenset(get_args(AnyOp))


def _texts(parts: object, what: str) -> None:
    if type(parts) is not tuple:
        raise Invalid(f"{what} must be a tuple of texts")
    for part in parts:
        if type(part) is not str:
            raise Invalid(f"{what} must be a tuple of texts")


def _map(value: object, what: str) -> None:
    if type(value) is not dict:
        raise Invalid(f"{what} must be a map with texts as keys")
    for key in value:
        if type(key) is not str:
            raise Invalid(f"{what} must be a map with texts as keys")


def _keep(keep: object, least: int) -> None:
    if keep is not None and (type(keep) is not int or keep < least):
        raise Invalid(f"what is kept must be a number from {least}")


def _match(key: object, values: object) -> None:
    _texts((key,), "the key of an item")
    if type(values) is not tuple or any(type(value) is not str and type(value) is not int for value in values):
        raise Invalid("an item is found by texts or integers")


def check_shape(op: AnyOp) -> None:
    """Check all of one op but its values. Raises Invalid."""
    check = _SHAPES.get(type(op))
    if check is None:
        raise Invalid(f"a {type(op).__name__} is no op")
    check(op)


def _path(op: Any) -> None:
    path = op.path
    _texts(path, "a path")
    if not 1 <= len(path) <= PATH_PARTS_MAX:
        raise Invalid(f"a path has 1 to {PATH_PARTS_MAX} parts, not {len(path)}")


def _set_state(op: SetState) -> None:
    _map(op.attrs, "attrs")


def _replace_state(op: ReplaceState) -> None:
    _map(op.state, "a state")


def _delete_keys(op: DeleteKeys) -> None:
    _texts(op.keys, "keys")


def _items(op: Any, keep: object) -> None:
    _path(op)
    _keep(keep, 0)
    if type(op.items) is not tuple:
        raise Invalid("items must be a tuple")


def _update_item(op: UpdateItem) -> None:
    _path(op)
    _match(op.match_key, (op.match_value,))
    _map(op.attrs, "attrs")


def _remove_items(op: RemoveItems) -> None:
    _path(op)
    _match(op.match_key, op.values)


def _put_entry(op: PutEntry) -> None:
    _path(op)
    _texts((op.key,), "a key")
    _keep(op.keep_last, 1)


def _append_text(op: AppendText) -> None:
    _path(op)
    _texts((op.text,), "what is added to a text")


_SHAPES: Final[Mapping[type, Callable[[Any], None]]] = {
    SetState: _set_state,
    ReplaceState: _replace_state,
    DeleteKeys: _delete_keys,
    SetPath: _path,
    DeletePath: _path,
    AppendItems: lambda op: _items(op, op.keep_last),
    PrependItems: lambda op: _items(op, op.keep_first),
    UpdateItem: _update_item,
    RemoveItems: _remove_items,
    PutEntry: _put_entry,
    AppendText: _append_text,
}


def check_depth(op: AnyOp) -> None:
    """Check that the state stays within its depth wherever the values of `op` go. Raises Invalid."""
    match op:
        case SetState(value) | ReplaceState(value):
            _depth(value, 0)
        case SetPath(path, value):
            _depth(value, len(path))
        case AppendItems(path, items) | PrependItems(path, items):
            _depth(items, len(path))
        case UpdateItem(path, _, _, value):
            _depth(value, len(path) + 1)
        case PutEntry(path, _, value):
            _depth(value, len(path) + 1)


def _depth(value: object, outside: int) -> None:
    """Check `value` inside that many containers. It must be known to be data: what has no end is not looked for."""
    if type(value) not in _CONTAINERS:
        return
    if outside >= STATE_DEPTH_MAX:
        raise Invalid(f"the state would nest deeper than {STATE_DEPTH_MAX} levels")
    inner: Any = chain(value, value.values()) if isinstance(value, dict) else value
    for item in inner:
        if type(item) in _CONTAINERS:
            _depth(item, outside + 1)


_CONTAINERS: Final = frozenset((dict, list, tuple, set, frozenset, OrderedDict, Counter, deque))
