"""What signals do to a code session, by our names and by the older ones: a table, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from helpers.code_session import RECORD, START
from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.code_session.state import empty_state
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.outcome import Outcome
from procession.agent_proc.agent.phases import on_signal
from procession.agent_proc.agent.signals import Signal
from procession.ipc.core.errors import InvalidRequest

MOMENT = Moment(START, lambda: "new")
CONFIG = {"provider": "a", "model": "m", "temperature": 0.5, "max_tokens": 9}
STATE: Mapping[str, Any] = {
    **empty_state(),
    "session": {
        **RECORD, "config": CONFIG, "language": "python", "connection_status": "disconnected", "updated_at": START,
    },
}  # fmt: skip
MINE = RECORD["id"]

Steps = list[tuple[str, dict[str, Any]]]
CALL: tuple[str, dict[str, Any]] = (
    "procession.tool.call",
    {"tool_name": "read", "params": {"path": "a"}, "call_id": "c"},
)
MEMORY: tuple[str, dict[str, Any]] = ("procession.memory.store", {"content": "it", "memory_id": "k"})


def give(state: Mapping[str, Any], type_: str, data: object) -> Outcome:
    signal = Signal(id="s", source="/tests", type=type_, data=data)
    return on_signal(CodeSessionAgent, state, signal, MOMENT, is_call=True)


def play(*steps: tuple[str, object]) -> tuple[Mapping[str, Any], Any]:
    """Give a new session these signals; return its state, and what the last came to."""
    state, answer = STATE, None
    for type_, data in steps:
        outcome = give(state, type_, data)
        state, answer = outcome.state, outcome.result()
    return state, answer


#: the types, what was told before, the data, where to look, and what is there then
ROWS: list[tuple[tuple[str, ...], Steps, dict[str, Any], tuple[Any, ...], Any]] = [
    (
        ("procession.session.message", "procession.session.message.appended",
         "jido_code.session.message", "jido_code.message.append"),
        [],
        {"message_id": "m", "role": "user", "content": "hi", "timestamp": START, "mood": "good", "session_id": MINE},
        ("messages",),
        [{"id": "m", "role": "user", "content": "hi", "timestamp": START, "metadata": {"mood": "good"}}],
    ),
    (("procession.session.todos.update",), [], {"todos": [{"content": "x"}]}, ("todos", 0, "content"), "x"),
    (
        ("procession.session.config.update", "procession.session.config.updated", "jido_code.session.config"),
        [], {"config": {"model": "n"}, "session_id": MINE}, ("session", "config"), {**CONFIG, "model": "n"},
    ),
    (("procession.session.language.update",), [], {"language": "rs"}, ("session", "language"), "rust"),
    (("procession.session.rename",), [], {"name": "other"}, ("session", "name"), "other"),
    (
        ("procession.session.state.update", "procession.session.state.changed",
         "jido_code.session.state_changed", "jido_code.state.change"),
        [], {"field": "scroll_offset", "old_value": 0, "new_value": 7}, ("scroll_offset",), 7,
    ),
    (
        ("procession.tool.call", "jido_code.tool.call"),
        [], CALL[1], ("tool_calls", 0, "status"), "pending",
    ),
    (
        ("procession.tool.result", "jido_code.tool.result"),
        [CALL], {"call_id": "c", "tool_name": "read", "result": [1], "duration_ms": 5}, ("tool_calls", 0, "result"), [1],
    ),
    (
        ("procession.tool.error", "jido_code.tool.error"),
        [CALL], {"call_id": "c", "tool_name": "read", "reason": "gone"}, ("tool_calls", 0, "error"), "gone",
    ),
    (
        ("procession.file.read", "jido_code.file.read"),
        [], {"path": "./a", "size": 3, "lines": 1, "session_id": MINE}, ("file_reads",), {"a": START},
    ),
    (("procession.file.write", "jido_code.file.write"), [], {"path": "a", "size": 3}, ("file_writes",), {"a": START}),
    (
        ("procession.memory.store", "procession.memory.stored", "jido_code.memory.stored"),
        [], {"memory_id": "k", "content": "it", "memory_type": "risk", "session_id": MINE},
        ("memories", "k", "confidence"), 0.5,
    ),
    (
        ("procession.memory.forget", "procession.memory.forgotten", "jido_code.memory.forgotten"),
        [MEMORY], {"memory_id": "k", "reason": "wrong"}, ("memories", "k", "forget_reason"), "wrong",
    ),
]  # fmt: skip


@pytest.mark.contract("4.4 signals")
@pytest.mark.contract("2.3 legacy names")
@pytest.mark.parametrize(
    ("type_", "before", "data", "where", "expected"),
    [pytest.param(type_, *row[1:], id=type_) for row in ROWS for type_ in row[0]],
)
def test_a_signal_runs_its_action(type_: str, before: Steps, data: Any, where: tuple[Any, ...], expected: Any) -> None:
    found, _ = play(*before, (type_, data))
    here: Any = found
    for key in where:
        here = here[key]
    assert here == expected


@pytest.mark.parametrize(
    "type_", ["jido_code.file.list", "jido_code.memory.recalled", "jido_code.memory.promoted", "procession.file.list"]
)
def test_what_is_only_told_changes_nothing_and_is_no_mistake(type_: str) -> None:
    data = {"path": ".", "entries": ["a"], "count": 1, "session_id": MINE}
    outcome = give(STATE, type_, data)
    assert (outcome.state, outcome.result(), outcome.directives) == (STATE, None, ())


def test_every_route_is_in_the_table() -> None:
    only_told = {"procession.file.list", "procession.memory.recalled", "procession.memory.promoted"}
    routes = {route.pattern for route in CodeSessionAgent.definition.router.routes}
    assert routes == {type_ for row in ROWS for type_ in row[0] if type_.startswith("procession.")} | only_told


def test_the_answer_is_the_action_s() -> None:
    _, message = play(("procession.session.message", {"role": "user", "content": "hi"}))
    assert (message["id"], message["content"]) == ("new", "hi")


@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        ({"code": "timeout", "message": "too slow", "ran": "yes"}, "timeout", "timeout: too slow"),
        ({"code": "no_file", "message": "no"}, "error", "no_file: no"),
        (None, "error", None),
    ],
)
def test_a_failure_is_told_by_a_text_or_as_ours_tell_it(reason: object, status: str, error: str | None) -> None:
    _, call = play(CALL, ("procession.tool.error", {"call_id": "c", "reason": reason}))
    assert (call["status"], call["error"]) == (status, error)


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("messages", [], ("messages",)),
        ("todos", [], ("todos",)),
        ("prompt_history", ["a"], ("prompt_history",)),
        ("working_context", {}, ("working_context", "items")),
        ("promotion_interval_ms", 9, ("promotion_interval_ms",)),
        ("name", "n", ("session", "name")),
        ("config", CONFIG, ("session", "config")),
        ("language", "go", ("session", "language")),
        ("connection_status", "error", ("session", "connection_status")),
    ],
)
def test_a_field_is_given_another_value(field: str, value: Any, where: tuple[str, ...]) -> None:
    found: Any
    found, _ = play(("procession.session.state.update", {"field": field, "new_value": value}))
    for key in where:
        found = found[key]
    assert found == value


@pytest.mark.parametrize(
    ("type_", "data", "code"),
    [
        ("procession.session.message", {"role": "nobody", "content": "x"}, "invalid_message"),
        ("procession.session.message", {"role": "user", "content": "x", "session_id": "another"}, "wrong_session"),
        ("procession.session.message", ["x"], "invalid_signal_data"),
        ("procession.session.todos.update", {}, "missing_parameter"),
        ("procession.file.read", {"path": "a", "shape": 3}, "unknown_parameter"),
        ("procession.session.state.update", {"field": "messagess", "new_value": []}, "invalid_field"),
        ("procession.session.state.update", {"field": ["todos"], "new_value": []}, "invalid_field"),
        ("procession.session.state.update", {"field": "todos", "new_value": 3}, "invalid_todo"),
        ("procession.tool.result", {"call_id": "nobody"}, "tool_call_not_found"),
        ("procession.session.crashed", {"role": "user", "content": "x"}, "no_route"),
        ("jido_code.session.nothing", {}, "no_route"),
    ],
)
def test_what_is_refused_changes_nothing(type_: str, data: object, code: str) -> None:
    outcome = give(STATE, type_, data)
    with pytest.raises(InvalidRequest) as caught:
        outcome.result()
    assert (caught.value.code, outcome.state, outcome.ops) == (code, STATE, ())


def test_routes_leave_an_action_its_short_way() -> None:
    assert CodeSessionAgent.definition.is_bare
