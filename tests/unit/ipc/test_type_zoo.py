"""R-20: over 200 nasty types, as a result and inside one. Each is encoded or refused, at once, and nothing else."""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest

from procession.ipc.core.values import UnsupportedValue, decode_value, encode_value

HANG_S = 2.0
"""Each case takes microseconds; a loop that never ends is cut here and fails its test."""

DUNDERS = (
    "__iter__ __next__ __len__ __length_hint__ __getitem__ __contains__ __reversed__ __missing__ __eq__ __hash__ "
    "__repr__ __str__ __format__ __bytes__ __bool__ __int__ __index__ __float__ __complex__ __fspath__ __reduce__ "
    "__reduce_ex__ __getstate__ __getnewargs_ex__ __copy__ __deepcopy__ __dir__ __sizeof__ __getattribute__ __lt__ "
    "__getattr__ __instancecheck__ __subclasscheck__ __call__ __buffer__ __add__ __and__ __rshift__ "
    "keys items values get copy encode decode to_bytes bit_length tolist"
).split()

BEHAVIOURS: dict[str, Callable[..., object]] = {}


def behaviour(function: Callable[..., object]) -> Callable[..., object]:
    BEHAVIOURS[function.__name__] = function
    return function


@behaviour
def loops(*_: object, **__: object) -> object:
    for _turn in count():
        pass
    return None


@behaviour
def raises(*_: object, **__: object) -> object:
    raise RuntimeError("nasty")


@behaviour
def exits(*_: object, **__: object) -> object:
    raise SystemExit(3)


@behaviour
def recurses(*args: object, **__: object) -> object:
    return recurses(*args)


@behaviour
def returns_itself(self: object, *_: object, **__: object) -> object:
    return self


@behaviour
def never_ends(*_: object, **__: object) -> object:
    return iter(int, 1)


@behaviour
def lies(*_: object, **__: object) -> object:
    return 1 << 40


def nasty_class(base: type, how: Callable[..., object], meta: Any = type) -> Any:
    namespace: dict[str, object] = dict.fromkeys(DUNDERS, how)
    namespace["__class__"] = property(how)
    namespace["__dict__"] = property(how)
    return meta("Nasty", (base,), namespace)


def nasty_meta(how: Callable[..., object]) -> type:
    names = ("__hash__", "__eq__", "__repr__", "__str__", "__getattr__", "__iter__", "__len__", "__instancecheck__")
    namespace: dict[str, object] = dict.fromkeys((*names, "__subclasscheck__", "__bool__", "__contains__"), how)
    namespace["__name__"] = namespace["__module__"] = namespace["__mro__"] = property(how)
    namespace["mro"] = lambda cls: type.mro(cls)
    return type("NastyMeta", (type,), namespace)


BASES = (object, dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex)
SPOOFS = (
    "model_dump __struct_fields__ __dataclass_fields__ __attrs_attrs__ _fields _value_ __array__ __module__ __mro__ "
    "__pydantic_serializer__ __struct_config__ __slots_spoof__"
).split()


def zoo() -> dict[str, object]:
    """Return the animals by name."""
    animals: dict[str, object] = {}
    for name, how in BEHAVIOURS.items():
        for base in BASES:
            # Making an instance must not run what it is to be nasty with; no constructor is overridden.
            animals[f"{base.__name__} that {name}"] = base.__new__(nasty_class(base, how))
            animals[f"{base.__name__} of a class that {name}"] = base.__new__(nasty_class(base, how, nasty_meta(how)))
        for spoof in SPOOFS:
            kind = type("Spoof", (), {spoof: property(how)} if spoof != "__mro__" else {"mro": how})
            animals[f"{spoof} that {name}"] = kind()
    animals |= {
        "mock": MagicMock(),
        "everything": type("Everything", (), {"__getattr__": lambda self, name: self})(),
        "class itself": nasty_class(object, raises, nasty_meta(raises)),
        "endless iterator": iter(int, 1),
        "count": count(),
        "generator": (item for item in ""),
        "running frame": sys._getframe(),
        "code": zoo.__code__,
        "cell": types.CellType(1),
        "thread": threading.current_thread(),
        "event": threading.Event(),
        "local": threading.local(),
        "module": sys,
        "proxy": types.MappingProxyType({}),
        "namespace": types.SimpleNamespace(a=1),
        "stdin": sys.__stdin__,
        "ellipsis": ...,
        "not implemented": NotImplemented,
        "super": super(dict, {}),
        "memory": memoryview(b"x"),
        "property": property(),
        "type": type,
        "object": object(),
        "generic": list[int],
        "union": int | str,
        "weak set": __import__("weakref").WeakSet(),
        "pattern": __import__("re").compile("x"),
        "context": __import__("contextvars").copy_context(),
        "nameless": type("", (), {})(),
        "class with an endless name": type("n" * 100_000, (), {})(),
        "class of an odd module": type("Odd", (), {"__module__": 5})(),
        "model that dumps itself": type("Ouroboros", (), {"model_fields": {}, "model_dump": lambda self, mode: self})(),
        "model that dumps ever more": growing(),
        "model that exits": type("Quits", (), {"model_fields": {}, "model_dump": raises})(),
    }
    return animals


def growing() -> object:
    class Growing:
        model_fields: ClassVar[dict[str, object]] = {}

        def model_dump(self, mode: str) -> object:
            return {"more": [Growing(), Growing()]}

    return Growing()


ANIMALS = zoo()


@contextmanager
def cut_off() -> Iterator[None]:
    def fail(*_: object) -> None:
        pytest.fail("it hangs", pytrace=False)

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_zoo_has_enough_animals():
    assert len(ANIMALS) >= 200


PLACES: dict[str, Callable[[object], object]] = {
    "alone": lambda animal: animal,
    "in a list": lambda animal: [1, animal],
    "in a tuple in a dict": lambda animal: {"a": (animal,), "b": 1},
    "beside what needs a second look": lambda animal: [2**70, "\ud800", animal],
}


@pytest.mark.guarantee("R-20")
@pytest.mark.parametrize("lossy", [False, True], ids=["exact", "lossy"])
@pytest.mark.parametrize("place", PLACES)
def test_every_animal_is_encoded_or_refused_at_once(place, lossy):
    refused = 0
    for name, animal in ANIMALS.items():
        value = PLACES[place](animal)
        with cut_off():
            try:
                wire = encode_value(value, lossy=lossy)
            except UnsupportedValue as error:
                told = str(error)
                refused += 1
            else:
                told = "result"
                decode_value(wire)
        assert told.startswith("result"), name
        assert len(told) < 1000, name
    # Only subclasses of plain types have data that can go in their place.
    assert refused >= len(ANIMALS) if not lossy else refused >= len(ANIMALS) / 2
