"""What travels by name, what by value, and how what cannot travel is named."""

import dataclasses
import enum
import functools
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped, unused-ignore]
import pydantic
import pytest

import procession.ipc.core.limits
from procession import InvalidRequest, MessageTooLarge
from procession.api import travel
from procession.api.travel import goes_by_value, pack_call

LOCK = threading.Lock()


class Point(pydantic.BaseModel):
    """A model beside a function of the same module."""

    x: int
    children: "list[Point]" = []


@dataclasses.dataclass
class Leaf:
    value: int


class Colour(enum.Enum):
    RED = 1


def make_point(x: int) -> Point:
    return Point(x=x, children=[Point(x=1)])


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def uses_lock() -> bool:
    return LOCK.locked()


def load_elsewhere(payload: bytes, expression: str, cwd: Path) -> str:
    """Unpickle in an interpreter that cannot import this file, call it, and show `expression` of the result."""
    code = (
        "import pickle, sys\n"
        "fn, args, kwargs = pickle.loads(sys.stdin.buffer.read())\n"
        "result = fn(*args, **kwargs)\n"
        f"print({expression})"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], input=payload, capture_output=True, cwd=cwd, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.fixture
def local_module(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module in a folder of the user's, imported here."""
    (tmp_path / "mine_of_user.py").write_text(
        "import json\nimport threading\nSECRET = 7\nLOCK = None\n\ndef helper(x):\n    return x + SECRET\n\n"
        "class Thing:\n    def __init__(self, v):\n        self.v = v\n    def twice(self):\n        return helper(self.v) * 2\n"
    )
    spec = importlib.util.spec_from_file_location("mine_of_user", tmp_path / "mine_of_user.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mine_of_user"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["mine_of_user"]
    travel._installed.pop("mine_of_user", None)


# --- by name or by value --------------------------------------------------------------------------------------------


def test_what_is_installed_goes_by_name() -> None:
    payload = pack_call(json.dumps, ({"a": 1},), {"indent": 2})
    assert payload == pickle.dumps((json.dumps, ({"a": 1},), {"indent": 2}), 5)
    for fn in (len, os.getcwd, pydantic.TypeAdapter, procession.ipc.core.limits.parse_size, functools.reduce):
        assert len(pack_call(fn, (), {})) < 200


@pytest.mark.parametrize(
    ("module", "by_value"),
    [
        ("builtins", False), ("sys", False), ("json", False), ("os.path", False), ("pydantic", False),
        ("procession.api.travel", False), ("__main__", True), ("__mp_main__", True), (None, True), (__name__, True),
    ],
)  # fmt: skip
def test_modules_are_judged(module: str | None, by_value: bool) -> None:
    assert goes_by_value(module) is by_value


def test_a_module_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_by_value("json")
    monkeypatch.setattr(travel, "_judge", lambda name: pytest.fail(f"judged {name} again"))
    assert goes_by_value("json") is False


def test_a_function_travels_beside_its_model(tmp_path: Path) -> None:
    assert load_elsewhere(pack_call(make_point, (3,), {}), "result.x, result.children[0].x", tmp_path) == "3 1"


def test_a_recursive_function_travels(tmp_path: Path) -> None:
    assert load_elsewhere(pack_call(factorial, (6,), {}), "result", tmp_path) == "720"


def test_lambdas_and_closures_travel(tmp_path: Path) -> None:
    base = 40
    assert load_elsewhere(pack_call(lambda x: x + base, (2,), {}), "result", tmp_path) == "42"


def test_a_dataclass_that_goes_by_value_is_one_there_too(tmp_path: Path) -> None:
    fields = "[f.default is dataclasses.MISSING for f in dataclasses.fields(result)]"
    there = f"exec('import dataclasses') or {fields}, result(7).value"
    assert load_elsewhere(pack_call(lambda: Leaf, (), {}), there, tmp_path) == "[True] 7"


def test_instances_of_local_classes_travel_as_arguments(tmp_path: Path) -> None:
    payload = pack_call(lambda leaf, colour: (leaf.value, colour.name), (Leaf(5), Colour.RED), {})
    assert load_elsewhere(payload, "result", tmp_path) == "(5, 'RED')"


def test_a_bound_method_and_a_partial_travel(tmp_path: Path, local_module: types.ModuleType) -> None:
    thing = local_module.Thing(1)
    (tmp_path / "elsewhere").mkdir()
    assert load_elsewhere(pack_call(thing.twice, (), {}), "result", tmp_path / "elsewhere") == "16"
    partial = functools.partial(local_module.helper, 5)
    assert load_elsewhere(pack_call(partial, (), {}), "result", tmp_path / "elsewhere") == "12"


def test_a_module_used_whole_travels(tmp_path: Path, local_module: types.ModuleType) -> None:
    (tmp_path / "elsewhere").mkdir()

    def use() -> object:
        return local_module.Thing(local_module.helper(1)).twice()

    assert load_elsewhere(pack_call(use, (), {}), "result", tmp_path / "elsewhere") == "30"


def test_a_module_with_what_cannot_travel_goes_by_name(local_module: types.ModuleType) -> None:
    vars(local_module)["LOCK"] = threading.Lock()

    def use() -> object:
        return local_module.helper(1)

    fn, _, _ = pickle.loads(pack_call(use, (), {}))
    assert fn() == 8


def test_import_paths_and_preload_make_a_module_go_by_name(tmp_path: Path, local_module: types.ModuleType) -> None:
    by_value = pack_call(local_module.helper, (1,), {})
    assert b"SECRET" in by_value
    for reach in ({"import_paths": [str(tmp_path)]}, {"preload": ["mine_of_user"]}):
        by_name = pack_call(local_module.helper, (1,), {}, **reach)
        assert b"SECRET" not in by_name
        assert pickle.loads(by_name)[0] is local_module.helper


def test_a_function_of_main_travels(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import dataclasses, sys\nfrom procession.api.travel import pack_call\nK = 3\n"
        "@dataclasses.dataclass\nclass Row:\n    n: int\n"
        "def work(row):\n    return Row(row.n * K)\n"
        "sys.stdout.buffer.write(pack_call(work, (Row(5),), {}))\n"
    )
    payload = subprocess.run([sys.executable, str(script)], capture_output=True, check=True, timeout=30).stdout
    assert load_elsewhere(payload, "result.n", tmp_path) == "15"


def test_nothing_stays_registered_with_cloudpickle() -> None:
    pack_call(make_point, (1,), {})
    assert cloudpickle.list_registry_pickle_by_value() == set()
    with pytest.raises(InvalidRequest):
        pack_call(make_point, (LOCK,), {})
    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_threads_pack_at_once() -> None:
    failures: list[BaseException] = []

    def pack() -> None:
        try:
            for number in range(20):
                pickle.loads(pack_call(make_point, (number,), {}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert cloudpickle.list_registry_pickle_by_value() == set()


# --- what cannot travel ---------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, inner: object) -> None:
        self.inner = inner


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner


class Refuses:
    def __reduce__(self) -> str:
        raise ZeroDivisionError("not me")


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((LOCK,), {}, "args[0]"),
        ((1, {"conn": LOCK}), {}, "args[1]['conn']"),
        (([1, (2, LOCK)],), {}, "args[0][1][1]"),
        ((), {"key": {"a": [LOCK]}}, "kwargs['key']['a'][0]"),
        ((Holder(Holder(LOCK)),), {}, "args[0].inner.inner"),
        ((Slotted(LOCK),), {}, "args[0].inner"),
        ((functools.partial(print, LOCK),), {}, "args[0].args[0]"),
    ],
)
def test_what_cannot_travel_is_named_by_its_path(
    args: tuple[object, ...], kwargs: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        pack_call(print, args, kwargs)
    assert caught.value.code == "unpicklable_argument"
    assert caught.value.ran == "no"
    assert str(caught.value).startswith(f"{path} (_thread.lock) cannot be sent")


def test_what_a_function_refers_to_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"uses_lock: global 'LOCK' \(_thread\.lock\)"):
        pack_call(uses_lock, (), {})
    inner = threading.Lock()
    with pytest.raises(InvalidRequest, match="variable 'inner' of its closure"):
        pack_call(lambda: inner, (), {})


def test_an_object_that_raises_when_pickled_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"args\[0\]\[2\].*not me"):
        pack_call(print, ([1, 2, Refuses()],), {})


def test_a_cycle_with_what_cannot_travel_ends() -> None:
    cycle: list[object] = [LOCK]
    cycle.insert(0, cycle)
    with pytest.raises(InvalidRequest, match=r"args\[0\]\[1\] \(_thread.lock\)"):
        pack_call(print, (cycle,), {})


def test_a_huge_structure_with_what_cannot_travel_is_searched_in_bounds() -> None:
    with pytest.raises(InvalidRequest, match=r"^args\[0\]"):
        pack_call(print, ([[n] for n in range(5_000)] + [LOCK],), {})


def test_a_payload_over_the_limit_names_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "PAYLOAD_BYTES_MAX", 1000)
    with pytest.raises(MessageTooLarge, match=r"take 20\d\d bytes, the limit is 1000 bytes") as caught:
        pack_call(print, (b"x" * 2000,), {})
    assert caught.value.code == "payload_too_large"
