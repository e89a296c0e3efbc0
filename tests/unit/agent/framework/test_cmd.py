"""`cmd`: what runs, in which order, what a failure leaves behind, and that the ops say exactly what happened."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from helpers.counts import examples
from procession.agent_proc.agent.actions import action
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.cmd import cmd
from procession.agent_proc.agent.directives import DIRECTIVES_MAX, Emit, Error, RunInstruction, RunTool, Stop
from procession.agent_proc.agent.instructions import INSTRUCTIONS_MAX, Instruction
from procession.agent_proc.agent.outcome import Failed, fed_back
from procession.agent_proc.agent.phases import begin
from procession.agent_proc.agent.skills import Mount, Skill
from procession.ipc.core.errors import AgentError, InvalidRequest
from procession.ipc.core.state_ops import (
    OPS_MAX,
    AppendItems,
    DeleteKeys,
    PutEntry,
    ReplaceState,
    SetPath,
    SetState,
    apply,
    decode_ops,
    encode_ops,
)

Plain = Mapping[str, Any]


def moment() -> Moment:
    numbers = itertools.count(1)
    return Moment(datetime(2026, 3, 1, tzinfo=UTC), lambda: f"id-{next(numbers)}")


def append(state: Plain, moment: Moment, *, item: Any, keep: int | None = 3) -> Change:
    if item == "refuse":
        raise InvalidRequest("no such item", code="invalid_item")
    if item == "crash":
        raise ValueError("a bug")
    return Change((AppendItems(("items",), (item,), keep_last=keep),), reply=len(state.get("items", [])))


def clear(state: Plain, moment: Moment) -> Change:
    return Change((DeleteKeys(("items",)),)).asking(Emit("items.cleared"), RunTool("sweep"))


def badly(state: Plain, moment: Moment, **what: Any) -> Any:
    return what["answer"]


class Store(Agent[Plain]):
    plain_actions: ClassVar = {"append": append, "clear": clear, "badly": badly}


class Status(Enum):
    NEW = "new"
    OLD = "old"


class Item(BaseModel):
    name: str
    status: Status = Status.NEW


class ShopState(BaseModel):
    count: int = Field(0, ge=0)
    name: str = "shop"
    items: list[Item] = []
    index: dict[str, int] = {}
    total: int = 0
    anything: Any = None

    @field_validator("name")
    @classmethod
    def short(cls, name: str) -> str:
        return name.strip()

    @model_validator(mode="after")
    def sum_up(self) -> ShopState:
        self.total = self.count + len(self.items)
        return self


class Notes(Skill[Plain]):
    @action()
    def put(self, key: str, value: Any = None) -> Change:
        return Change((PutEntry(("entries",), key, value, keep_last=2),))

    @action()
    def merge(self, value: dict[str, Any]) -> Change:
        return Change((SetState(value),))

    @action()
    def replace(self, value: Any = None) -> Change:
        return Change((ReplaceState({"replaced": value}), SetState({"also": value}), DeleteKeys(("also", "gone"))))


class Shop(Agent[ShopState]):
    skills = (Notes,)

    @action()
    def add(self, by: int = 1) -> Change:
        return Change.set(count=self.state.count + by).replying(self.state.count)

    @action()
    def rename(self, name: str) -> Change:
        return Change.set(name=name)

    @action()
    def stock(self, name: str, status: Status = Status.NEW) -> Change:
        return Change((AppendItems(("items",), (Item(name=name, status=status),), keep_last=3),)).replying(self.state)

    @action()
    def replace(self, count: int = 0) -> Change:
        return Change((ReplaceState({"count": count}),))

    @action()
    def answer(self, what: Any) -> Any:
        return what

    @action()
    def ops(self, what: Any) -> Change:
        return Change(tuple(what))

    @action()
    def mutate(self, how: str) -> Change | None:
        match how:
            case "attribute":
                self.state.count += 1
            case "list":
                self.state.items.append(Item(name="x"))
            case "any":
                self.state.anything.append("x")
            case "nonsense":
                self.state.__dict__["count"] = object()
        return None

    @action()
    def effects(self, how_many: int = 1) -> Change:
        return Change().asking(*[Stop()] * how_many, Emit("shop.done", {"state": self.state}))

    @action()
    def who(self) -> Change:
        return Change().replying([self.moment.at, self.signal is None, dict(self.context)])


class Two(Agent[Plain]):
    skills = (Notes, Mount(Notes, "second"))


START = begin(Shop, {}, moment()).state


def run(agent: type[Agent[Any]], state: Plain, *instructions: Any) -> Any:
    return cmd(agent, state, list(instructions), moment())


# -- the property ----------------------------------------------------------------------------------------------------

items = st.sampled_from(["a", "b", "refuse", "crash", 1, None, [1, {"x": 2}]])
store_instructions = st.one_of(
    st.tuples(
        st.just("append"), st.fixed_dictionaries({"item": items}, optional={"keep": st.sampled_from([None, 1, 2])})
    ),
    st.just("clear"),
    st.just("unknown"),
    st.tuples(st.just("append"), st.just({"itm": 1})),
    st.tuples(st.just("badly"), st.fixed_dictionaries({"answer": st.sampled_from([None, 3, Change((3,))])})),  # type: ignore[arg-type]
)
wrong_ops = st.sampled_from(
    [
        [SetPath(("count",), -1)],
        [SetPath(("count",), "many")],
        [SetPath(("unknown",), 1)],
        [SetPath(("notes",), 1)],
        [SetPath(("count", "x"), 1)],
        [SetPath(("anything",), print)],
        [SetPath((), 1)],
        [SetPath(["count"], 1)],  # type: ignore[arg-type]
        ["no op"],
        [DeleteKeys(("count", "name"))],
        [SetState({"index": {"a": 1}}), SetPath(("index", "b"), True)],
        [SetPath(("count",), 4.0), SetPath(("name",), " wide ")],
    ]
)
shop_instructions = st.one_of(
    st.tuples(st.just("add"), st.fixed_dictionaries({"by": st.integers(-3, 3)})),
    st.tuples(st.just("rename"), st.fixed_dictionaries({"name": st.sampled_from(["x", " y ", "", 3])})),
    st.tuples(
        st.just("stock"),
        st.fixed_dictionaries({"name": st.text("ab", max_size=1)}, optional={"status": st.just("old")}),
    ),
    st.tuples(st.just("replace"), st.fixed_dictionaries({"count": st.integers(-1, 2)})),
    st.tuples(st.just("ops"), st.fixed_dictionaries({"what": wrong_ops})),
    st.tuples(st.just("mutate"), st.fixed_dictionaries({"how": st.sampled_from(["attribute", "list", "nonsense"])})),
    st.tuples(st.just("notes.put"), st.fixed_dictionaries({"key": st.sampled_from("abc"), "value": items})),
    st.tuples(st.just("notes.replace"), st.fixed_dictionaries({"value": items})),
    st.tuples(st.just("answer"), st.fixed_dictionaries({"what": st.sampled_from([None, 1])})),
    st.just("effects"),
)


def holds(agent: type[Agent[Any]], state: Plain, instructions: Sequence[Any]) -> None:
    before = copy.deepcopy((state, instructions))
    outcome = cmd(agent, state, instructions, moment())
    assert repr((state, instructions)) == repr(before), "inputs are unmutated"
    assert repr(dict(apply(state, outcome.ops))) == repr(dict(outcome.state)), "the ops fold to the state"
    assert decode_ops(encode_ops(outcome.ops)) == list(outcome.ops), "the ops are the journal"
    failures = [reply for reply in outcome.replies if isinstance(reply, Failed)]
    told = [directive for directive in outcome.directives if isinstance(directive, Error)]
    assert len(outcome.replies) == len(instructions)
    assert [failure.error.message for failure in failures] == [error.error.message for error in told]
    alone = state
    for instruction, reply in zip(instructions, outcome.replies, strict=True):
        step = cmd(agent, alone, instruction, moment())
        if isinstance(reply, Failed):
            assert (step.state, step.ops) == (alone, ()), "what fails changes nothing"
        alone = step.state
    assert alone == outcome.state, "a list is its instructions one after the other"


@pytest.mark.contract("2.2 cmd")
@given(st.lists(store_instructions, max_size=6))
@settings(max_examples=examples(100), deadline=None)
def test_the_ops_of_plain_actions_say_exactly_what_happened(instructions):
    holds(Store, {"other": [1]}, instructions)


@pytest.mark.contract("2.2 cmd")
@given(st.lists(shop_instructions, max_size=6))
@settings(max_examples=examples(100), deadline=None)
def test_the_ops_of_typed_actions_say_exactly_what_happened(instructions):
    holds(Shop, START, instructions)
    after = cmd(Shop, START, instructions, moment()).state
    model = ShopState.model_validate({key: value for key, value in after.items() if key != "notes"})
    assert model.total == model.count + len(model.items) == after["total"], "the state is what the model makes of it"
    assert model.name == model.name.strip() == after["name"]
    assert len(after["notes"].get("entries", {})) <= 2


# -- instructions ----------------------------------------------------------------------------------------------------


@pytest.mark.contract("2.2 cmd")
@pytest.mark.parametrize(
    ("given", "state"),
    [
        ("add", 1),
        (("add", {"by": 2}), 2),
        (Instruction("add", {"by": 3}), 3),
        ([("add", {"by": 2}), "add"], 3),
        (("add", "add"), 2),
        ([], 0),
    ],
)
def test_an_instruction_is_written_in_several_ways(given, state):
    assert cmd(Shop, START, given, moment()).state["count"] == state


@pytest.mark.contract("2.2 bad action")
@pytest.mark.parametrize(
    "given",
    [3, None, [3], ["add", None], ("add", {1: 2}), "", "a\nb", ["add", []], [("add",)], {"add": {}}, ["add"] * 257],
)
def test_what_is_no_instruction_changes_nothing_and_is_one_error(given):
    outcome = cmd(Shop, START, given, moment())
    (error,) = outcome.directives
    assert (outcome.state, outcome.ops) == (START, ())
    assert isinstance(error, Error)
    assert (error.context, error.error.code) == ("normalize", "invalid_instruction")
    with pytest.raises(InvalidRequest):
        outcome.result()


def test_as_many_instructions_as_a_mailbox_holds_run_at_once():
    assert cmd(Shop, START, ["answer"] * INSTRUCTIONS_MAX, moment()).replies


@pytest.mark.contract("2.2 instructions in order")
def test_a_failure_keeps_what_was_reached_and_the_rest_still_runs():
    outcome = run(Store, {}, ("append", {"item": "a"}), ("append", {"item": "crash"}), ("append", {"item": "b"}))
    assert outcome.state == {"items": ["a", "b"]}
    assert [type(reply).__name__ for reply in outcome.replies] == ["Done", "Failed", "Done"]
    (error,) = outcome.directives
    assert (error.context, error.action, error.error.kind) == ("instruction", "append", "AgentError")
    assert outcome.result() == 0
    assert outcome.result(2) == 1


def test_what_an_action_raises_is_told_with_its_type_and_traceback():
    with pytest.raises(AgentError, match="append raised ValueError: a bug") as caught:
        run(Store, {}, ("append", {"item": "crash"})).result()
    assert (caught.value.ran, caught.value.exception_type) == ("yes", "ValueError")
    assert 'raise ValueError("a bug")' in caught.value.traceback
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_ours_comes_out_as_it_was_raised():
    with pytest.raises(InvalidRequest, match="no such item") as caught:
        run(Store, {}, ("append", {"item": "refuse"})).result()
    assert (caught.value.code, caught.value.ran) == ("invalid_item", "no")


def test_an_unknown_action_is_told_with_near_ones():
    with pytest.raises(InvalidRequest, match=r"Store has no action apend .*did you mean append") as caught:
        run(Store, {}, "apend").result()
    assert caught.value.code == "unknown_action"


@pytest.mark.contract("2.4 action schema")
@pytest.mark.parametrize(
    ("parameters", "code"),
    [({}, "missing_parameter"), ({"item": 1, "kep": 2}, "unknown_parameter"), ({"state": {}}, "missing_parameter")],
)
def test_the_names_of_a_plain_actions_parameters_are_checked(parameters, code):
    with pytest.raises(InvalidRequest) as caught:
        run(Store, {}, ("append", parameters)).result()
    assert caught.value.code == code


@pytest.mark.contract("2.2 ops in order", "2.2 unknown directive")
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (3, "returned 3, not a Change"),
        ({"count": 1}, "returned a dict, not a Change"),
        (Change([]), "no tuple"),  # type: ignore[arg-type]
        (Change(directives=[Stop()]), "no tuple"),  # type: ignore[arg-type]
        (Change(("x",)), "'x' among its ops"),  # type: ignore[arg-type]
        (Change(directives=("x",)), "'x', which is no directive"),  # type: ignore[arg-type]
        (Change((SetPath(("items", "x"), 1), SetPath(("items", "x", "y"), 1))), "impossible change"),
    ],
)
@pytest.mark.parametrize("agent", [Store, Shop])
def test_what_is_no_change_is_told(agent, answer, text):
    name = "badly" if agent is Store else "answer"
    key = "answer" if agent is Store else "what"
    with pytest.raises(AgentError, match=text):
        run(agent, {"items": []} if agent is Store else START, (name, {key: answer})).result()


def test_none_is_no_change():
    outcome = run(Shop, START, ("answer", {"what": None}))
    assert (outcome.state, outcome.ops, outcome.result()) == (START, (), None)


# -- declared state --------------------------------------------------------------------------------------------------


def test_what_an_author_writes_in_models_and_enums_is_kept_as_plain_data():
    outcome = run(Shop, START, ("stock", {"name": "a", "status": "old"}))
    assert outcome.state["items"] == [{"name": "a", "status": "old"}]
    assert outcome.result()["name"] == "shop"
    assert outcome.ops == (
        AppendItems(("items",), ({"name": "a", "status": "old"},), keep_last=3),
        SetPath(("total",), 1),
    )


def test_what_the_model_makes_of_the_state_is_the_state():
    outcome = run(Shop, START, ("rename", {"name": "  wide "}))
    assert outcome.state["name"] == "wide"
    assert outcome.ops == (SetPath(("name",), "  wide "), SetPath(("name",), "wide"))
    whole = run(Shop, START, ("ops", {"what": [SetPath(("count",), 4.0)]})).state["count"]
    assert (whole, type(whole)) == (4, int)


@pytest.mark.contract("2.2 validation")
@pytest.mark.parametrize(
    ("ops", "code", "text"),
    [
        ([SetPath(("count",), -1)], "invalid_state", "would break the state: count: .*greater than or equal to 0"),
        ([SetPath(("count",), "many")], "invalid_state", "count: "),
        ([SetPath(("cuont",), 1)], "invalid_state", "ShopState has no field cuont; did you mean count"),
        ([SetPath(("items",), [{}] * 9)], "invalid_state", "items.0.name: .*and 4 more"),
        ([SetPath(("notes", "x"), 1)], "foreign_state", "would change notes, the state of a skill"),
        ([SetState({"notes": {}})], "foreign_state", "notes"),
        ([DeleteKeys(("notes",))], "foreign_state", "notes"),
        ([ReplaceState({"notes": {}})], "foreign_state", "notes"),
        ([SetPath(("anything",), object())], "invalid_op", "object"),
        ([SetPath((), 1)], "invalid_op", "1 to 16 parts"),
    ],
)
def test_a_change_that_breaks_the_state_is_the_agents_error_and_changes_nothing(ops, code, text):
    outcome = run(Shop, START, ("ops", {"what": ops}))
    with pytest.raises(AgentError, match=text) as caught:
        outcome.result()
    assert caught.value.code == code
    assert (outcome.state, outcome.ops) == (START, ())


@pytest.mark.contract("2.2 ReplaceState")
def test_a_replaced_state_keeps_the_skills_pieces():
    state = run(Shop, START, ("notes.put", {"key": "a", "value": 1}), ("add", {"by": 5})).state
    assert run(Shop, state, ("replace", {"count": 2})).state == {
        **START,
        "count": 2,
        "total": 2,
        "notes": {"entries": {"a": 1}},
    }


@pytest.mark.parametrize("how", ["attribute", "list", "any", "nonsense"])
def test_to_change_the_state_in_place_is_an_error(how):
    state = {**START, "anything": ["kept"]}
    outcome = run(Shop, state, ("mutate", {"how": how}))
    with pytest.raises(AgentError, match=r"return a Change, as in Change\.set") as caught:
        outcome.result()
    assert caught.value.code == "state_changed_in_place"
    assert outcome.state == state == {**START, "anything": ["kept"]}


def test_a_state_that_no_longer_fits_its_model_is_told():
    with pytest.raises(AgentError, match="the state does not fit Shop: count: ") as caught:
        run(Shop, {**START, "count": "x"}, "add").result()
    assert caught.value.code == "invalid_state"


def test_a_plain_state_cannot_be_changed_in_place_by_a_method():
    class Careless(Agent[Plain]):
        @action()
        def change(self) -> Change:
            self.state["x"] = 1  # type: ignore[index]
            return Change()

    state = {"a": 1}
    with pytest.raises(AgentError, match="TypeError"):
        run(Careless, state, "change").result()
    assert state == {"a": 1}


@pytest.mark.contract("2.2 validation")
def test_a_model_that_allows_more_keeps_more():
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

        a: int = 0

    class Keeps(Agent[Open]):
        @action()
        def put(self, value: Any) -> Change:
            return Change.set(more=value)

    assert run(Keeps, {"a": 0}, ("put", {"value": [1]})).state == {"a": 0, "more": [1]}


def test_a_validator_that_fails_in_its_own_way_is_the_agents_error():
    class Fragile(BaseModel):
        a: int = 1

        @field_validator("a")
        @classmethod
        def check(cls, a: int) -> int:
            if a == 0:
                raise ZeroDivisionError("nought")
            return a

    class Breaks(Agent[Fragile]):
        @action()
        def put(self, a: int) -> Change:
            return Change.set(a=a)

    with pytest.raises(AgentError, match="its model raised ZeroDivisionError: nought"):
        run(Breaks, {"a": 1}, ("put", {"a": 0})).result()


def test_a_model_that_makes_of_the_state_what_no_state_can_hold_is_told():
    class Opens(BaseModel):
        handle: Any = 1

        @field_validator("handle")
        @classmethod
        def open(cls, handle: Any) -> Any:
            return print

    class Opener(Agent[Opens]):
        @action()
        def put(self, handle: int) -> Change:
            return Change.set(handle=handle)

    with pytest.raises(AgentError, match=r"would break the state: .*handle"):
        run(Opener, {"handle": 1}, ("put", {"handle": 2})).result()


def test_nan_in_the_state_is_no_change_of_it():
    class Measure(BaseModel):
        a: float = 0.0

    class Measures(Agent[Measure]):
        @action()
        def put(self, a: float) -> Change:
            return Change.set(a=a)

    outcome = run(Measures, {"a": 0.0}, ("put", {"a": float("nan")}), ("put", {"a": float("nan")}))
    assert [type(reply).__name__ for reply in outcome.replies] == ["Done", "Done"]
    assert len(outcome.ops) == 2


# -- effects, bounds, hooks ------------------------------------------------------------------------------------------


def test_directives_come_in_order_with_ids_and_plain_data():
    outcome = cmd(Store, {}, ["clear", "clear"], moment())
    assert outcome.directives == (
        Emit("items.cleared", id="id-1"),
        RunTool("sweep", call_id="id-2"),
        Emit("items.cleared", id="id-3"),
        RunTool("sweep", call_id="id-4"),
    )
    (_, emit) = run(Shop, START, "effects").directives
    assert emit.data["state"]["name"] == "shop"


@pytest.mark.parametrize("value", [object(), {"x": print}])
def test_an_answer_that_is_no_data_is_told(value):
    with pytest.raises(AgentError, match="no plain data") as caught:
        run(Shop, START, ("answer", {"what": Change().replying(value)})).result()
    assert caught.value.code == "invalid_change"
    with pytest.raises(AgentError, match="no plain data"):
        run(Shop, START, ("answer", {"what": Change().asking(Emit("a", value))})).result()


def test_what_an_action_sees_besides_the_state():
    outcome = cmd(Shop, START, "who", moment(), context={"user": "x"})
    assert outcome.result() == [datetime(2026, 3, 1, tzinfo=UTC), True, {"user": "x"}]


def test_ops_and_directives_of_one_command_are_bounded():
    many = [SetPath(("anything",), n) for n in range(OPS_MAX // 2 + 1)]
    outcome = run(Shop, START, ("ops", {"what": many}), ("ops", {"what": many}), ("add", {"by": 1}))
    assert [reply.error.code for reply in outcome.replies if isinstance(reply, Failed)] == ["too_many_ops"]
    assert (outcome.state["anything"], outcome.state["count"]) == (OPS_MAX // 2, 1)
    outcome = run(Shop, START, ("effects", {"how_many": DIRECTIVES_MAX - 1}), "effects")
    assert [reply.error.code for reply in outcome.replies if isinstance(reply, Failed)] == ["too_many_directives"]


class Hooked(Shop):
    def on_before_cmd(self, instructions: Sequence[Instruction]) -> Change | None:
        if any(one.action == "answer" for one in instructions):
            raise RuntimeError("not before")
        return Change.set(name=f"before {len(instructions)}")

    def on_after_cmd(self, instructions: Sequence[Instruction], directives: Sequence[Any]) -> Change | None:
        if self.state.count > 10:
            raise InvalidRequest("too much", code="too_much")
        return Change.set(anything=[self.state.name, self.state.count, len(directives)]).asking(Emit("shop.changed"))


@pytest.mark.contract("2.2 hooks")
def test_hooks_run_before_and_after_all_instructions():
    outcome = run(Hooked, START, "add", "nothing", "add")
    assert outcome.state["anything"] == ["before 3", 2, 1]
    assert [type(directive).__name__ for directive in outcome.directives] == ["Error", "Emit"]
    assert len(outcome.replies) == 3
    assert apply(START, outcome.ops) == outcome.state


@pytest.mark.contract("2.2 hooks")
@pytest.mark.parametrize(
    ("instructions", "error", "code"),
    [
        (["add", ("answer", {"what": None})], AgentError, "agent_error"),
        ([("add", {"by": 11})], InvalidRequest, "too_much"),
    ],
)
def test_a_hook_that_fails_fails_the_command_whole(instructions, error, code):
    outcome = run(Hooked, START, *instructions)
    with pytest.raises(error) as caught:
        outcome.result()
    assert caught.value.code == code
    assert (outcome.state, outcome.ops, len(outcome.directives)) == (START, (), 1)
    assert outcome.directives[0].context == "hook"


@pytest.mark.contract("2.2 RunInstruction")
def test_what_came_of_an_instruction_is_fed_back_as_one():
    directive = RunInstruction("add", {"by": 2}, "seen", meta={"m": 1})
    done = fed_back(directive, run(Shop, START, ("add", {"by": 2})))
    told = {"action": "add", "parameters": {"by": 2}}
    assert done == Instruction("seen", {"status": "ok", "result": 0, "instruction": told, "meta": {"m": 1}})
    failed = fed_back(directive, run(Shop, START, "missing"))
    assert failed.parameters["status"] == "error"
    assert failed.parameters["reason"]["code"] == "unknown_action"
    assert "result" not in failed.parameters


@pytest.mark.contract("2.4 skill")
def test_a_skills_ops_do_to_its_piece_what_they_do_to_a_state():
    state = {"own": 1, "notes": {"entries": {"a": 1}, "gone": 2}}
    merged = run(Two, state, ("notes.merge", {"value": {"entries": {"b": 2}, "new": 3}})).state
    assert merged == {"own": 1, "notes": {"entries": {"a": 1, "b": 2}, "gone": 2, "new": 3}}
    assert run(Two, state, ("notes.replace", {"value": 5})).state == {"own": 1, "notes": {"replaced": 5}}


@pytest.mark.contract("2.4 skill")
def test_a_second_mount_has_a_state_of_its_own():
    state = run(Two, {}, ("notes.put", {"key": "a", "value": 1}), ("second.put", {"key": "b", "value": 2})).state
    assert state == {"notes": {"entries": {"a": 1}}, "second": {"entries": {"b": 2}}}
    assert run(Two, {"notes": 3}, ("notes.put", {"key": "a"})).replies[0].error.code == "invalid_state"
