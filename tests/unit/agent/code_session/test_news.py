"""What is told of a change of a code session: one row for each kind of change, and bounds for all of them.

That no change of a field goes untold is checked by `Played.do`, after every action of every test.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from helpers.code_session import RECORD, START, Played
from procession.agent_proc.agent.code_session.news import IDS_MAX, TEXT_CHARS_MAX, news
from procession.agent_proc.agent.record.session_record import ACTIONS as RECORD_ACTIONS
from procession.ipc.core.state_ops import AnyOp, DeleteKeys, ReplaceState, apply

CHANGED = "session.state.changed"


def told(session: Played, action: str, **params: Any) -> list[tuple[str, dict[str, Any]]]:
    """Run an action and return what is told of it, without what all of it has."""
    before, change = session.state, session.change(action, **params)
    session.do(action, **params)
    return plain(before, session.state, change.ops)


def plain(before: Any, after: Any, ops: tuple[AnyOp, ...]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for type_, data in news(before, after, ops, "the session"):
        assert data.pop("session_id") == "the session"
        found.append((type_.removeprefix("procession."), data))
    return found


def changed(field: str, change: str, *ids: str, count: int | None = None) -> tuple[str, dict[str, Any]]:
    shown = {"field": field, "change": change, "ids": list(ids), "count": len(ids) if count is None else count}
    return CHANGED, shown


@pytest.fixture
def session() -> Played:
    return Played()


def text(content: str, id: str) -> dict[str, Any]:
    return {"role": "user", "content": content, "id": id}


def todo(id: str) -> dict[str, Any]:
    return {"content": f"do {id}", "id": id}


ITEM = {
    "content": "c",
    "memory_type": "fact",
    "confidence": 0.9,
    "source_type": "tool",
    "id": "p",
    "importance_score": 1,
}
CALL = {"name": "read", "id": "c"}

#: what was done before, the action, and what is told of it
ROWS: dict[str, tuple[list[tuple[str, dict[str, Any]]], str, dict[str, Any], list[Any]]] = {
    "a message before all others": ([], "prepend_message", {"message": text("hi", "m")}, [changed("messages", "added", "m")]),
    "all messages": (
        [], "set_messages", {"messages": [text("a", "m"), text("b", "n")]}, [changed("messages", "replaced", "m", "n")],
    ),
    "no message left": (
        [("append_message", {"message": text("a", "m")})], "clear_messages", {}, [changed("messages", "cleared")],
    ),
    "nothing cleared": ([], "clear_messages", {}, []),
    "a step": ([], "add_reasoning_step", {"step": {"content": "so", "id": "s"}}, [changed("reasoning_steps", "added", "s")]),
    "a call": ([], "add_tool_call", {"tool_call": CALL}, [changed("tool_calls", "added", "c")]),
    "how a call went": (
        [("add_tool_call", {"tool_call": CALL})], "update_tool_call", {"id": "c", "status": "running"},
        [changed("tool_calls", "updated", "c")],
    ),
    "the plan": ([], "update_todos", {"todos": [todo("a"), todo("b")]}, [changed("todos", "replaced", "a", "b")]),
    "a todo more": ([], "add_todo", {"todo": todo("a")}, [changed("todos", "added", "a")]),
    "a todo done": ([("add_todo", {"todo": todo("a")})], "complete_todo", {"id": "a"}, [changed("todos", "updated", "a")]),
    "a todo less": ([("add_todo", {"todo": todo("a")})], "remove_todo", {"id": "a"}, [changed("todos", "removed", "a")]),
    "a prompt": ([], "add_to_prompt_history", {"prompt": "what"}, [changed("prompt_history", "added", count=1)]),
    "all prompts": ([], "set_prompt_history", {"prompts": ["x", "y"]}, [changed("prompt_history", "replaced", count=2)]),
    "a file read": ([], "track_file_read", {"path": "./a"}, [("file.read", {"path": "a", "timestamp": START})]),
    "a file written": ([], "track_file_write", {"path": "a"}, [("file.write", {"path": "a", "timestamp": START})]),
    "files forgotten": ([("track_file_read", {"path": "a"})], "clear_file_tracking", {}, [changed("file_reads", "cleared")]),
    "an item of the context": (
        [], "update_context", {"key": "framework", "value": 1}, [changed("working_context", "updated", "framework")],
    ),
    "the whole context": (
        [], "set_context", {"values": {"framework": 1}}, [changed("working_context", "replaced", "framework")],
    ),
    "a use of the context": (
        [("update_context", {"key": "framework", "value": 1})], "get_context", {"key": "framework"},
        [changed("working_context", "updated", "framework")],
    ),
    "a memory that waits": ([], "add_pending_memory", {"item": ITEM}, [changed("pending_memories", "added", "p")]),
    "a decision": ([], "add_agent_memory_decision", {"item": ITEM}, [changed("pending_memories", "added", "p")]),
    "an access": ([], "record_access", {"key": "framework", "access_type": "read"}, [changed("access_log", "added", count=1)]),
    "a scroll": ([], "set_scroll_offset", {"offset": 3}, [changed("scroll_offset", "set")]),
    "promotion off": ([], "disable_promotion", {}, [changed("promotion_enabled", "set")]),
    "what is told elsewhere": ([], "remember", {"content": "it"}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_is_told_of_a_change(session: Played, name: str) -> None:
    before, action, params, expected = ROWS[name]
    for done, given in before:
        session.do(done, **given)
    session.at = START
    assert told(session, action, **params) == expected


def test_a_message_is_told_as_it_is_kept(session: Played) -> None:
    expected = {"message_id": "m", "role": "user", "timestamp": START, "content": "hi", "is_cut": False}
    assert told(session, "append_message", message=text("hi", "m")) == [("session.message.appended", expected)]


def test_of_a_long_message_the_beginning_is_told(session: Played) -> None:
    ((_, data),) = told(session, "append_message", message=text("é" * (TEXT_CHARS_MAX + 1), "m"))
    assert (data["content"], data["is_cut"]) == ("é" * TEXT_CHARS_MAX, True)
    parts = [{"type": "text", "text": "x" * TEXT_CHARS_MAX}]
    ((_, data),) = told(session, "append_message", message={"role": "user", "content": parts})
    assert (data["content"], data["is_cut"]) == (None, True)
    parts = [{"type": "text", "text": "x"}]
    ((_, data),) = told(session, "append_message", message={"role": "user", "content": parts})
    assert (data["content"], data["is_cut"]) == (parts, False)


def test_an_answer_is_told_piece_by_piece(session: Played) -> None:
    assert told(session, "start_streaming", message_id="m") == [("session.stream.start", {"message_id": "m"})]
    long = "ab" * TEXT_CHARS_MAX
    pieces = told(session, "update_streaming", chunk=long)
    assert [type_ for type_, _ in pieces] == ["session.stream.chunk"] * 2
    assert "".join(data["text"] for _, data in pieces) == long
    assert {data["message_id"] for _, data in pieces} == {"m"}
    assert [type_ for type_, _ in told(session, "end_streaming")] == ["session.stream.end", "session.message.appended"]


def test_an_answer_that_is_dropped_is_told_so(session: Played) -> None:
    session.do("start_streaming", message_id="m")
    session.do("update_streaming", chunk="x")
    assert told(session, "cancel_streaming") == [("session.stream.end", {"message_id": "m", "is_kept": False})]
    assert told(session, "update_streaming", chunk="nobody listens") == []


def test_ids_are_bounded_and_counted(session: Played) -> None:
    ((_, data),) = told(session, "update_todos", todos=[todo(str(number)) for number in range(IDS_MAX + 5)])
    assert (data["ids"], data["count"]) == ([str(number) for number in range(IDS_MAX)], IDS_MAX + 5)


def test_a_promotion_tells_what_it_moved(session: Played) -> None:
    session.do("add_pending_memory", item=ITEM)
    session.do("add_agent_memory_decision", item={**ITEM, "id": "d"})
    session.do("update_context", key="framework", value="x", source="tool")
    found = told(session, "promote")
    assert changed("pending_memories", "removed", "p") in found
    assert changed("pending_memories", "trimmed") in found
    assert changed("promotion_stats", "set") in found


RECORD_NEWS = {
    "rename_session": ({"name": "other"}, [changed("session.name", "set")]),
    "update_language": ({"language": "go"}, [changed("session.language", "set")]),
    "set_connection_status": ({"status": "error"}, [changed("session.connection_status", "set")]),
}


@pytest.mark.parametrize("action", [*RECORD_ACTIONS])
def test_what_is_told_of_the_record(session: Played, action: str) -> None:
    config = {"provider": "a", "model": "m", "temperature": 0.5, "max_tokens": 9}
    record = {**RECORD, "config": config, "language": "python", "connection_status": "connected", "updated_at": START}
    before = {**session.state, "session": record}
    new = {"model": "n", "temperature": 1.0}
    given, expected = RECORD_NEWS.get(
        action, ({"config": new}, [("session.config.updated", {"config": {**config, **new}})])
    )
    later = session.moment.__class__(START + dt.timedelta(seconds=1), session.moment.new_id)
    ops = RECORD_ACTIONS[action](before, later, **given).ops
    assert plain(before, apply(before, ops), ops) == expected


def test_ops_that_no_action_makes_are_told_too(session: Played) -> None:
    state = session.state
    assert plain(state, state, (DeleteKeys(("todos",)),)) == [changed("todos", "removed")]
    assert plain(state, state, (ReplaceState(dict(state)),)) == [changed("*", "replaced")]
