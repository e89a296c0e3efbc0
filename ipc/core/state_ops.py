"""State ops: the only way a session's state changes, and exactly what its journal holds.

    SetState ReplaceState DeleteKeys            the state as a whole (merge, replace, drop keys)
    SetPath DeletePath                          one place; clearing is SetPath(path, []) or SetPath(path, {})
    AppendItems PrependItems UpdateItem RemoveItems     bounded lists, whose items are found by a key of theirs
    PutEntry                                    bounded maps in order of last use
    AppendText                                  a text that grows; the journal then grows as the text does

It is *not* the place of quotas or of the agent's schema: it says what an op does, and how large things are.

Rules: `apply` is the one fold, the same in the session, in the host and over the journal. It never changes what it is
given (old and new state share what is equal), and either all ops apply or none. A value is data of the closed table of
`values.py`, never a function. A path is keys of maps, from the state inwards, and never empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX, RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.state_op_types import (
    PATH_PARTS_MAX,
    STATE_DEPTH_MAX,
    AnyOp,
    AppendItems,
    AppendText,
    DeleteKeys,
    DeletePath,
    Invalid,
    InvalidOp,
    Op,
    Path,
    PrependItems,
    PutEntry,
    RemoveItems,
    ReplaceState,
    SetPath,
    SetState,
    State,
    UpdateItem,
    Value,
    check_depth,
    check_shape,
)
from procession.ipc.core.value_plain import PLAIN_BYTES_MAX, is_plain
from procession.ipc.core.value_tags import MARK
from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

OPS_MAX: Final = 1_000
"""Ops of one commit: an action that needs more means ReplaceState."""
_OPS_DEPTH_MAX: Final = STATE_DEPTH_MAX + 3
"""The list of ops, an op, and the items of one are containers around its values."""
_HEADER_BYTES: Final = 16
"""More than the header of any container may grow by when it gains an entry, or when its one key looks like a tag."""

# -- the fold --------------------------------------------------------------------------------------------------------


def apply(state: State, ops: Sequence[AnyOp], *, checked: bool = False) -> dict[str, Value]:
    """Return the state after `ops`, in order; `state` is as it was. Raises InvalidOp, and then nothing happened.

    With `checked` the values are not looked at again: for ops that came from `decode_ops` or went through `encode_ops`.
    """
    if not checked:
        encode_ops(ops)
    after = state if type(state) is dict else dict(state)
    for index, op in enumerate(ops):
        try:
            after = _APPLY[type(op)](after, op)
        except Invalid as invalid:
            raise InvalidOp(index, str(invalid)) from None
    return after if after is not state else dict(after)


def _merge(old: object, new: object) -> object:
    if type(old) is not dict or type(new) is not dict:
        return new
    merged: dict[object, object] = old.copy()
    for key, value in new.items():
        merged[key] = _merge(merged.get(key), value) if type(value) is dict else value
    return merged


def _change(state: dict[str, Value], path: Path, change: Callable[[Value], Value]) -> dict[str, Value]:
    """Return `state` with `change` applied to what is at `path` (_ABSENT when nothing is), making maps on the way."""
    copy = state.copy()
    inner = copy
    for at, key in enumerate(path[:-1]):
        below = inner.get(key, _ABSENT)
        if below is _ABSENT:
            below = {}
        elif type(below) is not dict:
            raise Invalid(f"{list(path[: at + 1])} is a {type(below).__name__}, not a map")
        else:
            below = below.copy()
        inner[key] = below
        inner = below
    inner[path[-1]] = change(inner.get(path[-1], _ABSENT))
    return copy


_ABSENT: Final = object()


def _found(state: dict[str, Value], path: Path) -> object:
    """Return what is at `path`, or _ABSENT."""
    here: object = state
    for key in path:
        if type(here) is not dict or key not in here:
            return _ABSENT
        here = here[key]
    return here


def _listed(value: object, path: Path) -> list[Value]:
    if value is _ABSENT:
        return []
    if type(value) is not list:
        raise Invalid(f"{list(path)} is a {type(value).__name__}, not a list")
    return value


def _set_state(state: dict[str, Value], op: SetState) -> dict[str, Value]:
    merged = _merge(state, op.attrs)
    assert type(merged) is dict
    return merged


def _replace_state(_: dict[str, Value], op: ReplaceState) -> dict[str, Value]:
    return op.state


def _delete_keys(state: dict[str, Value], op: DeleteKeys) -> dict[str, Value]:
    dropped = frozenset(op.keys)
    return {key: value for key, value in state.items() if key not in dropped}


def _set_path(state: dict[str, Value], op: SetPath) -> dict[str, Value]:
    return _change(state, op.path, lambda _: op.value)


def _delete_path(state: dict[str, Value], op: DeletePath) -> dict[str, Value]:
    around = _found(state, op.path[:-1])
    if type(around) is not dict or op.path[-1] not in around:
        return state
    rest = {key: value for key, value in around.items() if key != op.path[-1]}
    return _change(state, op.path[:-1], lambda _: rest) if len(op.path) > 1 else rest


def _append_items(state: dict[str, Value], op: AppendItems) -> dict[str, Value]:
    def change(old: object) -> list[Value]:
        items = [*_listed(old, op.path), *op.items]
        return items if op.keep_last is None else items[max(0, len(items) - op.keep_last) :]

    return _change(state, op.path, change)


def _prepend_items(state: dict[str, Value], op: PrependItems) -> dict[str, Value]:
    return _change(state, op.path, lambda old: [*op.items, *_listed(old, op.path)][: op.keep_first])


def _matches(item: object, key: str, value: object) -> bool:
    """Whether `item` is a map whose `key` is `value`, of the same type: 1 is not True."""
    if type(item) is not dict:
        return False
    found = item.get(key, _ABSENT)
    return type(found) is type(value) and found == value


def _update_item(state: dict[str, Value], op: UpdateItem) -> dict[str, Value]:
    def change(old: object) -> list[Value]:
        items = _listed(old, op.path).copy()
        for at in reversed(range(len(items))):
            if _matches(items[at], op.match_key, op.match_value):
                items[at] = _merge(items[at], op.attrs)
                return items
        raise Invalid(f"{list(op.path)} has no item whose {op.match_key} is {op.match_value!r}")

    return _change(state, op.path, change)


def _remove_items(state: dict[str, Value], op: RemoveItems) -> dict[str, Value]:
    found = _found(state, op.path)
    if found is _ABSENT:
        return state
    values = {(type(value), value) for value in op.values}

    def stays(item: object) -> bool:
        value = item.get(op.match_key, _ABSENT) if type(item) is dict else _ABSENT
        return type(value) not in (str, int) or (type(value), value) not in values

    kept = [item for item in _listed(found, op.path) if stays(item)]
    return _change(state, op.path, lambda _: kept)


def _put_entry(state: dict[str, Value], op: PutEntry) -> dict[str, Value]:
    def change(old: object) -> dict[str, Value]:
        if old is not _ABSENT and type(old) is not dict:
            raise Invalid(f"{list(op.path)} is a {type(old).__name__}, not a map")
        entries: dict[str, Value] = {} if old is _ABSENT else old.copy()  # type: ignore[attr-defined]
        entries.pop(op.key, None)
        entries[op.key] = op.value
        if op.keep_last is not None and len(entries) > op.keep_last:
            for key in list(entries)[: len(entries) - op.keep_last]:
                del entries[key]
        return entries

    return _change(state, op.path, change)


def _append_text(state: dict[str, Value], op: AppendText) -> dict[str, Value]:
    def change(old: object) -> str:
        if old is _ABSENT:
            return op.text
        if type(old) is not str:
            raise Invalid(f"{list(op.path)} is a {type(old).__name__}, not a text")
        return old + op.text

    return _change(state, op.path, change)


_APPLY: Final[Mapping[type, Callable[[dict[str, Value], Any], dict[str, Value]]]] = {
    SetState: _set_state,
    ReplaceState: _replace_state,
    DeleteKeys: _delete_keys,
    SetPath: _set_path,
    DeletePath: _delete_path,
    AppendItems: _append_items,
    PrependItems: _prepend_items,
    UpdateItem: _update_item,
    RemoveItems: _remove_items,
    PutEntry: _put_entry,
    AppendText: _append_text,
}


_OPS: Final = list[AnyOp]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_OPS).decode
_VALUES_OF: Final[Mapping[type[Op], tuple[str, ...]]] = {
    kind: tuple(name for name in ("attrs", "state", "items", "value") if name in kind.__struct_fields__)
    for kind in Op.__subclasses__()
}

# -- bytes -----------------------------------------------------------------------------------------------------------


def encode_ops(ops: Sequence[AnyOp]) -> bytes:
    """Return `ops` as bytes that `decode_ops` gives back equal. Raises InvalidOp, for values that are no data too."""
    if len(ops) > OPS_MAX:
        raise InvalidOp(OPS_MAX, f"more than {OPS_MAX} ops at once")
    _check_each(ops, check_shape)
    plain_data = _encode_plain(ops)
    if plain_data is not None:
        return plain_data
    rows: list[list[object]] = []
    for op in ops:
        fields = ((name, getattr(op, name)) for name in op.__struct_fields__)
        # A tuple of the op's own is written as a list, which is shorter; one that is a value stays one.
        plain = (list(field) if type(field) is tuple and name != "value" else field for name, field in fields)
        rows.append([op.__struct_config__.tag, *plain])
    try:
        data = encode_value(rows, path="ops", nodes_max=RESULT_NODES_MAX, depth_max=_OPS_DEPTH_MAX)
    except UnsupportedValue:
        raise _culprit(rows) from None
    _check_each(ops, check_depth)  # after, since only now they are known to be data
    return data


def _encode_plain(ops: Sequence[AnyOp]) -> bytes | None:
    """Return what `encode_ops` does if that is small and nothing in it needs a tag: nearly always, and quick."""
    if not _are_plain(ops):
        return None
    try:
        data = _encode(ops)
    except (OverflowError, UnicodeError):
        return None
    return data if len(data) <= PLAIN_BYTES_MAX else None


def _check_each(ops: Sequence[AnyOp], check: Callable[[AnyOp], None]) -> None:
    for index, op in enumerate(ops):
        try:
            check(op)
        except Invalid as invalid:
            raise InvalidOp(index, str(invalid)) from None


def _culprit(rows: list[list[object]]) -> InvalidOp:
    """Find the op that could not be encoded, by itself or as the one that makes the batch too large."""
    for index, row in enumerate(rows):
        try:
            encode_value(row, path="op", nodes_max=RESULT_NODES_MAX, depth_max=_OPS_DEPTH_MAX)
        except UnsupportedValue as error:
            return InvalidOp(index, str(error))
    return InvalidOp(len(rows) - 1, "the ops are too large together")


def decode_ops(data: bytes, *, nodes_max: int = RESULT_NODES_MAX) -> list[AnyOp]:
    """Return the ops of `data`, checked. Raises ProtocolBreach: bytes of `encode_ops` hold no op that says nothing."""
    if len(data) <= min(PLAIN_BYTES_MAX, nodes_max) and MARK not in data:
        plain = _decode_plain(data)
        if plain is not None:
            return plain
    rows = decode_value(data, nodes_max=nodes_max, depth_max=_OPS_DEPTH_MAX)
    if type(rows) is not list or len(rows) > OPS_MAX:
        raise ProtocolBreach("not a list of ops")
    try:
        ops: list[AnyOp] = msgspec.convert(rows, type=_OPS)
        _check_each(ops, check_shape)
        _check_each(ops, check_depth)
    except (msgspec.ValidationError, InvalidOp):
        raise ProtocolBreach("an op that says nothing") from None
    return ops


def _decode_plain(data: bytes) -> list[AnyOp] | None:
    """Return what `decode_ops` does for small plain ops; None is for the longer way, which also says what is wrong."""
    try:
        ops = _decode(data)
        for op in ops:
            check_shape(op)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, Invalid):
        return None
    return ops if len(ops) <= OPS_MAX and _are_plain(ops) else None


def _are_plain(ops: Sequence[AnyOp]) -> bool:
    for op in ops:
        for name in _VALUES_OF[type(op)]:
            value: object = getattr(op, name)
            # The items of an op are a tuple of its own, which is written as a list.
            if not is_plain(list(value) if type(value) is tuple and name == "items" else value):
                return False
    return True


# -- sizes -----------------------------------------------------------------------------------------------------------


def state_bytes(state: State) -> int:
    """Return the size of the state as it is written in a snapshot.

    Raises UnsupportedValue for one that could not be read back (too many values, too much memory).
    """
    return len(encode_value(dict(state), path="state", nodes_max=RESULT_NODES_MAX, bytes_max=PAYLOAD_BYTES_MAX))


def ops_bytes(ops: Sequence[AnyOp]) -> int:
    """Return what `ops` add to `state_bytes` at most: add it up, and count anew only when the sum nears a quota."""
    total = len(encode_ops(ops))
    for op in ops:
        total += _HEADER_BYTES * (1 + len(getattr(op, "path", ())))
        if isinstance(op, SetState | UpdateItem):
            total += _HEADER_BYTES * _maps(op.attrs)
    return total


def _maps(value: object) -> int:
    if type(value) is not dict:
        return 0
    return 1 + sum(map(_maps, value.values()))


__all__ = [
    "OPS_MAX",
    "PATH_PARTS_MAX",
    "STATE_DEPTH_MAX",
    "AnyOp",
    "AppendItems",
    "AppendText",
    "DeleteKeys",
    "DeletePath",
    "InvalidOp",
    "Op",
    "Path",
    "PrependItems",
    "PutEntry",
    "RemoveItems",
    "ReplaceState",
    "SetPath",
    "SetState",
    "State",
    "UpdateItem",
    "Value",
    "apply",
    "decode_ops",
    "encode_ops",
    "ops_bytes",
    "state_bytes",
]
