"""Agents as authors write them: how short that is, and what is told about one that does not fit together."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

import cloudpickle  # type: ignore[import-untyped]
import pytest
from pydantic import BaseModel, Field

from procession.agent_proc.agent.actions import action
from procession.agent_proc.agent.agent import Agent, check_agent
from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.cmd import cmd
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.directives import Cron, Schedule
from procession.agent_proc.agent.error_policy import StopOnError
from procession.agent_proc.agent.references import Reference
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.skills import Mount, Skill
from procession.ipc.core.errors import AgentError, InvalidRequest

MOMENT = Moment(datetime(2026, 3, 1, tzinfo=UTC), lambda: "new-id")
Plain = Mapping[str, Any]


class CounterState(BaseModel):
    count: int = 0


class Counter(Agent[CounterState]):
    @action("counter.increment")
    def increment(self, by: int = 1) -> Change:
        count = self.state.count + by
        return Change.set(count=count).replying(count)


class Twice(Counter):
    @action("counter.double")
    def double(self) -> Change:
        return Change.set(count=self.state.count * 2)


def routes_of(agent: type[Agent[Any]]) -> list[tuple[str, str, int | None]]:
    return [(route.pattern, route.action, route.priority) for route in agent.definition.router.routes]


@pytest.mark.contract("2.2 agent", "2.4 action")
def test_a_counter_is_ten_lines():
    assert cmd(Counter, {"count": 1}, ("increment", {"by": 2}), MOMENT).state == {"count": 3}


@pytest.mark.contract("2.4 action")
def test_an_agent_inherits_state_actions_and_routes():
    assert list(Twice.definition.actions) == ["increment", "double"]
    assert routes_of(Twice) == [("counter.increment", "increment", 0), ("counter.double", "double", 0)]
    assert cmd(Twice, {"count": 3}, ["increment", "double"], MOMENT).state == {"count": 8}
    assert list(Counter.definition.actions) == ["increment"]


def test_an_action_that_is_overridden_is_the_later_one():
    class Slow(Counter):
        @action("counter.slow")
        def increment(self, by: int = 1) -> Change:
            return Change.set(count=self.state.count + by // 2)

    assert cmd(Slow, {"count": 1}, ("increment", {"by": 2}), MOMENT).state == {"count": 2}
    assert routes_of(Slow) == [("counter.slow", "increment", 0)]


def test_a_method_stays_a_function_of_what_it_sees():
    assert Counter.increment(Counter(CounterState(count=4), MOMENT), by=2) == Change.set(count=6).replying(6)


def test_an_agent_keeps_nothing_in_attributes():
    counter = Counter(CounterState(), MOMENT)
    with pytest.raises(AttributeError, match="return a Change"):
        counter.count = 3
    with pytest.raises(AttributeError, match="state cannot be set"):
        counter.state = CounterState()
    assert repr(counter) == "<Counter a CounterState at 2026-03-01T00:00:00>"


S = TypeVar("S")


class Base(Agent[S], Generic[S]):
    """A class that leaves its state to those that inherit from it."""


def test_a_state_may_be_declared_later_or_be_a_mapping():
    class Later(Base[CounterState]):
        pass

    class Mapped(Agent[Plain]):
        pass

    assert Later.definition.part.model is not None
    assert Later.definition.part.model.type is CounterState
    assert Mapped.definition.part.model is None
    assert Base.definition.part.model is None


def test_a_state_is_declared_by_a_model_of_one_s_own():
    with pytest.raises(InvalidRequest, match="the state of Bare cannot be BaseModel itself") as caught:

        class Bare(Agent[BaseModel]):
            pass

    assert caught.value.code == "invalid_agent"


def test_an_agent_travels_by_value(monkeypatch):
    class Kept(BaseModel):
        words: list[str] = []

    class Keeper(Agent[Kept]):
        schedules = (Cron("@daily", "keeper.keep", job_id="daily"),)

        @action("keeper.keep")
        def keep(self, word: Literal["a", "b"] = "a") -> Change:
            return Change.set(words=[*self.state.words, word]).replying(len(self.state.words))

    data = cloudpickle.dumps(Keeper)
    monkeypatch.setattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})  # as in another process
    there = pickle.loads(data)
    assert there is not Keeper
    assert cmd(there, {"words": ["b"]}, "keep", MOMENT).state == {"words": ["b", "a"]}
    assert routes_of(there) == routes_of(Keeper)
    with pytest.raises(InvalidRequest):
        cmd(there, {"words": []}, ("keep", {"word": "c"}), MOMENT).result()


# -- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.contract("3 agent resolution")
def test_what_was_found_is_checked():
    assert check_agent(Counter) is Counter


@pytest.mark.contract("3 agent resolution")
@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Agent, "Agent itself"),
        (CounterState, "the class CounterState, which is no agent"),
        (Counter(CounterState(), MOMENT), "an object of class Counter"),
        (3, "my_module:Counter is 3"),
        (len, "a builtin_function_or_method"),
        (None, "None"),
    ],
)
def test_anything_else_is_told_what_it_is(found, text):
    with pytest.raises(InvalidRequest, match=text) as caught:
        check_agent(found, Reference("my_module", ("Counter",)))
    assert caught.value.code == "not_an_agent"


# -- what does not fit together --------------------------------------------------------------------------------------


def agent_with(**members: Any) -> type[Agent[Any]]:
    return type("Made", (Agent,), members)


def method(function: Any) -> Any:
    return action()(function)


def changing(state: Plain, moment: Moment, word: str = "a") -> Change:
    return Change.set(word=word)


class Notes(Skill[Plain]):
    @action("notes.add")
    def add(self, text: str) -> Change:
        return Change.set(text=text)


class Alone(Skill[Plain]):
    singleton = True


class Needy(Skill[Plain]):
    requires = ("storage",)


class Store(Skill[Plain]):
    capabilities = ("storage",)


async def waiting(self: Any) -> Change:
    return Change()


def generating(self: Any) -> Any:
    yield Change()


@pytest.mark.contract("2.4 requires, capabilities, singleton")
@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        ({"__init__": lambda self: None}, "invalid_agent", "__init__ of its own"),
        ({"skills": (Counter,)}, "invalid_agent", "Skill"),
        ({"skills": (Notes, Notes)}, "invalid_agent", "2 skills with the key notes: Notes, Notes.*notes_2"),
        ({"skills": (Notes, Mount(Store, "notes"))}, "invalid_agent", "Notes, Store"),
        ({"skills": (Mount(Notes, "no-name"),)}, "invalid_skill", "a letter, then"),
        ({"skills": (Mount(Alone, "second"),)}, "invalid_skill", "singleton and cannot be mounted as second"),
        ({"skills": (Needy,)}, "invalid_agent", "Needy, which requires storage"),
        ({"skills": (Notes,) * 65}, "invalid_agent", "65 skills.*at most 64"),
        ({"plain_actions": {"a b": changing}}, "invalid_action", "a letter, then"),
        ({"plain_actions": {"x": len}}, "invalid_action", "not a function"),
        ({"plain_actions": {"x": lambda state: Change()}}, "invalid_action", "state and moment first"),
        ({"plain_actions": {"x": changing}, "x": method(lambda self: None)}, "invalid_agent", "two actions named x"),
        ({"routes": (Route("a", "missing"),)}, "invalid_agent", "route a to missing, which is no action"),
        ({"state": method(lambda self: None)}, "invalid_agent", "cannot have an action named state"),
        ({"definition": method(lambda self: None)}, "invalid_agent", "cannot have a member named definition"),
        ({"plain_actions": method(lambda self: None)}, "invalid_agent", "cannot have an action named plain_actions"),
        ({"on_before_cmd": method(lambda self: None)}, "invalid_agent", "cannot have an action named on_before_cmd"),
        (
            {"skills": (type("S", (Skill,), {"mount": method(lambda self: None)}),)},
            "invalid_skill",
            "action named mount",
        ),
        ({"_hidden": method(lambda self: None)}, "invalid_agent", "cannot have an action named _hidden"),
        ({"error_policy": StopOnError}, "invalid_agent", "has a type as its error_policy .*brackets: StopOnError()"),
        ({"error_policy": "stop"}, "invalid_agent", "has 'stop' as its error_policy"),
        ({"queue_max": "x"}, "invalid_agent", "has 'x' as its queue_max"),
        ({"queue_max": True}, "invalid_agent", "has True as its queue_max"),
        ({"queue_max": 0}, "invalid_agent", "has a queue_max of 0"),
        ({"completion": "status"}, "invalid_agent", "has 'status' as its completion"),
        ({"name": 3}, "invalid_agent", "has 3 as its name"),
        ({"children": ("x",)}, "invalid_agent", "has 'x' among its children"),
        ({"children": Counter}, "invalid_agent", "as its children .*in brackets"),
        ({"schedules": Cron("@daily", job_id="j")}, "invalid_agent", "has a Cron as its schedules"),
        ({"routes": Route("a", "b")}, "invalid_agent", "has a Route as its routes"),
        ({"routes": ("x",)}, "invalid_agent", "has 'x' among its routes"),
        ({"skills": (Skill,)}, "invalid_agent", "among its skills"),
        ({"schedules": ("@daily",)}, "invalid_agent", "'@daily' among its schedules"),
        ({"schedules": (Cron("@daily"),)}, "invalid_agent", "without a job_id"),
        ({"schedules": (Cron("@daily", job_id="j"), Cron("@hourly", job_id="j"))}, "invalid_agent", "two jobs named j"),
    ],
)
def test_what_does_not_fit_together_is_told_when_the_class_is_made(members, code, text):
    with pytest.raises(InvalidRequest, match=text) as caught:
        agent_with(**members)
    assert caught.value.code == code


def test_the_code_session_is_not_inherited_from():
    with pytest.raises(InvalidRequest, match="Mine inherits from CodeSessionAgent") as caught:

        class Mine(CodeSessionAgent):
            pass

    assert caught.value.code == "invalid_agent"


def test_a_field_and_a_skill_of_one_key_do_not_fit_together():
    class Fields(BaseModel):
        notes: int = 0

    with pytest.raises(InvalidRequest, match="field notes in its state, and a skill of that key"):

        class Both(Agent[Fields]):
            skills = (Notes,)


@pytest.mark.contract("2.4 requires, capabilities, singleton")
def test_what_a_skill_requires_may_be_the_name_or_a_capability_of_another():
    assert agent_with(skills=(Needy, Store)).definition.skills[0].part.key == "needy"


def test_an_action_overridden_without_the_decorator_is_told():
    with pytest.raises(InvalidRequest, match="overrides the action increment by what is none"):

        class Forgot(Counter):
            def increment(self, by: int = 1) -> Change:
                return Change()


@pytest.mark.parametrize("state", [int, "CounterState", list[int], Any])
def test_a_state_of_another_kind_is_told(state):
    with pytest.raises(InvalidRequest, match="pydantic model") as caught:

        class Odd(Agent[state]):  # type: ignore[valid-type]
            pass

    assert caught.value.code == "invalid_agent"


@pytest.mark.parametrize(
    "field",
    [Field(0, alias="n"), Field(0, exclude=True), Field(0, validation_alias="n"), Field(0, serialization_alias="n")],
)
def test_a_field_that_is_not_kept_under_its_name_is_told(field):
    class Odd(BaseModel):
        number: int = field

    with pytest.raises(InvalidRequest, match="number of Odd, the state of OddOne, has an alias or is excluded"):

        class OddOne(Agent[Odd]):
            pass


def malformed(self: Any, it: int) -> None: ...


malformed.__annotations__["it"] = "list["


def unknown(self: Any, it: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.contract("2.4 action")
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda: None, "self first"),
        (lambda *, self: None, "self first"),
        (lambda self, by: None, "parameter by has no type"),
        (lambda self, *by: None, "by is given by position"),
        (waiting, "waiting is no action: .* waits for nothing"),
        (generating, "one Change"),
        (unknown, "names 'Missing', which is not known there"),
        (malformed, "an annotation is no type"),
        (len, "not a function"),
        (staticmethod(waiting), "a staticmethod"),
    ],
)
def test_a_function_that_can_be_no_action_is_told_where_it_is_decorated(function, text):
    with pytest.raises(InvalidRequest, match=text) as caught:
        action()(function)
    assert caught.value.code == "invalid_action"


def test_types_that_cannot_be_checked_are_told():
    class Opaque:
        pass

    def opaque(self: Any, it: Any) -> None: ...

    opaque.__annotations__["it"] = Opaque
    with pytest.raises(InvalidRequest, match="values of its parameter it cannot be checked"):
        agent_with(x=method(opaque))


def test_the_decorator_needs_its_brackets_and_good_patterns():
    with pytest.raises(InvalidRequest, match="increment is no action: @action needs its brackets"):
        action(Counter.increment)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"a\.\.b") as caught:
        action("a..b")(Counter.increment)
    assert caught.value.code == "invalid_pattern"


# -- parameters ------------------------------------------------------------------------------------------------------


class Color(Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 0


class Typed(Agent[Plain]):
    @action()
    def take(
        self,
        number: int,
        *,
        flag: bool = False,
        color: Color = Color.RED,
        at: datetime | None = None,
        points: list[Point] = [],  # noqa: B006 - never changed
        kind: Literal["a", "b"] = "a",
    ) -> Change:
        return Change().replying([number, flag, color, at, [type(point).__name__ for point in points], kind])

    @action()
    def open(self, first: int = 0, **more: Any) -> Change:
        return Change().replying([first, more])


def reply(agent: type[Agent[Any]], name: str, **parameters: Any) -> Any:
    return cmd(agent, {}, (name, parameters), MOMENT).result()


@pytest.mark.contract("2.3 typed signals", "2.4 action schema")
def test_parameters_become_their_declared_types():
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert reply(Typed, "take", number=1) == [1, False, "red", None, [], "a"]
    assert reply(Typed, "take", number=1, color="red", at=at, points=[{"x": 1}]) == [
        1,
        False,
        "red",
        at,
        ["Point"],
        "a",
    ]
    assert reply(Typed, "take", number=1, at="2026-03-01T00:00:00Z")[3] == at
    assert reply(Typed, "open", first=2, other=[1]) == [2, {"other": [1]}]


def test_what_takes_any_name_does_not_take_that_of_what_it_is_given_anyway():
    with pytest.raises(InvalidRequest, match="self: is no parameter") as caught:
        reply(Typed, "open", self=1)
    assert caught.value.code == "unknown_parameter"
    with pytest.raises(InvalidRequest, match="moment: is no parameter"):
        reply(agent_with(plain_actions={"x": lambda state, moment, **more: Change()}), "x", moment=1)


@pytest.mark.contract("2.3 typed signals", "2.4 action schema")
@pytest.mark.parametrize(
    ("parameters", "code", "text"),
    [
        ({}, "missing_parameter", "number: is required"),
        ({"number": 1, "colour": "red"}, "unknown_parameter", "colour: is no parameter.*did you mean color"),
        ({"number": "1"}, "invalid_type", "number: "),
        ({"number": True}, "invalid_type", "number: "),
        ({"number": 1.0}, "invalid_type", "number: "),
        ({"number": 1, "flag": 1}, "invalid_type", "flag: "),
        ({"number": 1, "color": "blue"}, "invalid_choice", "color: "),
        ({"number": 1, "kind": "c"}, "invalid_choice", "kind: "),
        ({"number": 1, "points": [{"x": 1}, {"y": 2}]}, "missing_parameter", r"points\[1\]\.x: "),
        ({"color": "blue", "colour": 1}, "missing_parameter", "number: .*colour: .*color: "),
        ({"number": 1, "points": [{}] * 30}, "missing_parameter", "and 10 more"),
    ],
)
def test_wrong_parameters_are_all_named_and_nothing_runs(parameters, code, text):
    outcome = cmd(Typed, {}, ("take", parameters), MOMENT)
    with pytest.raises(InvalidRequest, match=text) as caught:
        outcome.result()
    assert caught.value.code == code
    assert caught.value.ran == "no"
    assert "take takes at (optional)" in caught.value.hint
    assert outcome.state == {}


def test_a_type_that_fails_in_its_own_way_is_the_agents_error():
    def explode(value: Any) -> Any:
        raise RuntimeError("no")

    class Bomb(BaseModel):
        x: int

        def __init__(self, **data: Any) -> None:
            explode(data)

    def take(self: Any, bomb: Any) -> None: ...

    take.__annotations__["bomb"] = Bomb
    with pytest.raises(AgentError, match="x raised RuntimeError: no"):
        reply(agent_with(x=method(take)), "x", bomb={"x": 1})


def test_schedules_of_an_agent_are_listed():
    jobs = (Cron("@daily", job_id="j"), Schedule(5))
    assert agent_with(schedules=jobs).definition.schedules == jobs
