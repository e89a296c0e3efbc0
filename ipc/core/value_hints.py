"""What an object is, in words, and what to return in its place: the text of `UnsupportedValue`.

It is *not* a converter. Rule: an object is described by its type alone, read past anything the type overrides, so that
an object built to lie or to hang when looked at can do neither here.
"""

from __future__ import annotations

import types
from typing import Any, Final

import msgspec

_NAME_CHARS_MAX: Final = 100

_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__
_module_of = type.__dict__["__module__"].__get__
_name_of = type.__dict__["__name__"].__get__
_MISSING = object()

ANNOTATE: Final = "annotate the function's return type or pass returns={}"
_LIST: Final = "return list(...) of it"
_OWNED: Final = "it belongs to the process that made it; return what you read from it"
PLAIN: Final = (
    "return plain data (None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, Decimal, UUID, Path)"
)

_AS_DATA: Final = {
    "an Enum member": "send its .value",
    "a pydantic model": "send its .model_dump()",
    "a msgspec Struct": "send msgspec.to_builtins(...) of it",
    "a dataclass": "send dataclasses.asdict(...) of it",
    "an attrs class": "send attrs.asdict(...) of it",
    "a named tuple": "send its ._asdict(), or tuple(...) of it",
}
"""Of records: an argument has no annotation that would bring one back."""

_BY_NAME: Final = {
    "builtins.function": ("a function", "call it and return its result"),
    "builtins.builtin_function_or_method": ("a function", "call it and return its result"),
    "builtins.method": ("a method", "call it and return its result"),
    "builtins.generator": ("a generator", _LIST),
    "builtins.async_generator": ("an async generator", "collect it into a list first"),
    "builtins.coroutine": ("a coroutine", "run it first, with asyncio.run(...)"),
    "builtins.module": ("a module", PLAIN),
    "builtins.memoryview": ("a memoryview", "return bytes(...) of it"),
    "builtins.range": ("a range", _LIST),
    "builtins.map": ("an iterator", _LIST),
    "builtins.filter": ("an iterator", _LIST),
    "builtins.zip": ("an iterator", _LIST),
    "builtins.enumerate": ("an iterator", _LIST),
    "builtins.reversed": ("an iterator", _LIST),
    "builtins.dict_keys": ("a view of a dict", _LIST),
    "builtins.dict_values": ("a view of a dict", _LIST),
    "builtins.dict_items": ("a view of a dict", _LIST),
    "builtins.mappingproxy": ("a mappingproxy", "return dict(...) of it"),
    "builtins.slice": ("a slice", "return its start, stop and step"),
    "builtins.object": ("a bare object", PLAIN),
    "builtins.ellipsis": ("the Ellipsis", PLAIN),
    "builtins.NotImplementedType": ("NotImplemented", PLAIN),
    "fractions.Fraction": ("a Fraction", "return its numerator and denominator, or a Decimal"),
    "re.Pattern": ("a compiled pattern", "return its .pattern"),
    "re.Match": ("a match", "return its .groups() or .groupdict()"),
    "numpy.ndarray": ("a numpy array", "return its .tolist(), or .tobytes() with dtype and shape"),
    "array.array": ("an array", "return its .tolist() or .tobytes()"),
    "pandas.DataFrame": ("a pandas DataFrame", 'return its .to_dict("records")'),
    "pandas.Series": ("a pandas Series", "return its .to_list() or .to_dict()"),
    "pandas.Timestamp": ("a pandas Timestamp", "return its .to_pydatetime()"),
    "polars.DataFrame": ("a polars DataFrame", "return its .to_dicts()"),
    "polars.Series": ("a polars Series", "return its .to_list()"),
    "torch.Tensor": ("a torch tensor", "return its .tolist()"),
}

_BY_ROOT: Final = {
    "numpy": ("a numpy", "return its .item()"),
    "socket": ("a", _OWNED),
    "_socket": ("a", _OWNED),
    "_io": ("an open", _OWNED),
    "_thread": ("a", _OWNED),
    "threading": ("a", _OWNED),
    "multiprocessing": ("a", _OWNED),
    "subprocess": ("a", _OWNED),
    "sqlite3": ("a", _OWNED),
    "asyncio": ("an asyncio", _OWNED),
    "_asyncio": ("an asyncio", _OWNED),
    "weakref": ("a", "return what it refers to"),
}

_BY_BASE: Final = (
    (dict, "dict", "return dict(...) of it"),
    (list, "list", _LIST),
    (tuple, "tuple", "return tuple(...) of it"),
    (set, "set", "return set(...) of it"),
    (frozenset, "frozenset", "return frozenset(...) of it"),
    (str, "str", "return str(...) of it"),
    (bytes, "bytes", "return bytes(...) of it"),
    (bytearray, "bytearray", "return bytes(...) of it"),
    (int, "int", "return int(...) of it"),
    (float, "float", "return float(...) of it"),
    (complex, "complex", "return complex(...) of it"),
)


def mro(kind: type) -> tuple[type, ...]:
    """Return the bases of `kind` as the interpreter has them."""
    found: tuple[type, ...] = _mro_of(kind)
    return found


def class_attribute(kind: type, name: str) -> object:
    """Return what `kind` or its bases define as `name`, unbound, or None; no code of the class runs."""
    for base in _mro_of(kind):
        found = _dict_of(base).get(name, _MISSING)
        if found is not _MISSING:
            return found
    return None


def type_name(kind: type) -> str:
    """Return the bare name of `kind`, as an exact str and cut to size."""
    return str.__str__(_name_of(kind))[:_NAME_CHARS_MAX]


def _module(kind: type) -> str:
    try:
        module = _module_of(kind)
    except AttributeError:  # a class may delete it
        return "?"
    return module if type(module) is str else "?"


def record_kind(kind: type) -> str:
    """Return what sort of record `kind` is ("a dataclass"), or ""; an annotation can bring records back."""
    bases = _mro_of(kind)
    for base in bases:
        if _module(base) == "enum" and _name_of(base) == "Enum":
            return "an Enum member"
    if class_attribute(kind, "model_dump") is not None and class_attribute(kind, "model_fields") is not None:
        return "a pydantic model"
    if any(base is msgspec.Struct for base in bases):
        return "a msgspec Struct"
    if class_attribute(kind, "__dataclass_fields__") is not None:
        return "a dataclass"
    if class_attribute(kind, "__attrs_attrs__") is not None:
        return "an attrs class"
    if class_attribute(kind, "_fields") is not None and any(base is tuple for base in bases):
        return "a named tuple"
    return ""


def describe(obj: object) -> tuple[str, str, str]:
    """Return (type name, what it is, what to do instead)."""
    kind: Any = type(obj)
    name = type_name(kind)
    bases = _mro_of(kind)
    if any(base is type for base in bases):
        return name, f"a class {type_name(obj)}", PLAIN  # type: ignore[arg-type]
    record = record_kind(kind)
    if record:
        return name, f"{record} {name}", ANNOTATE.format(name)
    module = _module(kind)
    root = module.partition(".")[0]
    known = _BY_NAME.get(f"{root}.{name}")
    if known:
        own = f" {type_name_of_function(obj)}" if kind is types.FunctionType else ""
        return name, known[0] + own, known[1]
    if root == "builtins" and name.endswith("iterator"):
        return name, "an iterator", _LIST
    if any(base is BaseException for base in bases):
        return name, f"an exception {name}", "raise it, or return str(...) of it"
    for base, base_name, hint in _BY_BASE:
        if any(one is base for one in bases):
            instead = "return its .item()" if root == "numpy" else hint
            return name, f"a subclass of {base_name}, {name}", f"{instead}, or {ANNOTATE.format(base_name)}"
    for one in (kind, *bases):
        of_root = _BY_ROOT.get(_module(one).partition(".")[0])
        if of_root:
            return name, f"{of_root[0]} {name}", of_root[1]
    return name, f"an object of type {name}", PLAIN


def hint_to_send(what: str, hint: str) -> str:
    """Return what to send in the place of an argument that `describe` said these two things of."""
    for record, instead in _AS_DATA.items():
        if what.startswith(record):
            return instead
    return hint.partition(", or annotate")[0].replace("return ", "send ")


def type_name_of_function(obj: object) -> str:
    """Return the name of a plain function."""
    return str.__str__(types.FunctionType.__dict__["__name__"].__get__(obj))[:_NAME_CHARS_MAX]
