"""What a run returned, against what was declared: made again, checked, or refused with a reason."""

import dataclasses
import datetime as dt
import enum
import functools
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union

import msgspec
import pydantic
import pytest

from procession import InvalidRequest, ToolResultInvalid
from procession.api.results import annotation_of, decode_result, is_lossy, prepare_returns
from procession.ipc.core.values import encode_value


class Model(pydantic.BaseModel):
    a: int
    when: dt.datetime | None = None


@dataclasses.dataclass
class Data:
    x: int
    inner: Optional["Data"] = None
    model: Model | None = None


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


class Row(TypedDict):
    n: int
    data: Data


class Struct(msgspec.Struct):
    a: int
    path: Path = Path()


def there_and_back(value: object, returns: object) -> object:
    return decode_result(encode_value(value, lossy=is_lossy(returns)), returns)


MOMENT = dt.datetime(2024, 1, 2, 3, 4, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "returns"),
    [
        (5, int), ("x", str), (b"x", bytes), (True, int), (None, None), (1, float), (MOMENT, dt.datetime),
        (Path("/a"), Path), (Decimal("1.50"), Decimal), ([1, 2], list[int]), ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]), ({1, 2}, set[int]), ({"a": [1.5]}, dict[str, list[float]]),
        (None, int | None), ("b", Literal["a", "b"]), (3, Union[str, int]), ([1], Sequence[int]), ([1], Iterable[int]),  # noqa: UP007
        (OrderedDict(a=1), OrderedDict[str, int]), ({"a": 1}, dict), ([{"x": None}], Any), (7, object),
        (Model(a=1, when=MOMENT), Model), ([Model(a=1)], list[Model]), ({"k": Model(a=2)}, dict[str, Model]),
        (Data(1, Data(2), Model(a=3)), Data), (None, Data | None), (Data(1), Data | None), (Colour.RED, Colour),
        ([Colour.RED], list[Colour]), (Pair(1, "x"), Pair), (Row(n=1, data=Data(2)), Row), (Struct(1, Path("/b")), Struct),
        ([Struct(1)], list[Struct]), (5, Annotated[int, pydantic.Field(gt=3)]), ({1: Colour.RED}, dict[int, Colour]),
    ],
    ids=repr,
)  # fmt: skip
def test_values_come_back_as_declared(value: object, returns: object) -> None:
    back = there_and_back(value, returns)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "returns", "text"),
    [
        ("3", int, "the result is not int: result: expected int, found str '3'"),
        (1, bool, "expected bool, found int 1"), (1.5, int, "expected int"), (None, int, "found None"),
        ([1, "2"], list[int], r"result\[1\]: expected int, found str"),
        ((1, 2), list[int], "expected list, found tuple"),
        ((1, 2, 3), tuple[int, str], "expected 2 items, found 3"),
        ({"a": {"b": "c"}}, dict[str, dict[str, int]], r"result\['a'\]\['b'\]: expected int"),
        ({1: 2}, dict[str, int], r"result \(a key\): expected str"),
        ("c", Literal["a", "b"], "expected one of"), (1, Literal[True], "expected one of"),
        (b"x", int | bool, "expected one of int, bool, found bytes"),
        ("text", Sequence[Decimal], "expected Sequence"),
        ({"a": "no"}, Model, "valid integer"), ({"x": 1, "model": {}}, Data, "Field required"),
        ("blue", Colour, "Input should be 'red'"), ({"a": "x"}, Struct, "Expected `int`"),
        ([1], Pair, "Missing required argument|Field required|missing"),
        (2, Annotated[int, pydantic.Field(gt=3)], "greater than 3"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_mismatch_is_an_error_with_its_text(value: object, returns: object, text: str) -> None:
    with pytest.raises(ToolResultInvalid, match=text) as caught:
        there_and_back(value, returns)
    assert caught.value.hint
    assert caught.value.ran == "yes"


def test_without_a_declaration_plain_data_comes_back_as_it_was() -> None:
    value = {"a": (1, {2}), "b": [MOMENT, b"x"], 3: None}
    assert decode_result(encode_value(value)) == value
    assert decode_result(None) is None


@pytest.mark.guarantee("R-44")
def test_bytes_that_are_no_value_are_an_invalid_result() -> None:
    for data in (b"\xc1", b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\x80\x04\x95pickle"):
        with pytest.raises(ToolResultInvalid) as caught:
            decode_result(data)
        assert caught.value.code == "result_unreadable"


def test_a_validator_of_the_program_that_raises_is_an_invalid_result() -> None:
    class Picky(pydantic.BaseModel):
        a: int

        @pydantic.field_validator("a")
        @classmethod
        def no(cls, value: int) -> int:
            raise ZeroDivisionError(value)

    with pytest.raises(ToolResultInvalid):
        decode_result(encode_value({"a": 1}), Picky)


# --- what a function declares ---------------------------------------------------------------------------------------


def plain() -> int:
    return 1


def says_nothing():
    return 1


def text_annotation() -> "list[Model]":
    return []


def text_unknown() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
    return None


def text_beside_unknown(x: "Nowhere") -> "Model":  # type: ignore[name-defined]  # noqa: F821
    return Model(a=1)


class Callable_:
    def __call__(self) -> Model:
        return Model(a=1)

    def method(self) -> Colour:
        return Colour.RED


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (plain, int), (says_nothing, None), (text_annotation, list[Model]), (text_unknown, None),
        (text_beside_unknown, Model), (functools.partial(plain), int), (Callable_(), Model), (Callable_().method, Colour),
        (lambda: 1, None), (len, None), (Model, Model), (Data, Data), (int, None),
    ],
)  # fmt: skip
def test_annotations_are_found(fn: Callable[..., object], expected: object) -> None:
    assert annotation_of(fn) == expected
    assert annotation_of(fn) == expected  # and kept


def test_annotations_that_say_nothing_are_none() -> None:
    def nothing() -> None: ...
    def anything() -> Any: ...
    def an_object() -> object: ...
    def a_lock() -> "threading.Lock": ...  # type: ignore[name-defined]  # noqa: F821
    def odd() -> Callable[..., int]: ...  # type: ignore[empty-body]

    assert [annotation_of(fn) for fn in (nothing, anything, an_object, a_lock)] == [None] * 4
    assert annotation_of(odd) is None or is_lossy(annotation_of(odd))


def test_an_annotation_of_a_local_class_is_found_in_the_closure() -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    def make() -> "Local":
        return Local(1)

    assert annotation_of(make) is Local


@pytest.mark.parametrize(
    ("annotation", "lossy"),
    [
        (None, False), (int, False), (list[int], False), (dict[str, tuple[int, ...]], False), (int | None, False),
        (Path, False), (Any, False), (Model, True), (list[Model], True), (Colour, True), (Pair, True), (Struct, True),
        (Data | None, True), (Literal["a"], False),
    ],
)  # fmt: skip
def test_only_plain_data_is_not_lossy(annotation: object, lossy: bool) -> None:
    assert is_lossy(annotation) is lossy


def test_an_annotation_that_names_what_is_not_known_counts_as_none() -> None:
    @dataclasses.dataclass
    class Outer:
        inner: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    def make() -> Outer: ...  # type: ignore[empty-body]

    assert annotation_of(make) is None
    with pytest.raises(InvalidRequest, match="Nowhere"):
        prepare_returns(Outer)


@pytest.mark.parametrize("returns", [type("Odd", (), {}), 5, "int", Callable[[int], int] | type("O", (), {})])
def test_a_returns_that_cannot_be_checked_is_refused_before_the_call(returns: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepare_returns(returns)
    assert caught.value.code == "invalid_returns"


def test_plain_annotations_load_no_pydantic() -> None:
    code = (
        "import sys\nfrom procession.api.results import decode_result, annotation_of\n"
        "from procession.ipc.core.values import encode_value\n"
        "def f() -> dict[str, list[int]] | None: ...\n"
        "assert decode_result(encode_value({'a': [1]}), annotation_of(f)) == {'a': [1]}\n"
        "assert not {'pydantic', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
