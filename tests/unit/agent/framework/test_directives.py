"""Directives: plain data that say something that can be tried, and cross processes as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.directives import (
    DELAY_MS_MAX,
    DIRECTIVES,
    OUTCOME_DIRECTIVES_MAX,
    AdoptChild,
    CallAgent,
    Cron,
    CronCancel,
    Emit,
    Error,
    Reply,
    RunInstruction,
    RunTool,
    Schedule,
    SpawnAgent,
    Stop,
    StopChild,
    ToChild,
    ToSession,
    completed,
    decode_directives,
    encode_directives,
)
from procession.agent_proc.agent.references import parse_reference
from procession.agent_proc.agent.signals import Signal
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import AgentError, InvalidRequest, ToolTimedOut, to_data
from procession.ipc.core.records import RunReport
from procession.ipc.core.state_ops import SetPath
from procession.ipc.core.values import UnsupportedValue, encode_value

AT = datetime(2026, 3, 1, tzinfo=UTC)
MOMENT = Moment(AT, lambda: "new-id")

words = st.text("abc", min_size=1, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3) | st.just(AT),
    lambda inner: (
        st.lists(inner, max_size=2) | st.lists(inner, max_size=2).map(tuple) | st.dictionaries(words, inner, max_size=2)
    ),
    max_leaves=5,
)
maps = st.dictionaries(words, values, max_size=2)
targets = st.one_of(
    st.sampled_from([None, "subscribers", "self", "parent", "children", "log"]),
    st.builds(ToChild, words),
    st.builds(ToSession, words),
)
errors = st.sampled_from(
    [AgentError("no", code="x"), ToolTimedOut("late", report=RunReport(tool="t", limits_hit=("a", "b")), elapsed_s=1.5)]
).map(to_data)
KINDS = {
    Emit: (words, values, targets, st.none() | words, st.just({"a": 1, "b": True}), words),
    Error: (errors, st.sampled_from(["hook", "instruction"]), words),
    Reply: (words, values),
    RunTool: (words, maps, words, st.just(0.5)),
    RunInstruction: (words, maps, words, maps),
    CallAgent: (st.just("parent") | st.builds(ToSession, words), words, values, words, st.just(2.5), maps, words),
    Schedule: (st.integers(0, DELAY_MS_MAX), words, values),
    Cron: (st.sampled_from(["* * * * *", "@daily"]), words, values, words, st.just("Europe/Berlin")),
    CronCancel: (words,),
    SpawnAgent: (st.just("my_module:Counter"), words, words, maps, maps, st.just("permanent"), st.just("continue")),
    AdoptChild: (words, words, maps),
    StopChild: (words, words),
    Stop: (words,),
}
directives = st.one_of(*(st.builds(kind, *fields) for kind, fields in KINDS.items()))


@pytest.mark.contract("2.2 directives are data")
@given(st.lists(directives, max_size=4))
@settings(max_examples=examples(80), deadline=None)
def test_directives_cross_processes_unchanged(batch):
    wire = encode_directives(batch)
    assert decode_directives(wire) == batch
    assert repr(decode_directives(wire)) == repr(batch)  # tuples stay tuples, and 1 is not True


@pytest.mark.contract("2.2 directives are data")
def test_no_kind_is_missing_above():
    assert set(KINDS) == DIRECTIVES


def call(kind: Any, *arguments: Any, **named: Any) -> Any:
    return lambda: kind(*arguments, **named)


@pytest.mark.contract("2.2 directives are data")
@pytest.mark.parametrize(
    "wrong",
    [
        call(Emit, "a", to="everybody"),
        call(Emit, "a", to=3),
        call(ToChild, ""),
        call(ToSession, "\n"),
        call(Error, "text"),
        call(Error, to_data(AgentError("no")), "somewhere"),
        call(Reply, ""),
        call(RunTool, ""),
        call(RunTool, "x" * 65),
        call(RunTool, "t", [("a", 1)]),
        call(RunTool, "t", timeout_s=0),
        call(RunTool, "t", timeout_s=float("inf")),
        call(RunTool, "t", timeout_s=float("nan")),
        call(RunTool, "t", timeout_s=True),
        call(RunInstruction, ""),
        call(RunInstruction, "a", result_action=""),
        call(RunInstruction, "a", {1: 2}),
        call(RunInstruction, "a", meta=None),
        call(CallAgent, "children", "a"),
        call(CallAgent, ToChild("c"), "a", timeout_s=0),
        call(CallAgent, "parent", "a", result_action=""),
        call(CallAgent, "parent", "a", meta=None),
        call(Schedule, -1),
        call(Schedule, DELAY_MS_MAX + 1),
        call(Schedule, 1.5),
        call(Schedule, True),
        call(Cron, "* * * * *", job_id="a\nb"),
        call(CronCancel, ""),
        call(SpawnAgent, "m:C", ""),
        call(SpawnAgent, "m:C", "t", name="\x00"),
        call(SpawnAgent, "m:C", "t", state=[]),
        call(SpawnAgent, "m:C", "t", meta={1: 2}),
        call(SpawnAgent, "m:C", "t", restart="sometimes"),
        call(SpawnAgent, "m:C", "t", on_parent_death="mourn"),
        call(AdoptChild, "", "t"),
        call(AdoptChild, "c", ""),
        call(AdoptChild, "c", "t", 3),
        call(StopChild, ""),
        call(StopChild, "t", ""),
        call(Stop, ""),
        call(Stop, "x" * 1025),
    ],
)
def test_a_directive_that_says_nothing_is_refused(wrong):
    with pytest.raises(InvalidRequest) as caught:
        wrong()
    assert caught.value.code == "invalid_directive"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda: Emit("a..b"), "invalid_signal_type"),
        (lambda: Emit("a", subject=""), "invalid_signal_subject"),
        (lambda: Emit("a", extensions={"A": 1}), "invalid_signal_extensions"),
        (lambda: Schedule(1, "a b"), "invalid_signal_type"),
        (lambda: Cron("* * * *"), "invalid_cron"),
        (lambda: Cron("* * * * *", type=""), "invalid_signal_type"),
        (lambda: Cron("* * * * *", timezone="../etc"), "invalid_timezone"),
        (lambda: SpawnAgent("Counter", "t"), "invalid_agent_reference"),
    ],
)
def test_what_a_directive_is_made_of_keeps_its_own_code(wrong, code):
    with pytest.raises(InvalidRequest) as caught:
        wrong()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("given", "finished"),
    [
        (Emit("a"), Emit("a", id="new-id")),
        (RunTool("t"), RunTool("t", call_id="new-id")),
        (Cron("@daily"), Cron("@daily", job_id="new-id")),
        (Emit("a", id="mine"), Emit("a", id="mine")),
        (Stop(), Stop()),
    ],
)
def test_an_id_is_filled_in_where_there_is_none(given, finished):
    assert completed(given, MOMENT) == finished


def test_an_emit_becomes_the_signal_that_it_describes():
    emit = Emit("a.b", {"x": 1}, subject="s", extensions={"traceid": "t"}, id="1")
    assert emit.signal("/procession/session/7", AT) == Signal(
        id="1",
        source="/procession/session/7",
        type="a.b",
        time=AT,
        data={"x": 1},
        subject="s",
        extensions={"traceid": "t"},
    )


def test_too_many_directives_and_data_that_do_not_cross_are_refused():
    with pytest.raises(InvalidRequest, match=f"at most {OUTCOME_DIRECTIVES_MAX}"):
        encode_directives([Stop()] * (OUTCOME_DIRECTIVES_MAX + 1))
    with pytest.raises(UnsupportedValue):
        encode_directives([Reply("1", object())])


@pytest.mark.parametrize(
    "rows",
    [
        3,
        [3],
        [["unknown"]],
        [["stop", 3]],
        [["stop", "normal", "more"]],
        [["reply", ""]],
        [["emit", "a..b"]],
        [["stop", "x"]] * (OUTCOME_DIRECTIVES_MAX + 1),
    ],
)
def test_bytes_that_say_nothing_are_a_breach(rows):
    with pytest.raises(ProtocolBreach):
        decode_directives(encode_value(rows))


def test_a_change_is_written_step_by_step():
    change = Change.set(a=1, b=[]).replying(7).asking(Stop()).asking(CronCancel("j"), Stop("late"))
    assert change == Change((SetPath(("a",), 1), SetPath(("b",), [])), 7, (Stop(), CronCancel("j"), Stop("late")))


@pytest.mark.parametrize(
    ("text", "module", "path"),
    [("m:C", "m", ("C",)), ("a.b_c:Outer.Inner", "a.b_c", ("Outer", "Inner")), ("ä:Ö", "ä", ("Ö",))],
)
def test_a_reference_is_a_module_a_colon_and_a_class(text, module, path):
    assert parse_reference(text) == (module, path)
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        ":C",
        "m:",
        "m:C:D",
        "m.:C",
        "m:C.",
        "a-b:C",
        "m:class",
        "m:C()",
        "m: C",
        "../m:C",
        "x" * 600 + ":C",
        None,
        3,
    ],
)
def test_anything_else_is_no_reference(text):
    with pytest.raises(InvalidRequest, match="my_module:Counter") as caught:
        parse_reference(text)
    assert caught.value.code == "invalid_agent_reference"
