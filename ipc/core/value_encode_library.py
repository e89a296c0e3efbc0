"""The packers for types of the standard library, apart because their modules take milliseconds to import.

It is *not* imported by `import procession`; the first value that is no builtin loads it, or `value_encode.warm`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from pathlib import Path, PosixPath, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from procession.ipc.core import value_tags as tags
from procession.ipc.core.value_encode import Packer, Refused, encodable, index_step
from procession.ipc.core.value_hints import type_name

if TYPE_CHECKING:
    from procession.ipc.core.value_encode import Pack

_MICROSECOND = dt.timedelta(microseconds=1)


def library_packers() -> tuple[tuple[type, Pack], ...]:
    """Return the packers, each for one exact type."""
    return (
        (OrderedDict, lambda packer, obj: packer.pairs(obj, list(OrderedDict.items(obj)), tags.ORDERED)),
        (Counter, lambda packer, obj: packer.pairs(obj, list(dict.items(obj)), tags.COUNTER)),
        (deque, _pack_deque),
        (dt.datetime, _pack_datetime),
        (dt.date, lambda packer, obj: packer.tag(tags.DATE, [obj.year, obj.month, obj.day], 3)),
        (dt.time, _pack_time),
        (dt.timedelta, _pack_timedelta),
        (Decimal, _pack_decimal),
        (UUID, _pack_uuid),
        (type(Path()), _pack_path),
        (PosixPath, _pack_path),
        (PurePosixPath, _pack_path),
    )


def _pack_deque(packer: Packer, obj: Any) -> object:
    items: list[object] = [obj.maxlen, *packer.items(obj, list(obj), index_step)]
    return packer.tag(tags.DEQUE, items, 1)


def _zone(packer: Packer, obj: Any) -> list[object]:
    zone: Any = obj.tzinfo
    if zone is None:
        return []
    name = key = None
    if type(zone) is ZoneInfo:
        key = zone.key
    elif type(zone) is dt.timezone:
        plain = dt.timezone(zone.utcoffset(None)).tzname(None)
        name = zone.tzname(None) if zone.tzname(None) != plain else None
    elif not packer.lossy:
        what = f"in a time zone of type {type_name(type(zone))}"
        raise Refused(type_name(type(obj)), what, "return it with .astimezone(timezone.utc), or in a ZoneInfo")
    offset: dt.timedelta | None = obj.utcoffset()
    if not (name is None or tags.zone_name_fits(name)) or not (key is None or tags.zone_key_fits(key)):
        raise Refused(type_name(type(obj)), "in a time zone with an odd name", "use a plain one")
    return [None if offset is None else offset // _MICROSECOND, name, key]


def _pack_datetime(packer: Packer, obj: dt.datetime) -> object:
    if obj.tzinfo is dt.UTC and not obj.fold:
        return obj  # msgpack has a form for it
    payload: list[object] = [
        obj.year, obj.month, obj.day, obj.hour, obj.minute, obj.second, obj.microsecond, obj.fold,
        *_zone(packer, obj),
    ]  # fmt: skip
    return packer.tag(tags.DATETIME, payload, len(payload))


def _pack_time(packer: Packer, obj: dt.time) -> object:
    payload: list[object] = [obj.hour, obj.minute, obj.second, obj.microsecond, obj.fold, *_zone(packer, obj)]
    return packer.tag(tags.TIME, payload, len(payload))


def _pack_timedelta(packer: Packer, obj: dt.timedelta) -> object:
    return packer.tag(tags.TIMEDELTA, [obj.days, obj.seconds, obj.microseconds], 3)


def _pack_decimal(packer: Packer, obj: Decimal) -> object:
    if tags.decimal_fits(obj):
        text = str(obj)
        if len(text) <= tags.DECIMAL_CHARS_MAX:
            packer.spend_bytes(obj, len(text))
            return packer.tag(tags.DECIMAL, text)
    limits = f"the limits are {tags.DECIMAL_CHARS_MAX} characters and exponents of {tags.DECIMAL_EXPONENT_MAX}"
    raise Refused("Decimal", "a Decimal too large", limits)


def _pack_uuid(packer: Packer, obj: UUID) -> object:
    number = obj.int  # a slot that can be set past the class's guard
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise Refused("UUID", "a UUID that is none", "make it anew")
    return packer.tag(tags.UUID, number.to_bytes(16, "big"))


def _pack_path(packer: Packer, obj: PurePosixPath) -> object:
    text = str(obj)
    if type(text) is not str or "\0" in text:
        raise Refused(type_name(type(obj)), "a path that is none", "make it anew")
    packer.spend_bytes(obj, len(text))
    if encodable(text):
        return packer.tag(tags.PATH, text)
    payload = packer.tag(tags.TEXT, text.encode("utf-8", "surrogatepass"))
    return packer.tag(tags.PATH, payload)
