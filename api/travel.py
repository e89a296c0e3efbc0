"""How user code travels: a call packed so that a worker can run it without reading any folder of the user's.

It is *not* a loader: nothing here can turn bytes into objects. What a worker sends back is data (`results.py`).

Rules: plain pickle first, because it is ten times cheaper; functions and classes of `__main__`, of a notebook, or of a
module outside the standard library and site-packages go by value (cloudpickle), all others by name. A module is judged
once. What cannot travel is named by its path among the arguments.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, Final

from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge

_PROTOCOL: Final = 5
_MAIN_NAMES: Final = frozenset({"__main__", "__mp_main__"})
#: The search for the one part that cannot travel packs parts again and again: it ends after so many, and so deep.
_SEARCH_PARTS_MAX: Final = 300
_SEARCH_DEPTH_MAX: Final = 8

#: Registering a module with cloudpickle is a setting of the whole process: one packer by value at a time.
_by_value_lock = threading.RLock()
#: Module name -> whether its file lies among what is installed. As long as the list of modules ever asked about.
_installed: dict[str, bool] = {}


class _GoesByValue(Exception):
    """Plain pickle met something that has to go by value."""


class _PlainPickler(pickle.Pickler):
    """Pickle by name, and stop at what must not go by name."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if (kind is FunctionType or issubclass(kind, type)) and not _is_installed(obj.__module__):
            raise _GoesByValue
        return NotImplemented


def pack_call(
    fn: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    import_paths: Sequence[str] = (),
    preload: Sequence[str] = (),
) -> bytes:
    """Return the payload of a run: `fn` and its arguments, for a worker to unpack.

    import_paths: folders whose modules the worker can import; preload: modules it has imported already. Raises
    InvalidRequest (`unpicklable_argument`) naming what cannot travel, MessageTooLarge above the payload limit.
    """
    call = (fn, tuple(args), dict(kwargs))
    try:
        buffer = io.BytesIO()
        _PlainPickler(buffer, _PROTOCOL).dump(call)
        payload = buffer.getvalue()
    except Exception:  # noqa: BLE001 - whatever it was, cloudpickle decides, and says it better
        payload = _pack_by_value(call, tuple(import_paths), tuple(preload))
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise MessageTooLarge(
            f"the call's arguments take {len(payload)} bytes, the limit is {PAYLOAD_BYTES_MAX} bytes",
            code="payload_too_large",
            hint="write them to a file and pass its path",
        )
    return payload


def pack_value(value: object, *, import_paths: Sequence[str] = (), preload: Sequence[str] = ()) -> bytes:
    """Return `value` for another process to unpack, by value where it has to. Raises InvalidRequest as `pack_call`."""
    reach = _Reach(import_paths, preload)
    try:
        return reach.dumps(value)
    except Exception as error:
        raise _refusal((value, (), {}), reach, error) from error


def _pack_by_value(
    call: tuple[Any, tuple[Any, ...], dict[str, Any]], paths: Sequence[str], preload: Sequence[str]
) -> bytes:
    reach = _Reach(paths, preload)
    try:
        return reach.dumps(call)
    except Exception as error:
        raise _refusal(call, reach, error) from error


class _Reach:
    """What the worker can import, and packing for it."""

    def __init__(self, import_paths: Sequence[str], preload: Sequence[str]) -> None:
        self._folders = tuple(os.path.join(os.path.realpath(path), "") for path in import_paths)
        self._preload = tuple(preload)

    def has(self, name: str | None) -> bool:
        """Whether the worker can import module `name` without a folder of the user's being readable."""
        if _is_installed(name):
            return True
        if name is None or name in _MAIN_NAMES:
            return False
        if any(name == module or f"{name}.".startswith(f"{module}.") for module in self._preload):
            return True
        file = getattr(sys.modules.get(name), "__file__", None)
        return bool(self._folders) and isinstance(file, str) and os.path.realpath(file).startswith(self._folders)

    def dumps(self, obj: object) -> bytes:
        """Pack `obj`; a module that is used whole goes by value if it can, else by name."""
        try:
            return _dump(obj, self, modules_by_value=True)
        except Exception:  # noqa: BLE001 - the second attempt decides
            return _dump(obj, self, modules_by_value=False)


def _dump(obj: object, reach: _Reach, *, modules_by_value: bool) -> bytes:
    """Pack `obj` with cloudpickle, registering each module that goes by value for as long as this takes."""
    import cloudpickle  # type: ignore[import-untyped, unused-ignore]

    registered: list[ModuleType] = []

    def register(name: str | None) -> None:
        module = sys.modules.get(name) if name else None
        if module is not None and name not in cloudpickle.list_registry_pickle_by_value() and name != "__main__":
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined, unused-ignore]
        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind is FunctionType or issubclass(kind, type):
                if not reach.has(obj.__module__):
                    register(obj.__module__)
            elif kind is ModuleType and modules_by_value and not reach.has(obj.__name__):
                state = {name: value for name, value in vars(obj).items() if name not in _MODULE_OWN}
                return ModuleType, (obj.__name__, obj.__doc__), state
            elif kind.__module__ == "dataclasses" and kind.__name__ in _SENTINELS:
                return _SENTINELS[kind.__name__]  # by its name: a field is asked whether its default `is` that one
            return super().reducer_override(obj)

    with _by_value_lock:
        try:
            buffer = io.BytesIO()
            Pickler(buffer, _PROTOCOL).dump(obj)
            return buffer.getvalue()
        finally:
            for module in registered:
                cloudpickle.unregister_pickle_by_value(module)


#: Values of `dataclasses` that there is only one of, by the names of their classes.
_SENTINELS: Final = {
    "_MISSING_TYPE": "MISSING",
    "_KW_ONLY_TYPE": "KW_ONLY",
    "_HAS_DEFAULT_FACTORY_CLASS": "_HAS_DEFAULT_FACTORY",
}
#: What a module has of its own making: the worker's has its own, or none.
_MODULE_OWN: Final = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__", "__annotations__"})


# --- judging a module -----------------------------------------------------------------------------------------------


def goes_by_value(name: str | None) -> bool:
    """Whether functions and classes of module `name` go by value when nothing makes it importable in the worker."""
    return not _is_installed(name)


def _is_installed(name: str | None) -> bool:
    """Whether every worker can import module `name`: builtin, standard library, site-packages, or procession's own."""
    if name is None:
        return False
    verdict = _installed.get(name)
    if verdict is None:
        verdict = _judge(name)
        if name in sys.modules:  # a module may be made later under a name that is not one yet
            _installed[name] = verdict
    return verdict


def _judge(name: str) -> bool:
    if name in _MAIN_NAMES:
        return False
    root = name.partition(".")[0]
    if root == "procession" or name in sys.builtin_module_names:
        return True
    module = sys.modules.get(name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        spec = getattr(module, "__spec__", None)
        return getattr(spec, "origin", None) in ("built-in", "frozen")
    return os.path.realpath(file).startswith(_installed_folders())


@cache
def _installed_folders() -> tuple[str, ...]:
    """Return the folders of the standard library and of what is installed, each ending with a slash."""
    import site

    folders = [sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    for found in (getattr(site, "getsitepackages", list)(), [site.getusersitepackages()]):
        folders += found
    folders += [path for path in sys.path if os.path.basename(path.rstrip("/")) in ("site-packages", "dist-packages")]
    return tuple({os.path.join(os.path.realpath(folder), "") for folder in folders})


# --- naming what cannot travel --------------------------------------------------------------------------------------


def _refusal(call: tuple[Any, tuple[Any, ...], dict[str, Any]], reach: _Reach, error: Exception) -> InvalidRequest:
    """Say which part of the call cannot be packed; `error` is what packing the whole raised."""
    fn, args, kwargs = call
    parts: list[tuple[str, object]] = [(f"args[{index}]", value) for index, value in enumerate(args)]
    parts += [(f"kwargs[{name!r}]", value) for name, value in kwargs.items()]
    parts.append((getattr(fn, "__qualname__", None) or type(fn).__qualname__, fn))
    path, value, why = _Search(reach).worst(parts) or ("the call", call, error)
    kind = type(value)
    if _is_handle(value):
        return InvalidRequest(
            f"{path} is a {kind.__qualname__}, which cannot be sent to another process: it works in this program only",
            code="unpicklable_argument",
            hint="let the program itself use it, and pass what comes of that as an argument",
        )
    type_name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    reason = str(why).strip().partition("\n")[0][:300] or type(why).__name__
    return InvalidRequest(
        f"{path} ({type_name}) cannot be sent to another process: {reason}",
        code="unpicklable_argument",
        hint="pass plain data, a path or a name, and open what cannot travel inside the function",
    )


class _Search:
    """A bounded descent to the deepest part that cannot be packed."""

    def __init__(self, reach: _Reach) -> None:
        self._reach = reach
        self._left = _SEARCH_PARTS_MAX
        self._around: list[int] = []

    def worst(self, parts: Iterable[tuple[str, object]], depth: int = 0) -> tuple[str, object, Exception] | None:
        for path, value in parts:
            if self._left <= 0:
                return None
            if id(value) in self._around:
                continue
            self._left -= 1
            error = self._problem(value)
            if error is None:
                continue
            if depth < _SEARCH_DEPTH_MAX and not _is_handle(value):
                self._around.append(id(value))
                inner = self.worst(_children(path, value), depth + 1)
                self._around.pop()
                if inner is not None:
                    return inner
            return path, value, error
        return None

    def _problem(self, value: object) -> Exception | None:
        try:
            self._reach.dumps(value)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            return error
        return None


def _is_handle(value: object) -> bool:
    """Whether it is one of procession's own: a Session, a Host, a Future. How it is made inside helps nobody."""
    return any(
        str(base.__module__).startswith("procession.api.") and "__reduce__" not in vars(base)
        for base in type(value).__mro__
    )


def _children(path: str, value: Any) -> list[tuple[str, object]]:
    """List the parts of a value with the path of each."""
    if isinstance(value, dict):
        return [(f"{path}[{_short(key)}]", item) for key, item in list(value.items())]
    if isinstance(value, list | tuple):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [(f"{path} (an element)", item) for item in value]
    if isinstance(value, FunctionType):
        return _function_parts(path, value)
    if isinstance(value, type | ModuleType):
        return []
    found: list[tuple[str, object]] = []
    for name in ("__self__", "__func__", "func", "args", "keywords", "__wrapped__"):
        if name in ("func", "args", "keywords") and type(value).__module__ != "functools":
            continue
        part = getattr(value, name, None)
        if part is not None:
            found.append((f"{path}.{name}", part))
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        found += [(f"{path}.{name}", item) for name, item in list(attributes.items())]
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if isinstance(name, str) and hasattr(value, name):
                found.append((f"{path}.{name}", getattr(value, name)))
    return found


def _function_parts(path: str, fn: FunctionType) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        try:
            found.append((f"{path}: variable {name!r} of its closure", cell.cell_contents))
        except ValueError:  # an empty cell
            continue
    found += [
        (f"{path}: global {name!r}", fn.__globals__[name]) for name in fn.__code__.co_names if name in fn.__globals__
    ]
    found += [(f"{path}: default {index}", value) for index, value in enumerate(fn.__defaults__ or ())]
    return found


def _short(key: object) -> str:
    text = repr(key) if isinstance(key, str | int | float | bytes | bool | type(None)) else f"<{type(key).__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."
