"""Routing: which routes a signal takes, in which order, and what is said when there is none."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.instructions import Instruction
from procession.agent_proc.agent.patterns import parse_pattern
from procession.agent_proc.agent.router import PRIORITY_MAX, ROUTES_MAX, Route, Router
from procession.agent_proc.agent.signals import Signal
from procession.ipc.core.errors import AgentError, InvalidRequest


def signal(type_: str, data: object = None) -> Signal:
    return Signal(id="1", source="/test", type=type_, data=data)


def taken(*routes: Route, type_: str = "order.paid", data: object = None) -> list[str]:
    return [instruction.action for instruction in Router(routes).instructions(signal(type_, data))]


@pytest.mark.contract("2.3 all that match run")
def test_every_route_that_matches_runs_the_most_exact_first():
    routes = [Route("**", "all"), Route("order.*", "one"), Route("order.paid", "exact"), Route("user.*", "other")]
    assert taken(*routes) == ["exact", "one", "all"]


@pytest.mark.contract("2.3 all that match run")
def test_specificity_beats_priority():
    assert taken(Route("order.*", "wild", priority=100), Route("order.paid", "exact", priority=-100)) == [
        "exact",
        "wild",
    ]


@pytest.mark.contract("2.3 all that match run")
def test_among_equals_priority_decides_and_then_who_was_first():
    routes = [Route("a", name, priority) for name, priority in [("x", 0), ("y", 5), ("z", None), ("w", 5), ("v", 0)]]
    assert taken(*routes, type_="a") == ["y", "w", "x", "z", "v"]


routes = st.builds(
    Route,
    pattern=st.sampled_from(["a", "a.b", "a.*", "*.b", "**", "a.**", "**.b", "*", "c.*"]),
    action=st.text("xyz", min_size=1, max_size=3),
    priority=st.none() | st.integers(-3, 3),
)


@pytest.mark.contract("2.3 all that match run")
@given(st.lists(routes, max_size=12), st.sampled_from(["a", "a.b", "c", "a.c.b"]))
@settings(max_examples=examples(100), deadline=None)
def test_the_order_is_by_specificity_then_priority_then_registration(table, type_):
    expected = [
        (at, route)
        for at, route in sorted(
            enumerate(table),
            key=lambda one: (
                [-part for part in parse_pattern(one[1].pattern).specificity],
                -(one[1].priority or 0),
                one[0],
            ),
        )
        if parse_pattern(route.pattern).matches(type_)
    ]
    found = Router(table).matching(signal(type_))
    assert [id(route) for route in found] == [id(route) for _, route in expected]


@pytest.mark.contract("2.3 match functions")
def test_a_match_function_chooses_by_the_data():
    large = Route("order.paid", "large", when=lambda one: (one.data or {}).get("sum", 0) > 100)
    assert taken(large, Route("order.*", "any"), data={"sum": 200}) == ["large", "any"]
    assert taken(large, Route("order.*", "any"), data={"sum": 2}) == ["any"]


@pytest.mark.contract("2.3 static parameters")
def test_a_routes_parameters_are_stronger_than_the_data():
    (made,) = Router([Route("a", "go", parameters={"x": 1, "y": 2})]).instructions(signal("a", {"x": 9, "z": 3}))
    assert made == Instruction("go", {"x": 1, "y": 2, "z": 3})


def test_routing_changes_neither_the_data_nor_the_parameters():
    data, parameters = {"x": 9}, {"y": 1}
    Router([Route("a", "go", parameters=parameters)]).instructions(signal("a", data))
    assert (data, parameters) == ({"x": 9}, {"y": 1})


@pytest.mark.contract("2.3 unknown types")
def test_without_a_route_the_error_names_near_ones():
    router = Router([Route("order.paid", "a"), Route("order.shipped", "b"), Route("user.created", "c")])
    with pytest.raises(
        InvalidRequest, match=r"no action takes .* order\.payed \(hint: did you mean order\.paid"
    ) as caught:
        router.instructions(signal("order.payed"))
    assert caught.value.code == "no_route"
    assert caught.value.ran == "no"
    with pytest.raises(InvalidRequest, match="there is none"):
        Router([]).instructions(signal("a"))


@pytest.mark.contract("2.3 typed signals")
@pytest.mark.parametrize("data", [[1], "text", 3, b"x", {1: 2}])
def test_data_that_are_no_parameters_are_refused(data):
    with pytest.raises(InvalidRequest) as caught:
        Router([Route("a", "go")]).instructions(signal("a", data))
    assert caught.value.code == "invalid_signal_data"


@pytest.mark.contract("2.3 wrong routes")
@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": PRIORITY_MAX + 1},
        {"priority": -PRIORITY_MAX - 1},
        {"priority": True},
        {"priority": 1.5},
        {"action": ""},
        {"parameters": {1: 2}},
        {"parameters": [("a", 1)]},
        {"when": lambda _: 1},
        {"when": lambda _: sys.exit(3)},
        {"when": lambda one: one.data["sum"] > 1},
    ],
)
def test_a_wrong_route_is_told_when_it_is_made(wrong):
    with pytest.raises(InvalidRequest) as caught:
        Route(**{"pattern": "a.*", "action": "go", **wrong})
    assert caught.value.code == "invalid_route"


@pytest.mark.contract("2.3 match functions")
@pytest.mark.parametrize(
    "answer", [lambda one: 1 / len(one.id[1:]), lambda one: None if one.id == "1" else True, lambda one: sys.exit(3)]
)
def test_a_match_function_that_fails_later_fails_the_signal(answer):
    router = Router([Route("a", "go", when=lambda one: True if one.id == "probe" else answer(one))])
    with pytest.raises(AgentError) as caught:
        router.instructions(signal("a"))
    assert caught.value.code == "match_failed"


@pytest.mark.contract("2.3 wrong routes")
def test_routes_are_bounded():
    with pytest.raises(InvalidRequest, match=f"at most {ROUTES_MAX}"):
        Router([Route("a", "go")] * (ROUTES_MAX + 1))
