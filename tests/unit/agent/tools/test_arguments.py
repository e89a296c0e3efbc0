"""Arguments: missing, then unknown, then types; choices and defaults are enforced; every problem is named."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from helpers.counts import examples
from procession.agent_proc.agent.tools.arguments import PROBLEMS_SHOWN_MAX, check_names
from procession.agent_proc.agent.tools.define import define
from procession.agent_proc.agent.tools.validation import ProblemCode
from procession.ipc.core.errors import InvalidRequest


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Options(BaseModel):
    depth: int
    colour: Colour = Colour.RED


@dataclass
class Size:
    width: int


def search(
    path: str,
    limit: int = 10,
    mode: Literal["text", "regex"] = "text",
    colour: Colour | None = None,
    options: Options | None = None,
    score: Annotated[float, Field(ge=0, le=1)] = 0.5,
): ...


SEARCH = define(search)


def taking(annotation: object, value: object) -> Any:
    """Bind one value to a parameter of that type."""

    def function(x): ...

    function.__annotations__ = {"x": annotation}
    return define(function).bind({"x": value})["x"]


def refusal(arguments: dict[str, object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        SEARCH.bind(arguments)
    return caught.value


@pytest.mark.contract("2.5 argument checks")
def test_defaults_fill_what_is_not_given():
    assert SEARCH.bind({"path": "a"}) == {
        "path": "a",
        "limit": 10,
        "mode": "text",
        "colour": None,
        "options": None,
        "score": 0.5,
    }


def test_values_become_their_declared_types():
    bound = SEARCH.bind({"path": "a", "colour": "blue", "options": {"depth": 2, "colour": "blue"}, "score": 1})
    assert bound["colour"] is Colour.BLUE
    assert bound["options"] == Options(depth=2, colour=Colour.BLUE)
    assert type(bound["score"]) is float


@pytest.mark.contract("2.5 argument checks")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ({}, "missing_parameter", "path: is required"),
        ({"path": "a", "pat": 1}, "unknown_parameter", "pat: is no parameter of this tool; did you mean path?"),
        ({"path": 3}, "invalid_type", "path: "),
        ({"path": None}, "invalid_type", "path: "),
        ({"path": "a", "limit": "3"}, "invalid_type", "limit: "),
        ({"path": "a", "limit": 3.0}, "invalid_type", "limit: "),
        ({"path": "a", "limit": True}, "invalid_type", "limit: "),
        ({"path": "a", "mode": "glob"}, "invalid_choice", "mode: Input should be 'text' or 'regex'"),
        ({"path": "a", "colour": "green"}, "invalid_choice", "colour: Input should be 'red' or 'blue'"),
        ({"path": "a", "options": {}}, "missing_parameter", "options.depth: "),
        ({"path": "a", "options": {"depth": "1"}}, "invalid_type", "options.depth: "),
        ({"path": "a", "options": []}, "invalid_type", "options: "),
        ({"path": "a", "score": 2}, "invalid_value", "score: "),
    ],
)
def test_each_kind_of_problem_has_its_code_and_names_its_parameter(arguments, code, told):
    error = refusal(arguments)
    assert error.code == code
    assert told in error.message
    assert error.hint.startswith("search takes path, limit (optional)")


@pytest.mark.contract("2.5 argument checks")
def test_missing_comes_before_unknown_before_types_before_choices_before_values_and_all_are_told():
    error = refusal({"score": 9, "mode": "no", "options": "x", "other": 1})
    assert error.code == "missing_parameter"
    told = [
        part.partition(": ")[0].rpartition(" ")[2] for part in error.message.partition("for search: ")[2].split("; ")
    ]
    assert told == ["path", "other", "options", "mode", "score"]


@pytest.mark.contract("2.5 argument checks")
@pytest.mark.parametrize("optional", ["limit", "mode", "score"])
def test_a_null_for_what_has_a_default_counts_as_not_given(optional):
    assert SEARCH.bind({"path": "a", optional: None}) == SEARCH.bind({"path": "a"})


def test_names_can_be_checked_without_the_function():
    check_names(SEARCH.spec, {"path": 3})
    with pytest.raises(InvalidRequest, match="path: is required; x: is no parameter") as caught:
        check_names(SEARCH.spec, {"x": 3})
    assert caught.value.code == "missing_parameter"


def test_what_is_told_is_bounded():
    error = refusal({"path": "a", **{f"{n}" * 200: 1 for n in range(5_000)}})
    assert "and 4980 more" in error.message
    assert len(error.message) < 200 * PROBLEMS_SHOWN_MAX


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (Path, "a/b", Path("a/b")),
        (Path, Path("a"), Path("a")),
        (UUID, "12345678-1234-4234-8234-123456789012", UUID("12345678-1234-4234-8234-123456789012")),
        (dt.date, "2025-01-02", dt.date(2025, 1, 2)),
        (dt.datetime, dt.datetime(2025, 1, 2), dt.datetime(2025, 1, 2)),  # noqa: DTZ001
        (tuple[int, str], [1, "a"], (1, "a")),
        (list[int], (1,), [1]),
        (set[int], [1, 1], {1}),
        (bytes, b"\xff", b"\xff"),
        (bytes, "a", b"a"),
        (Size, {"width": 1}, Size(1)),
        (Size, Size(2), Size(2)),
        (list[Size], [{"width": 1}], [Size(1)]),
        (Colour, Colour.RED, Colour.RED),
        (int | str, "5", "5"),
        (float | None, None, None),
        (Any, {"a": [1]}, {"a": [1]}),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
        (int, 10**30, 10**30),
    ],
    ids=repr,
)
def test_what_is_taken(annotation, given, expected):
    taken = taking(annotation, given)
    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, "5"),
        (int, 5.0),
        (int, True),
        (bool, 1),
        (bool, "true"),
        (float, "1"),
        (float, False),
        (str, 1),
        (str, b"a"),
        (list[int], "12"),
        (dict[str, int], {"a": "1"}),
        (Size, {"width": "1"}),
        (Size, {"width": b"1"}),
        (Colour, "RED"),
    ],
    ids=repr,
)
def test_what_is_refused_though_a_lenient_reader_might_take_it(annotation, given):
    with pytest.raises(InvalidRequest):
        taking(annotation, given)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
named = st.dictionaries(
    st.sampled_from(["path", "limit", "mode", "colour", "options", "score", "x"]), plain, max_size=5
)


@given(named)
@settings(max_examples=examples(200), deadline=None)
def test_arguments_are_bound_whole_or_refused_with_a_code(arguments):
    try:
        bound = SEARCH.bind(arguments)
    except InvalidRequest as error:
        code = error.code
    else:
        code = "bound"
        assert list(bound) == ["path", "limit", "mode", "colour", "options", "score"]
        assert type(bound["limit"]) is int
        assert bound["mode"] in {"text", "regex"}
        assert 0 <= bound["score"] <= 1
        assert SEARCH.bind(bound) == bound  # what is bound already is of its type
    assert code in {"bound", *get_args(ProblemCode)}
