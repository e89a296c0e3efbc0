"""Signals and skills: the phases in their order, what each may do, and that one that fails fails closed."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from helpers.counts import examples
from procession.agent_proc.agent.actions import action
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.change import LATER, Change, Moment
from procession.agent_proc.agent.directives import Cron, Emit, Error, Schedule, Stop
from procession.agent_proc.agent.instructions import Instruction
from procession.agent_proc.agent.outcome import Done, Failed, Outcome
from procession.agent_proc.agent.phases import begin, on_checkpoint, on_instructions, on_restore, on_signal
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.signal_types import ADVISORY
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.skills import PHASES, Handled, Mount, Prepared, Skill, overridden, snake_case
from procession.ipc.core.errors import AgentError, InvalidRequest, PermissionDenied
from procession.ipc.core.state_ops import AppendItems, DeletePath, ReplaceState, apply

Plain = Mapping[str, Any]


def moment() -> Moment:
    numbers = itertools.count(1)
    return Moment(datetime(2026, 3, 1, tzinfo=UTC), lambda: f"id-{next(numbers)}")


def signal(type_: str, data: Any = None) -> Signal:
    return Signal(id="s-1", source="/test", type=type_, data=data)


class LogState(BaseModel):
    lines: list[str] = []
    limit: int = 3
    fail: str = ""


class Log(Skill[LogState]):
    """Writes down what it is asked, fails where it is told to, and says who is there."""

    patterns = ("order.**",)

    def failing(self, phase: str) -> None:
        if self.state.fail == phase:
            raise RuntimeError(f"{phase} fails")

    @action("order.**")
    def write(self, **data: Any) -> Change:
        assert self.signal is not None
        line = f"{self.signal.type} {sorted(data)} {dict(self.context)}"
        return Change((AppendItems(("lines",), (line,), keep_last=self.state.limit),))

    def mount(self) -> Change:
        self.failing("mount")
        return Change.set(lines=[f"mounted {self.moment.at:%Y}"]).asking(Schedule(1000, "log.tick"))

    def handle_signal(self, signal: Signal) -> Handled | None:
        self.failing("handle_signal")
        if signal.type == "order.override":
            return Handled(instructions=[("pay", {"amount": 7})])
        if signal.type == "order.renamed":
            return Handled(signal=replaced(signal, "order.paid", {"amount": 5}))
        return None

    def prepare_signal(self, signal: Signal) -> Prepared | None:
        self.failing("prepare_signal")
        if isinstance(signal.data, dict) and "user" in signal.data:
            rest = {key: value for key, value in signal.data.items() if key != "user"}
            return Prepared(replaced(signal, signal.type, rest), {"user": signal.data["user"]})
        return None

    def prepare_action(self, instructions: Any) -> dict[str, Any] | None:
        self.failing("prepare_action")
        if any(one.parameters.get("amount") == 13 for one in instructions):
            raise PermissionDenied("not thirteen")
        return {"count": len(instructions)}

    def prepare_emit(self, emit: Emit) -> Emit | None:
        self.failing("prepare_emit")
        return Emit(emit.type, emit.data, "parent", extensions={"signed": len(self.state.lines)})

    def transform_result(self, instruction: Instruction, reply: Any) -> Any:
        self.failing("transform_result")
        return {"of": instruction.action, "reply": reply}

    def on_checkpoint(self) -> Change:
        self.failing("on_checkpoint")
        return Change((DeletePath(("lines",)),))

    def on_restore(self) -> Change | None:
        self.failing("on_restore")
        return Change.set(lines=["restored"]).asking(Schedule(1, "log.tick"))


def replaced(signal: Signal, type_: str, data: Any) -> Signal:
    return Signal(id=signal.id, source=signal.source, type=type_, data=data)


class ShopState(BaseModel):
    paid: int = 0


class Shop(Agent[ShopState]):
    skills = (Log,)
    routes = (Route("order.gift", "pay", parameters={"amount": 0}),)
    strategy_routes = (Route("order.paid", "first"),)
    schedules = (Cron("@daily", "shop.daily", job_id="daily"),)

    @action("order.paid")
    def pay(self, amount: int) -> Change:
        return Change.set(paid=self.state.paid + amount).replying(amount).asking(Emit("shop.paid"))

    @action()
    def first(self, amount: int = 0) -> Change:
        return Change().replying("first")


START = begin(Shop, {}, moment()).state


def failing(phase: str) -> Plain:
    return {**START, "log": {**START["log"], "fail": phase}}


def send(type_: str, data: Any = None, *, state: Plain = START, is_call: bool = True) -> Outcome:
    return on_signal(Shop, state, signal(type_, data), moment(), is_call=is_call)


# -- the way of a signal ---------------------------------------------------------------------------------------------


@pytest.mark.contract("2.3 sources of routes", "3 routing")
def test_a_signal_runs_all_its_routes_the_strategys_before_the_agents_before_the_skills():
    outcome = send("order.paid", {"amount": 2}, is_call=False)
    assert outcome.state["paid"] == 2
    assert outcome.state["log"]["lines"] == ["mounted 2026", "order.paid ['amount'] {'count': 3}"]
    assert [reply.value for reply in outcome.replies] == ["first", 2, None]  # type: ignore[union-attr]
    assert apply(START, outcome.ops) == outcome.state


@pytest.mark.contract("2.3 static parameters")
def test_a_routes_static_parameters_reach_the_action():
    assert send("order.gift", {"amount": 100}).state["paid"] == 0


@pytest.mark.contract("2.4 handle_signal")
def test_handle_signal_may_say_what_runs_instead_of_the_routes():
    outcome = send("order.override", {"amount": 1}, is_call=False)
    assert outcome.state["paid"] == 7
    assert len(outcome.replies) == 1


@pytest.mark.contract("2.4 handle_signal")
def test_handle_signal_may_rewrite_the_signal_before_it_is_routed():
    assert send("order.renamed").state["paid"] == 5


@pytest.mark.contract("2.3 signal_patterns")
def test_handle_signal_sees_only_the_patterns_of_its_skill():
    state = {**failing("handle_signal")}
    assert send("shop.other", state=state).directives[0].context == "routing"  # type: ignore[union-attr]
    assert send("order.paid", state=state).directives[0].context == "skill"  # type: ignore[union-attr]


@pytest.mark.contract("2.4 prepare_signal")
def test_prepare_signal_may_rewrite_and_tell_what_it_knows():
    lines = send("order.paid", {"amount": 2, "user": "ann"}).state["log"]["lines"]
    assert lines[-1] == "order.paid ['amount'] {'user': 'ann', 'count': 3}"


@pytest.mark.contract("2.4 prepare_action")
def test_prepare_action_may_refuse_with_an_error_of_its_choice():
    outcome = send("order.paid", {"amount": 13})
    with pytest.raises(PermissionDenied, match="not thirteen"):
        outcome.result()
    assert (outcome.state, outcome.ops) == (START, ())


@pytest.mark.contract("2.4 prepare_emit")
def test_prepare_emit_may_rewrite_what_is_sent_and_where():
    (emit,) = send("order.paid", {"amount": 2}).directives
    assert emit == Emit("shop.paid", None, "parent", extensions={"signed": 2}, id="id-2")


@pytest.mark.contract("2.4 transform_result")
def test_transform_result_shows_the_caller_of_a_call_something_else():
    assert send("order.paid", {"amount": 2}).result(1) == {"of": "pay", "reply": 2}
    assert send("order.paid", {"amount": 2}, is_call=False).result(1) == 2
    wrong = send("order.paid", {"amount": "2"})
    assert [type(reply) for reply in wrong.replies] == [Failed, Failed, Done]
    assert wrong.result(2) == {"of": "log.write", "reply": None}


def test_instructions_that_no_signal_brought_have_the_later_phases_too():
    outcome = on_instructions(Shop, START, ("pay", {"amount": 3}), moment(), is_call=True)
    assert outcome.result() == {"of": "pay", "reply": 3}
    assert outcome.directives[0].extensions == {"signed": 1}  # type: ignore[union-attr]
    refused = on_instructions(Shop, START, ("pay", {"amount": 13}), moment())
    assert isinstance(refused.replies[0], Failed)
    unreadable = on_instructions(Shop, START, 3, moment()).directives[0]  # type: ignore[arg-type]
    assert isinstance(unreadable, Error)
    assert unreadable.context == "normalize"


SIGNAL_PHASES = ("handle_signal", "prepare_signal", "prepare_action", "prepare_emit", "transform_result")


@pytest.mark.contract("3 plugin phases")
@pytest.mark.parametrize("phase", SIGNAL_PHASES)
def test_a_phase_that_fails_fails_the_signal_whole(phase):
    state = failing(phase)
    outcome = send("order.paid", {"amount": 2}, state=state)
    with pytest.raises(AgentError, match=rf"log\.{phase} raised RuntimeError: {phase} fails"):
        outcome.result()
    (error,) = outcome.directives
    assert isinstance(error, Error)
    assert error.context == "skill"
    assert (outcome.state, outcome.ops) == (state, ())


@pytest.mark.contract("2.4 transform_result")
def test_a_call_and_a_cast_differ_in_transform_result_only():
    assert send("order.paid", {"amount": 2}, state=failing("transform_result"), is_call=False).state["paid"] == 2


@pytest.mark.contract("3 plugin phases")
@pytest.mark.parametrize(
    ("phase", "answer", "code", "text"),
    [
        ("handle_signal", 3, "invalid_answer", "handle_signal returned 3, not None or a Handled"),
        ("handle_signal", Handled(signal="x"), "invalid_answer", "rewrote a signal as 'x'"),  # type: ignore[arg-type]
        ("handle_signal", Handled(instructions=3), "invalid_instruction", "3 is no instruction"),  # type: ignore[arg-type]
        ("prepare_signal", {"user": 1}, "invalid_answer", "not None or a Prepared"),
        (
            "prepare_signal",
            Prepared(context={"state": 1}),
            "context_conflict",
            "'state' to the context, which is reserved",
        ),
        (
            "prepare_signal",
            Prepared(context={"there": 1}),
            "context_conflict",
            "'there' to the context, which is there already",
        ),
        ("prepare_action", {"there": 1}, "context_conflict", "'there'"),
        ("prepare_action", True, "invalid_answer", "returned True, not None or a dict"),
        ("prepare_emit", Stop(), "invalid_answer", "not None or a Emit"),
        ("transform_result", object(), "invalid_answer", "no plain data"),
    ],
)
def test_what_a_phase_may_not_answer_fails_the_signal(phase, answer, code, text):
    class Odd(Skill[Plain]):
        pass

    class First(Skill[Plain]):
        def prepare_signal(self, signal: Signal) -> Prepared:
            return Prepared(context={"there": 0})

    setattr(Odd, phase, lambda self, *arguments: answer)

    class Asks(Agent[Plain]):
        skills = (First, Odd)

        @action("ask")
        def ask(self) -> Change:
            return Change.set(asked=True).asking(Emit("asked"))

    state = begin(Asks, {}, moment()).state
    outcome = on_signal(Asks, state, signal("ask"), moment(), is_call=True)
    with pytest.raises((AgentError, InvalidRequest), match=text) as caught:
        outcome.result()
    assert caught.value.code == code
    assert outcome.state == state == {"first": {}, "odd": {}}


def test_a_phase_that_changes_its_state_in_place_fails_the_signal():
    class Sly(Skill[LogState]):
        def prepare_signal(self, signal: Signal) -> None:
            self.state.lines.append("sly")

    class Has(Agent[Plain]):
        skills = (Sly,)

    outcome = on_signal(Has, begin(Has, {}, moment()).state, signal("a"), moment())
    assert outcome.replies[0].error.code == "state_changed_in_place"  # type: ignore[union-attr]


@pytest.mark.contract("3 plugin phases")
def test_skills_are_asked_in_the_order_in_which_the_agent_names_them():
    class Adds(Skill[Plain]):
        def prepare_signal(self, signal: Signal) -> Prepared:
            return Prepared(replaced(signal, signal.type, {"seen": [*signal.data["seen"], self.state["name"]]}))

        def transform_result(self, instruction: Instruction, reply: Any) -> Any:
            return [*reply, self.state["name"]]

    class Has(Agent[Plain]):
        skills = (Mount(Adds, "b", {"name": "b"}), Mount(Adds, "a", {"name": "a"}))

        @action("look")
        def look(self, seen: list[str]) -> Change:
            return Change().replying(seen)

    outcome = on_signal(Has, begin(Has, {}, moment()).state, signal("look", {"seen": []}), moment(), is_call=True)
    assert outcome.result() == ["b", "a", "b", "a"]


data = st.none() | st.fixed_dictionaries(
    {}, optional={"amount": st.sampled_from([0, 2, 13, "x"]), "user": st.just("ann"), "more": st.just([1])}
)
signals = st.builds(
    signal, st.sampled_from(["order.paid", "order.gift", "order.override", "order.renamed", "order.x", "shop.x"]), data
)


@pytest.mark.contract("3 plugin phases")
@given(signals, st.sampled_from(["", *SIGNAL_PHASES]), st.booleans())
@settings(max_examples=examples(100), deadline=None)
def test_the_ops_of_a_signal_say_exactly_what_happened(one, phase, is_call):
    state = failing(phase)
    before = copy.deepcopy((state, one))
    outcome = on_signal(Shop, state, one, moment(), is_call=is_call)
    assert (state, one) == before
    assert apply(state, outcome.ops) == outcome.state
    assert all(directive.context != "hook" for directive in outcome.directives if isinstance(directive, Error))


# -- without a route -------------------------------------------------------------------------------------------------


def test_a_signal_without_a_route_is_an_error_that_names_near_ones():
    outcome = send("shop.other")
    (error,) = outcome.directives
    assert isinstance(error, Error)
    assert (error.context, error.error.code) == ("routing", "no_route")
    with pytest.raises(InvalidRequest, match=r"no action takes a signal of type shop\.other"):
        outcome.result()


@pytest.mark.contract("2.3 system signals")
@pytest.mark.parametrize("type_", ["procession.agent.stop", "jido.agent.stop"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [(None, "normal"), ({"reason": "done"}, "done"), ({"reason": 3}, "normal"), ({"reason": "\n"}, "normal")],
)
def test_the_stop_signal_needs_no_route(type_, data, reason):
    assert send(type_, data) == Outcome(START, directives=(Stop(reason),))
    assert send(type_, data).result() is None


@pytest.mark.contract("2.3 system signals")
class Odd(Skill[Plain]):
    """Gives what its phases must not."""

    def prepare_signal(self, signal: Signal) -> Prepared | None:
        return Prepared(context=signal.data) if signal.type == "odd.context" else None

    def prepare_emit(self, emit: Emit) -> Emit | None:
        return Emit("odd.sent", object()) if emit.type == "odd.plain" else None

    def transform_result(self, instruction: Instruction, result: Any) -> Any:
        return {"seen": result}


class Odder(Agent[Plain]):
    skills = (Odd,)

    @action("odd.context")
    def context_of(self, **data: Any) -> Change:
        return Change.set(seen=True)

    @action("odd.emit")
    def send(self, type_: str) -> Change:
        return Change.set(seen=True).asking(Emit(type_))

    @action("odd.later")
    def later(self) -> Change:
        return Change().later()


@pytest.mark.parametrize("context", [3, None, "text", ["a"], {1: 2}])
def test_a_context_that_is_no_map_of_names_fails_the_signal(context: Any):
    outcome = on_signal(Odder, {"odd": {}}, signal("odd.context", context), moment())
    with pytest.raises(AgentError, match="as context, not a map") as caught:
        outcome.result()
    assert (caught.value.code, outcome.ops) == ("invalid_answer", ())


def test_what_a_skill_sends_in_the_place_of_a_signal_is_plain_data():
    outcome = on_signal(Odder, {"odd": {}}, signal("odd.emit", {"type_": "odd.plain"}), moment())
    with pytest.raises(AgentError, match="prepare_emit returned what is no plain data") as caught:
        outcome.result()
    assert (caught.value.code, outcome.ops, outcome.state) == ("invalid_answer", (), {"odd": {}})


@pytest.mark.contract("2.4 transform_result")
def test_an_answer_that_comes_later_is_not_transformed_before_it_is_there():
    outcome = on_signal(Odder, {"odd": {}}, signal("odd.later"), moment(), is_call=True)
    assert outcome.result() is LATER


@pytest.mark.parametrize("type_", sorted(ADVISORY))
def test_what_the_server_only_tells_needs_no_route(type_):
    assert send(type_, {"tag": "a"}) == Outcome(START)


@pytest.mark.contract("2.3 legacy names")
def test_an_older_name_reaches_the_route_of_ours():
    class Listens(Agent[Plain]):
        @action("procession.tool.result")
        def note(self, **data: Any) -> Change:
            assert self.signal is not None
            return Change.set(heard=self.signal.type, data=data)

    outcome = on_signal(Listens, {}, signal("jido_code.tool.result", {"call_id": "1"}), moment())
    assert outcome.state == {"heard": "procession.tool.result", "data": {"call_id": "1"}}


# -- beginnings, checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.contract("2.2 agent", "2.4 mount")
def test_an_agent_begins_with_its_defaults_its_skills_pieces_and_what_they_mount():
    outcome = begin(Shop, {"paid": 3, "log": {"limit": 5}}, moment())
    assert outcome.state == {"paid": 3, "log": {"lines": ["mounted 2026"], "limit": 5, "fail": ""}}
    assert outcome.directives == (Schedule(1000, "log.tick"),)
    assert apply({}, outcome.ops) == outcome.state
    assert isinstance(outcome.ops[0], ReplaceState)


@pytest.mark.contract("2.4 config schema")
def test_what_a_mount_says_is_under_what_is_given():
    class Has(Agent[Plain]):
        skills = (Mount(Log, "audit", {"limit": 9, "fail": "x"}),)

    given = {"own": [1], "audit": {"limit": 8}}
    assert begin(Has, given, moment()).state == {
        "own": [1],
        "audit": {"lines": ["mounted 2026"], "limit": 8, "fail": "x"},
    }
    assert given == {"own": [1], "audit": {"limit": 8}}


@pytest.mark.contract("2.2 agent", "2.4 config schema")
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"paid": "x"}, "paid: "),
        ({"piad": 1}, "no field piad; did you mean paid"),
        ({"log": {"limit": "x"}}, "limit: "),
        ({"log": 3}, "Shop cannot begin so"),
        ([], "begins with a mapping of its fields, not with a list"),
    ],
)
def test_a_wrong_beginning_is_refused(given, text):
    with pytest.raises(InvalidRequest, match=text) as caught:
        begin(Shop, given, moment())
    assert caught.value.code == "invalid_state"


@pytest.mark.contract("2.4 mount")
def test_a_mount_that_fails_is_an_error():
    with pytest.raises(AgentError, match=r"log\.mount raised RuntimeError"):
        begin(Shop, {"log": {"fail": "mount"}}, moment())


@pytest.mark.contract("2.4 on_checkpoint", "2.4 on_restore")
def test_skills_make_the_state_fit_to_be_kept_and_to_go_on():
    kept = on_checkpoint(Shop, START, moment())
    assert kept.state["log"]["lines"] == []
    again = on_restore(Shop, kept.state, moment())
    assert again.state["log"]["lines"] == ["restored"]
    assert again.directives == (Schedule(1, "log.tick"),)
    assert apply(kept.state, again.ops) == again.state
    assert apply(START, kept.ops) == kept.state


@pytest.mark.contract("2.4 on_checkpoint")
@pytest.mark.parametrize(("run", "phase"), [(on_checkpoint, "on_checkpoint"), (on_restore, "on_restore")])
def test_a_checkpoint_that_fails_is_an_error(run, phase):
    with pytest.raises(AgentError, match=rf"log\.{phase} raised RuntimeError"):
        run(Shop, failing(phase), moment())


# -- skills in an agent ----------------------------------------------------------------------------------------------


class Notes(Skill[Plain]):
    routes: ClassVar = (Route("note.all", "add", parameters={"text": "all"}), Route("note.*", "add", priority=5))
    schedules: ClassVar = (Cron("@hourly", "note.tick", job_id="tick"), Schedule(5))

    @action("note.one")
    def add(self, text: str = "") -> Change:
        return Change((AppendItems(("texts",), (text,)),))


@pytest.mark.contract("2.3 sources of routes", "2.4 skill")
def test_a_skills_actions_routes_and_jobs_are_the_agents_under_its_key():
    class Has(Agent[Plain]):
        skills = (Notes, Mount(Notes, "second"))

    definition = Has.definition
    assert list(definition.actions) == ["notes.add", "second.add"]
    assert {(route.pattern, route.action, route.priority) for route in definition.router.routes} == {
        ("note.one", "notes.add", -10),
        ("note.all", "notes.add", -10),
        ("note.*", "notes.add", 5),
        ("second.note.one", "second.add", -10),
        ("second.note.all", "second.add", -10),
        ("second.note.*", "second.add", 5),
    }
    assert [job.job_id for job in definition.schedules if isinstance(job, Cron)] == ["notes.tick", "second.tick"]


def test_a_skill_that_skips_a_phase_is_not_asked():
    assert [phase for phase in PHASES if overridden(Notes, phase)] == []
    assert [phase for phase in PHASES if overridden(Log, phase)] == list(PHASES)


def test_the_usual_answers_of_the_phases_change_nothing():
    class Quiet(Skill[Plain]):
        pass

    quiet = Quiet({}, moment())
    answers = [
        quiet.mount(),
        quiet.handle_signal(signal("a")),
        quiet.prepare_signal(signal("a")),
        quiet.on_checkpoint(),
    ]
    assert answers == [None] * 4
    assert (quiet.prepare_action([]), quiet.prepare_emit(Emit("a")), quiet.on_restore()) == (None, None, None)
    assert quiet.transform_result(Instruction("a"), [1]) == [1]


@pytest.mark.contract("2.4 skill")
def test_a_skill_writes_inside_its_key_whatever_it_writes():
    outcome = on_signal(Shop, START, signal("order.x"), moment())
    assert all(op.path[0] == "log" for op in outcome.ops)  # type: ignore[union-attr]
    assert outcome.ops == (AppendItems(("log", "lines"), ("order.x [] {'count': 1}",), keep_last=3),)


@pytest.mark.parametrize(
    ("name", "snake"), [("Audit", "audit"), ("FileSystem", "file_system"), ("LLMCalls", "llm_calls"), ("A2", "a2")]
)
def test_a_skill_is_named_after_its_class(name, snake):
    assert snake_case(name) == snake
