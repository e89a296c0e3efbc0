"""Bytes -> values of the closed table, for bytes that a hostile process wrote.

It is *not* the place where declared types are checked: what comes out is plain, and validated by whoever declared them.

Rules: the bytes are scanned before anything is built; every payload is taken by exact type; whatever a constructor of
the standard library raises for it is a breach; nothing costs more than in proportion to its bytes (digits as binary,
exponents bounded, no more than a few keys with one hash).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.ipc.core import value_tags as tags
from procession.ipc.core.bounds import BODY_DEPTH_MAX, BODY_NODES_MAX, RESULT_OBJECT_BYTES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.prescan import FIXED_SIZE, measure
from procession.ipc.core.value_plain import PLAIN_BYTES_MAX, PLAIN_DEPTH_MAX, is_plain

if TYPE_CHECKING:
    import datetime as dt

_SAME_HASH_MAX: Final = 32
"""Hashes of numbers are not keyed: who picks many keys with one hash makes a set quadratic. Honest data has a few."""

_decode = msgspec.msgpack.Decoder().decode


def decode_value(
    data: bytes,
    *,
    nodes_max: int = BODY_NODES_MAX,
    depth_max: int = BODY_DEPTH_MAX,
    objects_bytes_max: int = RESULT_OBJECT_BYTES_MAX,
) -> object:
    """Return the value that `encode_value` made `data` of. Raises ProtocolBreach and nothing else."""
    try:
        if data and FIXED_SIZE[data[0]] == len(data):
            return _decode(data)
        tagged = tags.MARK in data
        if not tagged and len(data) <= PLAIN_BYTES_MAX and depth_max >= PLAIN_DEPTH_MAX and len(data) <= nodes_max:
            value = _decode(data)
            if is_plain(value):
                return value
        _, object_bytes = measure(
            data, nodes_max=nodes_max, depth_max=tags.wire_depth(depth_max) if tagged else depth_max
        )
        if object_bytes > objects_bytes_max:
            raise ProtocolBreach("too much memory for its objects")
        value = _decode(data)
        return _untag(value, depth_max) if tagged else value
    except ProtocolBreach:
        raise
    except Exception as error:  # noqa: BLE001 - a constructor refused, text was no UTF-8: the bytes are to blame
        raise ProtocolBreach(f"a value cannot be built ({type(error).__name__})") from None


def _untag(value: Any, depth_left: int) -> Any:
    """Return `value` with every tag in it turned into what it stands for; containers are changed in place."""
    if type(value) is list:
        return _untag_items(value, depth_left)
    if type(value) is not dict:
        return value
    if len(value) == 1:
        key = next(iter(value))
        if tags.looks_tagged(key):
            return _build(key, value[key], depth_left)
    if not depth_left:
        raise ProtocolBreach("nested too deep")
    for key, item in value.items():
        if type(item) is dict or type(item) is list:
            value[key] = _untag(item, depth_left - 1)
    return value


def _untag_items(items: list[Any], depth_left: int) -> list[Any]:
    if not depth_left:
        raise ProtocolBreach("nested too deep")
    for index, item in enumerate(items):
        if type(item) is dict or type(item) is list:
            items[index] = _untag(item, depth_left - 1)
    return items


def _build(tag: str, payload: Any, depth_left: int) -> object:
    scalar = _SCALARS.get(tag)
    if scalar is not None:
        return scalar(payload)
    container = _CONTAINERS.get(tag)
    if container is None:
        raise ProtocolBreach("an unknown tag")
    return container(_untag_items(_list(payload), depth_left))


def _list(payload: object) -> list[Any]:
    if type(payload) is not list:
        raise ProtocolBreach("a tag with a payload of another type")
    return payload


def _bytes(payload: object) -> bytes:
    if type(payload) is not bytes:
        raise ProtocolBreach("a tag with a payload of another type")
    return payload


def _text(payload: object) -> str:
    if type(payload) is not str:
        raise ProtocolBreach("a tag with a payload of another type")
    return payload


def _integers(payload: object, count: int) -> list[int]:
    items = _list(payload)
    if len(items) != count or any(type(item) is not int for item in items):
        raise ProtocolBreach("a tag that takes integers has something else")
    return items


# -- containers ------------------------------------------------------------------------------------------------------


def _hashable(items: list[Any]) -> list[Any]:
    """Return `items`, which are about to be hashed, if that is cheap. An item without a hash raises TypeError."""
    if len(items) > _SAME_HASH_MAX and len(items) - len(set(map(hash, items))) > _SAME_HASH_MAX:
        raise ProtocolBreach("too many keys with one hash")
    return items


def _dict(flat: list[Any]) -> dict[Any, Any]:
    if len(flat) % 2:
        raise ProtocolBreach("a key without a value")
    return dict(zip(_hashable(flat[::2]), flat[1::2], strict=True))


def _ordered(flat: list[Any]) -> object:
    from collections import OrderedDict

    return OrderedDict(_dict(flat))


def _counter(flat: list[Any]) -> object:
    from collections import Counter

    counter: Counter[Any] = Counter()
    dict.update(counter, _dict(flat))  # Counter's own update adds, and would do so with values of any type
    return counter


def _deque(items: list[Any]) -> object:
    from collections import deque

    maxlen = items[0]
    if maxlen is not None and (type(maxlen) is not int or maxlen < len(items) - 1):
        raise ProtocolBreach("a deque over its own length")
    return deque(items[1:], maxlen)


_CONTAINERS: Final[Mapping[str, Callable[[list[Any]], object]]] = {
    tags.TUPLE: tuple,
    tags.SET: lambda items: set(_hashable(items)),
    tags.FROZENSET: lambda items: frozenset(_hashable(items)),
    tags.PAIRS: _dict,
    tags.ORDERED: _ordered,
    tags.COUNTER: _counter,
    tags.DEQUE: _deque,
}


# -- scalars ---------------------------------------------------------------------------------------------------------


def _integer(payload: object) -> int:
    data = _bytes(payload)
    if not 0 < len(data) <= tags.INTEGER_BYTES_MAX:
        raise ProtocolBreach("an integer over its limit")
    return int.from_bytes(data, "big", signed=True)


def _surrogates(payload: object) -> str:
    return _bytes(payload).decode("utf-8", "surrogatepass")


def _complex(payload: object) -> complex:
    real, imaginary = _list(payload)
    if type(real) is not float or type(imaginary) is not float:
        raise ProtocolBreach("a complex number of something else")
    return complex(real, imaginary)


def _zone(parts: list[Any]) -> dt.tzinfo | None:
    """Return the time zone of [offset, name, key]; a key that is not known here leaves the offset."""
    from datetime import timedelta, timezone
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if not parts:
        return None
    offset, name, key = parts
    if key is not None:
        if not tags.zone_key_fits(_text(key)):
            raise ProtocolBreach("a time zone with an odd key")
        try:
            return ZoneInfo(key)
        except (ZoneInfoNotFoundError, OSError):
            if offset is None:
                return None
    if type(offset) is not int:
        raise ProtocolBreach("a time zone without its offset")
    delta = timedelta(microseconds=offset)
    if name is not None:
        if not tags.zone_name_fits(_text(name)):
            raise ProtocolBreach("a time zone with an odd name")
        return timezone(delta, name)
    return timezone(delta)


def _datetime(payload: object) -> object:
    from datetime import datetime

    parts = _list(payload)
    *numbers, fold = _integers(parts[:8], 8)
    year, month, day, hour, minute, second, microsecond = numbers
    zone = _zone(parts[8:])
    value = datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)
    hash(value)  # at the ends of the calendar an offset leads beyond them, and every later use would raise
    return value


def _time(payload: object) -> object:
    from datetime import time

    parts = _list(payload)
    hour, minute, second, microsecond, fold = _integers(parts[:5], 5)
    return time(hour, minute, second, microsecond, _zone(parts[5:]), fold=fold)


def _date(payload: object) -> object:
    from datetime import date

    return date(*_integers(payload, 3))


def _timedelta(payload: object) -> object:
    from datetime import timedelta

    return timedelta(*_integers(payload, 3))


def _decimal(payload: object) -> object:
    from decimal import Decimal

    text = _text(payload)
    if len(text) > tags.DECIMAL_CHARS_MAX or not text.isascii():
        raise ProtocolBreach("a decimal over its limit")
    value = Decimal(text)
    if not tags.decimal_fits(value):
        raise ProtocolBreach("a decimal over its limit")
    return value


def _uuid(payload: object) -> object:
    from uuid import UUID

    return UUID(bytes=_bytes(payload))


def _path(payload: object) -> object:
    from pathlib import Path

    if type(payload) is dict and payload.keys() == {tags.TEXT}:
        payload = _surrogates(payload[tags.TEXT])
    text = _text(payload)
    if "\0" in text:
        raise ProtocolBreach("a path with NUL")
    return Path(text)


_SCALARS: Final[Mapping[str, Callable[[object], object]]] = {
    tags.BYTEARRAY: lambda payload: bytearray(_bytes(payload)),
    tags.INTEGER: _integer,
    tags.TEXT: _surrogates,
    tags.COMPLEX: _complex,
    tags.DATETIME: _datetime,
    tags.DATE: _date,
    tags.TIME: _time,
    tags.TIMEDELTA: _timedelta,
    tags.DECIMAL: _decimal,
    tags.UUID: _uuid,
    tags.PATH: _path,
}
