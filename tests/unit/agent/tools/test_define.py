"""`@tool`: what a typed function becomes, what is refused, and that the function stays what it was."""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import msgspec
import pytest
from pydantic import BaseModel, Field

from helpers.runs import run_python
from procession.agent_proc.agent.tools.define import define, definition_of, tool
from procession.agent_proc.agent.tools.spec import DESCRIPTION_CHARS_MAX
from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.tool_tiers import TOOL_NAME_CHARS_MAX


class Unit(Enum):
    METRES = "m"
    FEET = "ft"


class Place(BaseModel):
    """Where it is."""

    name: str
    unit: Unit = Unit.METRES


@dataclass
class Size:
    width: int
    height: int = 1


class Row(TypedDict):
    n: int


class Packed(msgspec.Struct):
    n: int


@tool
def add(x: int, y: int = 1) -> int:
    """Add two numbers
    and give their sum.

    This part is for people.
    """
    return x + y


@tool(name="measure", tier="read_only", description="How far.")
async def measured(
    to: Place,
    via: list[Place] | None = None,
    unit: Unit = Unit.FEET,
    mode: Literal["walk", "drive"] = "walk",
    times: Annotated[int, Field(ge=1, description="how often")] = 1,
    sizes: dict[str, Size] = {},  # noqa: B006 (a default like any other)
) -> float:
    """Something else.

    Args:
        mode: on foot or not
        times: what is said nearer to the type counts
    """
    return times * 1.5


@pytest.mark.contract("2.5 tool")
def test_a_typed_function_is_enough():
    spec = definition_of(add).spec
    assert (spec.name, spec.description, spec.tier) == ("add", "Add two numbers and give their sum.", "execute")
    assert spec.parameters == {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 1}},
        "required": ["x"],
        "additionalProperties": False,
    }


def test_name_tier_and_description_can_be_given():
    spec = definition_of(measured).spec
    assert (spec.name, spec.description, spec.tier) == ("measure", "How far.", "read_only")


@pytest.mark.contract("2.5 schema")
def test_the_schema_has_types_enums_defaults_items_and_properties():
    schema = definition_of(measured).spec.parameters
    assert schema["required"] == ["to"]
    assert schema["properties"] == {
        "to": {"$ref": "#/$defs/Place"},
        "via": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Place"}}, {"type": "null"}], "default": None},
        "unit": {"$ref": "#/$defs/Unit", "default": "ft"},
        "mode": {"type": "string", "enum": ["walk", "drive"], "description": "on foot or not", "default": "walk"},
        "times": {"type": "integer", "minimum": 1, "description": "how often", "default": 1},
        "sizes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Size"}, "default": {}},
    }
    assert schema["$defs"]["Unit"] == {"type": "string", "enum": ["m", "ft"]}
    assert schema["$defs"]["Place"] == {
        "type": "object",
        "description": "Where it is.",
        "properties": {"name": {"type": "string"}, "unit": {"$ref": "#/$defs/Unit", "default": "m"}},
        "required": ["name"],
    }
    assert schema["$defs"]["Size"]["properties"]["height"] == {"type": "integer", "default": 1}


def test_two_models_of_one_name_stay_two():
    def within() -> type[BaseModel]:
        class Place(BaseModel):
            code: int

        return Place

    def between(a, b): ...

    between.__annotations__ = {"a": Place, "b": within()}
    schema = define(between).spec.parameters
    a, b = (schema["$defs"][schema["properties"][name]["$ref"].rpartition("/")[2]] for name in "ab")
    assert set(a["properties"]) == {"name", "unit"}
    assert set(b["properties"]) == {"code"}


def test_a_parameter_or_a_field_may_be_named_title():
    class Page(BaseModel):
        title: str

    def show(title, page): ...

    show.__annotations__ = {"title": str, "page": Page}
    schema = define(show).spec.parameters
    assert schema["properties"]["title"] == {"type": "string"}
    assert schema["$defs"]["Page"]["properties"] == {"title": {"type": "string"}}


def test_a_function_without_parameters_or_docstring_is_a_tool():
    @tool
    def ping(): ...

    spec = definition_of(ping).spec
    assert spec.description == ""
    assert (spec.parameters["properties"], spec.parameters["required"]) == ({}, [])


def test_the_function_stays_what_it_was():
    assert add(1, y=2) == 3
    assert inspect.isfunction(add)
    assert str(inspect.signature(add)) == "(x: 'int', y: 'int' = 1) -> 'int'"
    assert inspect.iscoroutinefunction(measured)
    assert asyncio.run(measured(Place(name="a"), times=2)) == 3.0


def test_the_result_s_annotation_is_known():
    assert definition_of(add).returns is int
    assert definition_of(tool(lambda_without_return)).returns is Any


def lambda_without_return(): ...


@pytest.mark.parametrize(
    ("annotation", "good", "wrong"),
    [
        (int, 1, "1"),
        (list[str], ["a"], ["a", 1]),
        (Place, {"name": "a", "unit": "m"}, {"unit": "m"}),
        (list[Size] | None, [{"width": 1}], [{"height": 1}]),
        (Row, {"n": 1}, {"n": "x"}),
        (Packed, {"n": 1}, {"n": "x"}),
        (Unit, "m", "inch"),
    ],
    ids=str,
)
def test_a_result_is_checked_against_its_annotation(annotation, good, wrong):
    def f(): ...

    f.__annotations__ = {"return": annotation}
    definition = define(f)
    definition.check_result(good)
    with pytest.raises(ToolResultInvalid, match="the result is not"):
        definition.check_result(wrong)


@pytest.mark.parametrize("annotation", [None, Any, object, range, TypeVar("R")], ids=str)
def test_a_result_of_which_nothing_is_said_may_be_anything(annotation):
    def f(): ...

    f.__annotations__ = {"return": annotation}
    define(f).check_result("x")
    define(lambda_without_return).check_result("x")


def test_what_is_known_travels_with_the_function_by_value():
    code = """
        class Choice(__import__("enum").Enum):
            A = "a"
        def pick(choice: "Choice", path: "Path" = Path()) -> "Choice":
            return choice
    """
    names: dict[str, Any] = {"__name__": "__main__", "Path": Path}
    exec(inspect.cleandoc(code), names)
    pick = tool(names["pick"])
    copy = cloudpickle.loads(cloudpickle.dumps(pick))
    assert definition_of(copy).spec == definition_of(pick).spec
    bound = definition_of(copy).bind({"choice": "a", "path": "b"})
    assert bound["path"] == Path("b")
    assert copy(**bound).value == "a"


def test_what_annotations_name_need_not_be_known_where_it_travels_to(monkeypatch):
    code = """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import NamedTuple
        from pydantic import BaseModel
        class Inner(BaseModel):
            n: int
        @dataclass
        class Outer:
            inner: Inner
            more: list[Outer]
        class Pair(NamedTuple):
            left: Inner
            right: Outer | None = None
        def f(outer: Outer, pair: Pair) -> Outer: ...
    """
    module = types.ModuleType("a_module_of_the_program")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(inspect.cleandoc(code), vars(module))
    cloudpickle.register_pickle_by_value(module)
    try:
        data = cloudpickle.dumps(tool(module.f))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    monkeypatch.delitem(sys.modules, module.__name__)
    copy = definition_of(cloudpickle.loads(data))
    inner = {"n": 1}
    bound = copy.bind({"outer": {"inner": inner, "more": [{"inner": inner, "more": []}]}, "pair": [inner]})
    assert (bound["outer"].more[0].inner.n, bound["pair"].left.n, bound["pair"].right) == (1, 1, None)
    assert type(bound["outer"]) is copy.returns
    copy.check_result({"inner": inner, "more": []})
    with pytest.raises(ToolResultInvalid, match="the result is not Outer"):
        copy.check_result({"inner": 3, "more": []})
    with pytest.raises(InvalidRequest, match=r"outer\.inner\.n"):
        copy.bind({"outer": {"inner": {"n": "x"}, "more": []}, "pair": [inner]})


def test_a_definition_shows_what_it_is():
    assert repr(definition_of(add)) == "<tool add (x, y) execute>"


@pytest.mark.process
def test_importing_the_tools_loads_no_pydantic():
    names = "define, registry, calls, results, sanitizer"
    done = run_python(
        f"import sys\nfrom procession.agent_proc.agent.tools import {names}\nprint('pydantic' in sys.modules)"
    )
    assert done.stdout.strip() == "False", done.stderr


# -- what is no tool -------------------------------------------------------------------------------------------------


def annotated(annotation: object, **default: object) -> Callable[..., None]:
    def function(x): ...

    function.__annotations__ = {"x": annotation}
    function.__defaults__ = tuple(default.values())
    return function


def refusal(function: object, **options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        define(function, **options)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_tool"
    assert caught.value.hint
    return caught.value


T = TypeVar("T")


@pytest.mark.parametrize(
    "annotation",
    [
        Callable[[int], str],
        type,
        range,
        object.__class__,
        T,
        list[T],  # type: ignore[valid-type]
        collections.abc.Iterable[int],
        list[collections.abc.Iterator[int]],
        collections.abc.AsyncIterator[int],
        inspect.Signature,
    ],
    ids=str,
)
def test_a_type_that_json_cannot_give_is_refused(annotation):
    assert "its parameter 'x' is a" in str(refusal(annotated(annotation)))


@pytest.mark.parametrize("annotation", ["Missing", "list[Missing]"])
def test_an_unknown_annotation_is_refused_by_its_name(annotation):
    assert "names 'Missing'" in str(refusal(annotated(annotation)))


def test_a_class_of_a_function_that_a_text_names_is_refused_with_what_to_do():
    class Inner(BaseModel):
        n: int

    @dataclass
    class Outer:
        inner: Inner

    error = refusal(annotated(Outer))
    assert "names 'Inner'" in error.message
    assert "`from __future__ import annotations`" in error.hint
    error = refusal(annotated("Inner"))
    assert "names 'Inner'" in error.message
    assert "`from __future__ import annotations`" in error.hint


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        *((int, None), (int, "3"), (int, True), (int, Field(3)), pytest.param(Any, object(), id="Any-object")),
        *((Unit, "yd"), (Literal["a"], "b"), (Annotated[int, Field(ge=1)], 0)),
    ],
    ids=str,
)
def test_a_default_that_is_not_of_its_type_is_refused(annotation, default):
    assert "the default " in str(refusal(annotated(annotation, x=default)))


@pytest.mark.parametrize("annotation", ["1 +", "int.real.x", "list[3"])
def test_an_annotation_that_is_no_type_is_refused(annotation):
    assert "an annotation of it is no type" in str(refusal(annotated(annotation)))


def of_source(source: str) -> object:
    names: dict[str, object] = {}
    exec(source, names)
    return names["f"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("def f(*a: int): ...", "as *a"),
        ("def f(**k: int): ...", "as **k"),
        ("def f(a: int, /): ...", "takes a by position only"),
        ("def f(a, b: int): ...", "'a' has no annotation"),
        ("def f(self): ...", "a method is not a tool"),
        ("f = lambda a: a", "'a' has no annotation"),
        ("def f(a: int): yield a", "generator"),
        ("async def f(a: int): yield a", "generator"),
        ("class f: ...", "not function"),
        ("f = len", "not function"),
        ("f = staticmethod(len)", "a method"),
        ("class A:\n  def m(self): ...\nf = A().m", "a method"),
        ("f = 3", "not function"),
    ],
)
def test_what_no_model_could_call_is_refused(source, why):
    assert why in str(refusal(of_source(source)))


@pytest.mark.contract("2.5 tool")
@pytest.mark.parametrize(
    "name", ["Add", "1st", "_add", "a-b", "a b", "", "é", "a\n", "a" * (TOOL_NAME_CHARS_MAX + 1), 3]
)
def test_a_name_that_the_rule_does_not_allow_is_refused(name):
    assert "a name is a lower-case letter" in str(refusal(annotated(int), name=name))


@pytest.mark.contract("2.5 tool")
@pytest.mark.parametrize("name", ["a", "add_2", "a" * TOOL_NAME_CHARS_MAX])
def test_a_name_that_the_rule_allows(name):
    assert define(annotated(int), name=name).spec.name == name


def test_an_unknown_tier_and_a_long_description_are_refused():
    assert "there is no tier 'root'" in str(refusal(annotated(int), tier="root"))
    assert "its description" in str(refusal(annotated(int), description="a" * (DESCRIPTION_CHARS_MAX + 1)))
    assert define(annotated(int), description="a" * DESCRIPTION_CHARS_MAX).spec.description


@pytest.mark.parametrize("function", [len, 3, lambda_without_return.__class__, None])
def test_what_has_not_been_decorated_is_no_tool(function):
    with pytest.raises(InvalidRequest, match="put @tool above") as caught:
        definition_of(function)
    assert caught.value.code == "invalid_tool"
