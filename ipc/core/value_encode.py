"""Values of a program -> bytes: plain data as it is, the rest of the closed table as tags, anything else refused.

It is *not* a serialiser of classes: a record (dataclass, Enum, model) goes as its data, and only when the caller said
with a declared type that it will make the record again.

Rules: an object is taken for what its exact type is, never for what it says it is, and types are compared by identity
(a metaclass may define hashing); containers are read with the methods of their base class; every value is counted
before it is copied, so neither a cycle nor a shared list of lists costs more than the bounds. Only with `lossy` does
code of the program run (a model's `model_dump`, a foreign time zone's `utcoffset`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from procession.ipc.core import value_tags as tags
from procession.ipc.core.bounds import (
    BODY_DEPTH_MAX,
    BODY_NODES_MAX,
    PAYLOAD_BYTES_MAX,
    RESULT_OBJECT_BYTES_MAX,
)
from procession.ipc.core.prescan import WIDE_CHAR_BYTES, measure
from procession.ipc.core.value_hints import PLAIN, class_attribute, describe, mro, record_kind, type_name
from procession.ipc.core.value_plain import PLAIN_BYTES_MAX, PLAIN_DEPTH_MAX, is_plain

_KEY_CHARS_MAX: Final = 40
_PATH_CHARS_MAX: Final = 200
_RECORD_TURNS_MAX: Final = 8
"""An Enum of models of Enums is two turns; a `model_dump` that gives a model back has no end."""
_NODE_OBJECT_BYTES_MAX: Final = 320
"""No value is estimated higher, its share of its container included: often saves a scan."""

_OTHER_WAY: Final = "write it to a file and return the path"

_encode = msgspec.msgpack.Encoder().encode

_SCALARS: Final = frozenset(map(id, (type(None), bool, int, float, str)))
_LEAVES: Final = _SCALARS | {id(bytes)}
_CONTAINERS: Final = frozenset((id(dict), id(list)))
_INT, _STR, _BYTES, _FLOAT = id(int), id(str), id(bytes), id(float)
_SIZED: Final = frozenset((_STR, _BYTES))
_ONLY_STR: Final = {_STR}


class UnsupportedValue(TypeError):
    """A value that does not cross processes; nothing was encoded. str() names where it is and what to do instead."""

    def __init__(self, path: str, type_name: str, what: str, hint: str, *, too_large: bool = False) -> None:
        super().__init__(f"{path} is {what}: {hint}")
        self.path = path
        self.type_name = type_name
        self.what = what
        self.hint = hint
        self.too_large = too_large
        """Whether its kind would cross and only there is too much of it."""


class Refused(Exception):
    """Carries the refusal outwards; each container adds the step that leads into it."""

    def __init__(self, type_name: str, what: str, hint: str, *, too_large: bool = False) -> None:
        super().__init__(what)
        self.too_large = too_large
        self.type_name = type_name
        self.what = what
        self.hint = hint
        self.steps: list[str] = []


def encode_value(
    obj: object,
    *,
    path: str = "result",
    lossy: bool = False,
    nodes_max: int = BODY_NODES_MAX,
    depth_max: int = BODY_DEPTH_MAX,
    bytes_max: int = PAYLOAD_BYTES_MAX,
) -> bytes:
    """Return `obj` as bytes that `decode_value` with the same bounds gives back equal and of the same type.

    With `lossy`, records and subclasses of plain types go as their data. Raises UnsupportedValue, whose path starts
    with `path`; never anything else but MemoryError, whatever the object does.
    """
    kind = id(type(obj))
    nodes = 1
    if kind in _CONTAINERS and depth_max >= PLAIN_DEPTH_MAX and is_plain(obj):
        try:
            data = _encode(obj)
            if len(data) <= min(PLAIN_BYTES_MAX, nodes_max, bytes_max):
                return data
        except (OverflowError, UnicodeError):
            pass  # what is told below, or written as a tag
    try:
        try:
            if kind in _LEAVES and (kind not in _SIZED or len(obj) <= bytes_max):  # type: ignore[arg-type]
                data = _encode(obj)
            else:
                packer = Packer(lossy, nodes_max, depth_max, bytes_max)
                data = _encode(packer.pack_all(obj))
                nodes = nodes_max - packer.nodes_left
        except (OverflowError, UnicodeError):
            # Somewhere is an int over 64 bits or a text with lone surrogates: rare, so only now each one is looked at.
            packer = Packer(lossy, nodes_max, depth_max, bytes_max, careful=True)
            data = _encode(packer.pack_all(obj))
            nodes = nodes_max - packer.nodes_left
    except Refused as refused:
        where = "".join(reversed(refused.steps))
        if len(where) > _PATH_CHARS_MAX:
            where = f"{where[: _PATH_CHARS_MAX // 2]}...{where[-_PATH_CHARS_MAX // 4 :]}"
        raise UnsupportedValue(
            path + where, refused.type_name, refused.what, refused.hint, too_large=refused.too_large
        ) from None
    except MemoryError:  # a limit of the process, not a fault of the value
        raise
    except Exception as error:  # noqa: BLE001 - a dict changed by another thread, no stack left: not our doing
        name = type_name(type(obj))
        hint = f"reading it failed with {type_name(type(error))}"
        raise UnsupportedValue(path, name, f"a {name} that cannot be read", hint) from None
    if len(data) > bytes_max:
        raise UnsupportedValue(
            path,
            type_name(type(obj)),
            f"{len(data)} bytes long",
            f"the limit is {bytes_max} bytes; {_OTHER_WAY}",
            too_large=True,
        )
    if nodes * _NODE_OBJECT_BYTES_MAX + len(data) * WIDE_CHAR_BYTES > RESULT_OBJECT_BYTES_MAX:
        _check_memory(obj, data, path, nodes_max, depth_max)
    return data


def _check_memory(obj: object, data: bytes, path: str, nodes_max: int, depth_max: int) -> None:
    """Refuse here what the other side would have to refuse."""
    object_bytes = measure(data, nodes_max=nodes_max, depth_max=tags.wire_depth(depth_max))[1]
    if object_bytes > RESULT_OBJECT_BYTES_MAX:
        what = f"about {object_bytes >> 20} MiB of objects"
        hint = f"the limit is {RESULT_OBJECT_BYTES_MAX >> 20} MiB; {_OTHER_WAY}"
        raise UnsupportedValue(path, type_name(type(obj)), what, hint, too_large=True)


class Packer:
    """One walk over one value, with what it may still spend."""

    __slots__ = (
        "bytes_left",
        "bytes_max",
        "careful",
        "depth_max",
        "lossy",
        "nodes_left",
        "nodes_max",
        "packers",
        "path",
        "records",
    )

    def __init__(self, lossy: bool, nodes_max: int, depth_max: int, bytes_max: int, *, careful: bool = False) -> None:
        self.lossy = lossy
        self.nodes_max = nodes_max
        self.nodes_left = nodes_max
        self.depth_max = depth_max
        self.bytes_max = bytes_max
        self.bytes_left = bytes_max
        self.packers = _packers()
        self.careful = careful  # look at every int and text
        self.path: list[object] = []  # the containers around the value at hand
        self.records: list[object] = []  # the records around it, whose data are containers of our own making

    def pack_all(self, obj: object) -> object:
        self.spend_nodes(obj, 1)
        packed = self.pack(obj)
        self.spend_bytes(obj, 0)
        return packed

    def pack(self, obj: object) -> object:
        kind = id(type(obj))
        if kind in _SCALARS:
            if self.careful:
                return self._pack_scalar(obj, kind)
            if kind == _STR:
                self.bytes_left -= len(obj)  # type: ignore[arg-type]
            return obj
        if kind == _BYTES:
            self.bytes_left -= len(obj)  # type: ignore[arg-type]
            return obj
        packer = self.packers.get(kind)
        if packer is not None:
            return packer(self, obj)
        if self.lossy:
            return self._pack_lossy(obj)
        raise Refused(*describe(obj))

    # -- what is spent -------------------------------------------------------------------------------------------

    def spend_nodes(self, obj: object, count: int) -> None:
        self.nodes_left -= count
        if self.nodes_left < 0:
            raise Refused(
                type_name(type(obj)),
                "more than it may hold",
                f"the limit is {self.nodes_max} values in all; {_OTHER_WAY}",
                too_large=True,
            )

    def spend_bytes(self, obj: object, count: int) -> None:
        """Account for bytes before they are copied; what is only referred to may be accounted for later."""
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise Refused(
                type_name(type(obj)),
                "too large",
                f"the limit is {self.bytes_max} bytes in all; {_OTHER_WAY}",
                too_large=True,
            )

    def enter(self, obj: object) -> None:
        self.path.append(obj)
        if len(self.path) > self.depth_max:
            name = type_name(type(obj))
            around = [*map(id, self.path), *map(id, self.records)]
            if len(set(around)) < len(around):
                raise Refused(name, "part of a cycle", "return data that does not contain itself")
            raise Refused(name, "nested too deep", f"the limit is {self.depth_max} levels")

    def tag(self, tag: str, payload: object, inner: int = 0) -> dict[str, object]:
        """Return a tagged value; `inner` counts the values of a payload that was not packed by `items`."""
        self.spend_nodes(payload, 2 + inner)
        return {tag: payload}

    # -- scalars -------------------------------------------------------------------------------------------------

    def _pack_scalar(self, obj: Any, kind: int) -> object:
        if kind == _INT and not -(1 << 63) <= obj < 1 << 64:
            size = obj.bit_length() // 8 + 1
            if size > tags.INTEGER_BYTES_MAX:
                raise Refused(
                    "int", f"an int of {size} bytes", f"the limit is {tags.INTEGER_BYTES_MAX} bytes", too_large=True
                )
            self.spend_bytes(obj, size)
            return self.tag(tags.INTEGER, obj.to_bytes(size, "big", signed=True))
        if kind == _STR:
            self.spend_bytes(obj, len(obj))
            if not encodable(obj):
                return self.tag(tags.TEXT, obj.encode("utf-8", "surrogatepass"))
        return obj

    # -- containers ----------------------------------------------------------------------------------------------

    def items(self, owner: object, items: list[Any], step: Callable[[int], str]) -> list[object]:
        """Pack the items of `owner`, of which `items` is a copy."""
        self.spend_nodes(owner, len(items))
        kinds = set(map(id, map(type, items)))
        if kinds <= _LEAVES and not self.careful and len(self.path) < self.depth_max:
            if kinds <= _SIZED:
                self.bytes_left -= sum(map(len, items))
            elif not kinds.isdisjoint(_SIZED):
                self.bytes_left -= sum(len(item) for item in items if id(type(item)) in _SIZED)
            return items
        self.enter(owner)
        packed: list[object] = []
        try:
            for item in items:
                packed.append(self.pack(item))  # noqa: PERF401 - a refusal needs to know how far it came
        except Refused as refused:
            refused.steps.append(step(len(packed)))
            raise
        self.path.pop()
        return packed

    def pairs(self, owner: object, pairs: list[tuple[Any, Any]], tag: str = tags.PAIRS) -> dict[str, object]:
        """Pack a mapping whose keys are not all text, or whose one key looks like a tag."""
        flat = [part for pair in pairs for part in pair]
        return self.tag(tag, self.items(owner, flat, lambda at: key_step(flat[at - 1]) if at & 1 else " (a key)"))

    def mapping(self, owner: object, entries: dict[Any, Any]) -> dict[str, object]:
        """Pack a dict whose keys are all exact str; `entries` is a copy."""
        if len(entries) == 1 and tags.looks_tagged(next(iter(entries))):
            return self.pairs(owner, list(entries.items()))
        if self.careful and not all(map(encodable, entries)):
            return self.pairs(owner, list(entries.items()))
        self.spend_nodes(owner, 2 * len(entries))
        self.bytes_left -= sum(map(len, entries))
        kinds = set(map(id, map(type, entries.values())))
        if kinds <= _LEAVES and not self.careful and len(self.path) < self.depth_max:
            if not kinds.isdisjoint(_SIZED):
                self.bytes_left -= sum(len(item) for item in entries.values() if id(type(item)) in _SIZED)
            return entries
        self.enter(owner)
        packed: dict[str, object] = {}
        key = ""
        try:
            for key, value in entries.items():
                packed[key] = self.pack(value)
        except Refused as refused:
            refused.steps.append(key_step(key))
            raise
        self.path.pop()
        return packed

    # -- records, as data ----------------------------------------------------------------------------------------

    def _pack_lossy(self, obj: Any) -> object:
        """Pack a record or a subclass of a plain type as its data."""
        turns = 0
        data = obj
        while record := record_kind(type(data)):
            self.records.append(data)
            turns += 1
            if turns > _RECORD_TURNS_MAX:
                raise Refused(type_name(type(data)), "a record that is made of records without end", PLAIN)
            data = _record_data(data, type(data), record)
        if turns:
            packed = self.pack(data)
            del self.records[-turns:]
            return packed
        for base, packer in _BASE_PACKERS:
            if any(one is base for one in mro(type(obj))):
                return packer(self, obj)
        raise Refused(*describe(obj))


def _record_data(obj: Any, kind: Any, record: str) -> object:
    """Return what a record holds. Only a model's own `model_dump` runs, and what it raises is a refusal."""
    read = object.__getattribute__
    try:
        if record == "an Enum member":
            data: object = read(obj, "_value_")
        elif record == "a named tuple":
            data = tuple.__getitem__(obj, slice(None))
        elif record == "a pydantic model":
            dump: Any = class_attribute(kind, "model_dump")
            data = dump(obj, mode="python")
        elif record == "a msgspec Struct":
            data = _struct_data(obj, kind)
        elif record == "a dataclass":
            fields: Any = class_attribute(kind, "__dataclass_fields__")
            names = [name for name, field in dict.items(fields) if field._field_type.name == "_FIELD"]
            data = {name: read(obj, name) for name in names}
        else:
            attributes: Any = class_attribute(kind, "__attrs_attrs__")
            data = {attribute.name: read(obj, attribute.name) for attribute in tuple.__iter__(attributes)}
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the program's own code ran
        hint = f"reading it failed with {type_name(type(error))}"
        raise Refused(type_name(kind), f"{record} {type_name(kind)}", hint) from None
    return data


def _struct_data(obj: Any, kind: Any) -> object:
    """Return a Struct as msgspec would write it, so that its declared type reads it: renamed, tagged, array-like."""
    read = object.__getattribute__
    config = kind.__struct_config__
    values = [read(obj, name) for name in kind.__struct_fields__]
    if config.array_like:
        return values if config.tag is None else [config.tag, *values]
    data: dict[str, object] = {} if config.tag is None else {config.tag_field: config.tag}
    data.update(zip(kind.__struct_encode_fields__, values, strict=True))
    return data


def encodable(text: str) -> bool:
    """Whether `text` has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def key_step(key: object) -> str:
    """Return how a path names the entry of `key`."""
    if id(type(key)) in _LEAVES:
        shown = repr(key)
        return f"[{shown}]" if len(shown) <= _KEY_CHARS_MAX else f"[{shown[: _KEY_CHARS_MAX - 3]}...]"
    return f"[<{type_name(type(key))}>]"


def index_step(at: int) -> str:
    """Return how a path names an item of a sequence."""
    return f"[{at}]"


def _element_step(_: int) -> str:
    return " (an element)"


# -- the packers of the closed table; each works on its type and, by base-class methods, on a subclass ---------------

Pack = Callable[[Packer, Any], object]


def _pack_dict(packer: Packer, obj: Any) -> object:
    if set(map(id, map(type, dict.__iter__(obj)))) <= _ONLY_STR:
        return packer.mapping(obj, obj.copy() if type(obj) is dict else dict(dict.items(obj)))
    return packer.pairs(obj, list(dict.items(obj)))


def _pack_list(packer: Packer, obj: Any) -> object:
    return packer.items(obj, list.copy(obj), index_step)


def _pack_tuple(packer: Packer, obj: Any) -> object:
    return packer.tag(tags.TUPLE, packer.items(obj, list(tuple.__getitem__(obj, slice(None))), index_step))


def _pack_set(packer: Packer, obj: Any) -> object:
    return packer.tag(tags.SET, packer.items(obj, list(set.__iter__(obj)), _element_step))


def _pack_frozenset(packer: Packer, obj: Any) -> object:
    return packer.tag(tags.FROZENSET, packer.items(obj, list(frozenset.__iter__(obj)), _element_step))


def _pack_bytearray(packer: Packer, obj: Any) -> object:
    packer.spend_bytes(obj, bytearray.__len__(obj))
    return packer.tag(tags.BYTEARRAY, bytes(bytearray.__getitem__(obj, slice(None))))


def _pack_complex(packer: Packer, obj: complex) -> object:
    return packer.tag(tags.COMPLEX, [obj.real, obj.imag], 2)


_BASE_PACKERS: Final[tuple[tuple[type, Pack], ...]] = (
    (dict, _pack_dict),
    (list, _pack_list),
    (tuple, _pack_tuple),
    (set, _pack_set),
    (frozenset, _pack_frozenset),
    (bytearray, _pack_bytearray),
    (str, lambda packer, obj: packer.pack(str.__str__(obj))),
    (bytes, lambda packer, obj: packer.pack(bytes.__getitem__(obj, slice(None)))),
    (int, lambda packer, obj: packer.pack(int.__int__(obj))),
    (float, lambda packer, obj: packer.pack(float.__float__(obj))),
)
"""In the order in which a lossy walk tries them; of types that cannot share a subclass."""


@cache
def _packers() -> Mapping[int, Pack]:
    """Return the packers by identity of type; built late, because its modules are slow to import."""
    from procession.ipc.core.value_encode_library import library_packers

    own: tuple[tuple[type, Pack], ...] = (*_BASE_PACKERS[:6], (complex, _pack_complex))
    return {id(kind): packer for kind, packer in (*own, *library_packers())}


def warm() -> None:
    """Load what the table needs from the standard library; the zygote does so before it forks."""
    _packers()
