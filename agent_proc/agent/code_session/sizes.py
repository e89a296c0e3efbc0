"""How large things are: one walk over one element, and the running sum that keeps the state within its budget.

    size_of(element) -> (written_bytes, held_bytes)      accounted(state, {collection: change}) -> ops

It is *not* the size of what is sent (the wire counts that itself), and never a walk over the state: `state["sizes"]` has the
held bytes of every collection, and an action adds what comes and takes away what goes.

Rules: a size depends on nothing but the value, so that what is taken away is what was added. `written_bytes` is about what
an element takes in a journal, and is held against the budget of one element. `held_bytes` is at least that, at least the
memory that a reader reckons with, and so much for every single value that a state within its budget has no more values
than a snapshot may have: whatever is accepted here can be read back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from procession.agent_proc.agent.code_session.bounds import ELEMENT_DEPTH_MAX, STATE_RESERVE_BYTES
from procession.ipc.core.bounds import RESULT_NODES_MAX, RESULT_OBJECT_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.prescan import WIDE_CHAR_BYTES, measure
from procession.ipc.core.state_ops import AnyOp, SetState, State
from procession.ipc.core.value_tags import wire_depth
from procession.ipc.core.values import UnsupportedValue, encode_value

_HEADER_BYTES: Final = 9
"""A number is written in at most this, and nothing has a longer header."""
_VALUE_BYTES: Final = RESULT_OBJECT_BYTES_MAX // RESULT_NODES_MAX + 1
"""So much is held for every value that the budget of bytes is used up before that of values."""
_LIST_BYTES, _EMPTY_DICT_BYTES = 72, 80
_DICT_BYTES: Final = 160 + 72 + 2 * _VALUE_BYTES
"""What a reader reckons with for a map, and for the tag and the list that carry one whose keys are not all texts."""
_TIME_WRITTEN_BYTES, _TIME_HELD_BYTES = 15, 64
"""A time in UTC is written in at most so many bytes, as msgpack has it, and read as one small object."""
_FLAT_ITEMS_MAX: Final = 32
"""A map of more is walked like any other."""

TOO_LARGE: Final = "message_too_large"
STATE_TOO_LARGE: Final = "state_too_large"


class Size(NamedTuple):
    """See the module's text."""

    written_bytes: int
    held_bytes: int


class _TooLargeToWalk(Exception):
    """The walk was given up: there is more than was allowed."""


def size_of(value: object, bytes_max: int = RESULT_OBJECT_BYTES_MAX) -> Size:
    """Return the size of a value that is known to be within `bytes_max` written bytes, as everything in a state is."""
    try:
        return _walk(value, bytes_max)
    except _TooLargeToWalk:
        raise AssertionError("an element of a state is larger than a whole state may be") from None


def held_bytes(value: object) -> int:
    """Return the held bytes of something that is in the state."""
    return size_of(value).held_bytes


def checked_size(state: State, value: object, what: str, *, code: str) -> Size:
    """Return the size of an element that is to be kept.

    Raises InvalidRequest with `code` for what is no data, and MessageTooLarge for more than an element may have.
    """
    bytes_max: int = state["budgets"]["element_bytes_max"]
    try:
        return _walk(value, bytes_max)
    except _TooLargeToWalk:
        raise MessageTooLarge(
            f"{what} is larger than {bytes_max} bytes, the most that one element may have",
            code=TOO_LARGE,
            hint="keep what is large in a file and refer to it",
        ) from None
    except UnsupportedValue as error:
        raise InvalidRequest(str(_placed(value, what) or error), code=code) from None


def _placed(value: object, what: str) -> UnsupportedValue | None:
    """Return the refusal with the place in the whole element, where the walk saw only a part."""
    try:
        encode_value(value, path=what, nodes_max=RESULT_NODES_MAX, depth_max=ELEMENT_DEPTH_MAX)
    except UnsupportedValue as error:
        return error
    return None


def _walk(value: object, bytes_max: int) -> Size:
    """Walk level by level; every value is counted before those in it are looked at, so nothing has to be small."""
    if type(value) is dict and len(value) <= _FLAT_ITEMS_MAX and (flat := _flat(value)) is not None:
        if flat.written_bytes > bytes_max:
            raise _TooLargeToWalk
        return flat
    written, held = _HEADER_BYTES, _VALUE_BYTES
    level: list[object] = [value]
    for depth in range(ELEMENT_DEPTH_MAX + 1):
        inner: list[object] = []
        for item in level:
            kind = type(item)
            if kind is str:
                text: str = item  # type: ignore[assignment]
                if text.isascii():
                    count = in_memory = len(text)
                elif (count := utf8_bytes(text)) >= 0:
                    in_memory = WIDE_CHAR_BYTES * count
                else:
                    count, in_memory = _other(item, bytes_max)
                written += count
                held += in_memory
            elif kind is int:
                if not -(1 << 63) <= item < 1 << 64:  # type: ignore[operator]
                    count, in_memory = _other(item, bytes_max)
                    written += count
                    held += in_memory
            elif item is None or kind is bool or kind is float:
                continue
            elif kind is dict:
                entries: dict[object, object] = item  # type: ignore[assignment]
                written += 2 * _HEADER_BYTES * len(entries)
                held += _DICT_BYTES + 2 * _VALUE_BYTES * len(entries) if entries else _EMPTY_DICT_BYTES
                if written > bytes_max:
                    raise _TooLargeToWalk
                inner += entries
                inner += entries.values()
            elif kind is list:
                items: list[object] = item  # type: ignore[assignment]
                written += _HEADER_BYTES * len(items)
                held += _LIST_BYTES + _VALUE_BYTES * len(items)
                if written > bytes_max:
                    raise _TooLargeToWalk
                inner += items
            elif kind is dt.datetime and item.tzinfo is dt.UTC and not item.fold:  # type: ignore[attr-defined]
                written += _TIME_WRITTEN_BYTES
                held += _TIME_HELD_BYTES
            else:
                count, in_memory = _other(item, bytes_max, ELEMENT_DEPTH_MAX - depth)
                written += count
                held += in_memory
        if written > bytes_max:
            raise _TooLargeToWalk
        if not inner:
            return Size(written, held)
        level = inner
    raise _too_deep()


def _flat(entries: dict[Any, Any]) -> Size | None:
    """Return what the walk does for a map that holds no more maps or lists, as most messages are; None for another."""
    count = len(entries)
    written = _HEADER_BYTES * (1 + 2 * count)
    held = _VALUE_BYTES * (1 + 2 * count) + (_DICT_BYTES if count else _EMPTY_DICT_BYTES)
    for key, item in entries.items():
        if type(key) is not str or not key.isascii():
            return None
        kind = type(item)
        size = len(key)
        if kind is str:
            if not item.isascii():
                return None
            size += len(item)
        elif kind is dt.datetime:
            if item.tzinfo is not dt.UTC or item.fold:
                return None
            written += _TIME_WRITTEN_BYTES
            held += _TIME_HELD_BYTES
        elif kind is dict:
            if item:
                return None
            held += _EMPTY_DICT_BYTES
        elif item is not None and kind is not bool and kind is not float:
            return None
        written += size
        held += size
    return Size(written, held)


def _too_deep() -> UnsupportedValue:
    return UnsupportedValue("a value", "", "nested too deep", f"the limit is {ELEMENT_DEPTH_MAX} levels")


def _other(value: object, bytes_max: int, depth_max: int = 0) -> tuple[int, int]:
    """Return what a value of the rest of the closed table takes, written and held. Raises UnsupportedValue."""
    try:
        data = encode_value(value, nodes_max=RESULT_NODES_MAX, depth_max=depth_max, bytes_max=bytes_max)
    except UnsupportedValue as error:
        if error.too_large:
            raise _TooLargeToWalk from None
        raise
    nodes, objects_bytes = measure(data, depth_max=wire_depth(depth_max), nodes_max=RESULT_NODES_MAX)
    return len(data), max(len(data), objects_bytes, nodes * _VALUE_BYTES)


def utf8_bytes(text: str) -> int:
    """Return the bytes of `text` in UTF-8, -1 for one that has no such form (half a surrogate pair)."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


# -- the running sum -------------------------------------------------------------------------------------------------


def accounted(state: State, changes: Mapping[str, int]) -> tuple[AnyOp, ...]:
    """Return the ops that note by how many held bytes collections grow or shrink.

    Raises MessageTooLarge, code state_too_large, when the state would grow beyond its budget.
    """
    sizes: Mapping[str, int] = state["sizes"]
    changed = {name: sizes[name] + change for name, change in changes.items() if change}
    if not changed:
        return ()
    growth = sum(changes.values())
    if growth > 0:
        bytes_max: int = state["budgets"]["state_bytes_max"]
        total = STATE_RESERVE_BYTES + sum(sizes.values())
        if total + growth > bytes_max:
            largest = max(sizes, key=lambda name: sizes[name])
            raise MessageTooLarge(
                f"the session's state would be {total + growth} bytes, and may have {bytes_max}",
                code=STATE_TOO_LARGE,
                hint=f"most of it is {largest}, {sizes[largest]} bytes: clear it, or keep less in it",
            )
    return (SetState({"sizes": changed}),)
