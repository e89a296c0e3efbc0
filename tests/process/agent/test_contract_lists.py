"""Contract 1.1 and 1.3: messages, reasoning steps, tool calls, todos and prompts, through the Session API and a real process."""

from __future__ import annotations

import datetime as dt

import pytest

from procession import Host, InvalidRequest, MessageTooLarge, Session, SessionNotFound

pytestmark = pytest.mark.process


def refused(code: str, work, *args, **kwargs) -> InvalidRequest:
    with pytest.raises((InvalidRequest, MessageTooLarge)) as caught:
        work(*args, **kwargs)
    assert (caught.value.code, caught.value.ran) == (code, "no")
    return caught.value  # type: ignore[return-value]


# --- the state --------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 start_link", "1.3 get_state", "1.1 fields")
def test_a_session_begins_empty(chat: Session) -> None:
    state = chat.get_state()
    for name in ("messages", "reasoning_steps", "tool_calls", "todos", "prompt_history", "access_log"):
        assert state[name] == []
    assert (state["streaming_message"], state["streaming_message_id"], state["is_streaming"]) == (None, None, False)
    assert (state["scroll_offset"], state["file_reads"], state["file_writes"]) == (0, {}, {})
    assert state["working_context"] == {"items": {}, "current_tokens": 0, "max_tokens": 12000}
    assert (state["promotion_enabled"], state["promotion_interval_ms"]) == (True, 30000)
    assert state["promotion_stats"] == {"last_run": None, "total_promoted": 0, "runs": 0}
    assert state["session_id"] == chat.id == state["session"]["id"]


@pytest.mark.contract("1.2 unknown id")
@pytest.mark.parametrize(
    "verb", ["get_state", "get_messages", "get_todos", "clear_messages", "get_session", "agent_status"]
)
def test_an_unknown_session_is_not_found(contract_host: Host, verb: str) -> None:
    session = contract_host.start_session()
    contract_host.remove_session(session.id)
    with pytest.raises(SessionNotFound) as caught:
        getattr(session, verb)()
    assert caught.value.code == "not_found"
    with pytest.raises(SessionNotFound):
        session.prompts.add("  ")  # for blank text too
    with pytest.raises(SessionNotFound):
        session.streaming.update("x")


# --- messages ---------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 append_message", "1.3 get_messages/1")
def test_messages_are_kept_in_the_order_in_which_they_came(chat: Session) -> None:
    first = chat.append_message("user", "one")
    chat.append_message("assistant", "two", id="second", mood="good")
    chat.append_message("tool", [{"type": "text", "text": "three"}])
    found = chat.get_messages()
    assert [message.content for message in found] == ["one", "two", [{"type": "text", "text": "three"}]]
    assert found[0] == first
    assert (found[1].id, found[1].metadata) == ("second", {"mood": "good"})
    assert (first.timestamp.utcoffset(), len(first.id)) == (dt.timedelta(0), 36)
    assert chat.append_message("assistant", None, tool_calls=[{"id": "1"}]).tool_calls == [{"id": "1"}]


@pytest.mark.contract("0.1 elements are validated", "1.3 append_message")
@pytest.mark.parametrize(
    ("role", "content", "more"),
    [
        ("nobody", "x", {}), ("user", None, {}), ("user", 3, {}), ("user", ["text"], {}), ("user", "x", {"id": ""}),
        ("user", "x", {"timestamp": "yesterday"}), ("user", "x", {"tool_calls": "none"}),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_and_changes_nothing(chat: Session, role, content, more) -> None:
    refused("invalid_message", chat.append_message, role, content, **more)
    assert chat.get_messages() == []


@pytest.mark.contract("1.3 append_message", "1.1 messages", "1.1 constants")
def test_the_newest_thousand_messages_are_kept(chat: Session) -> None:
    chat.set_messages([{"role": "user", "content": str(number)} for number in range(1001)])
    chat.append_message("user", "1001")
    found = chat.get_messages()
    assert (len(found), found[0].content, found[-1].content) == (1000, "2", "1001")


@pytest.mark.contract("0.3 caps hold everywhere", "1.3 append_message")
def test_a_message_of_more_than_four_mebibytes_is_refused(chat: Session) -> None:
    refused("message_too_large", chat.append_message, "user", "x" * ((4 << 20) + 1))
    assert len(chat.append_message("user", "x" * (4_100_000)).content or "") == 4_100_000


@pytest.mark.contract("1.3 get_messages/3")
def test_a_page_says_where_it_lies(chat: Session) -> None:
    chat.set_messages([{"role": "user", "content": str(number)} for number in range(10)])
    first, last = chat.get_message_page(0, 5), chat.get_message_page(5, 5)
    assert ([m.content for m in first.messages], first.has_more, first.total) == (list("01234"), True, 10)
    assert ([m.content for m in last.messages], last.has_more, last.returned) == (list("56789"), False, 5)
    beyond = chat.get_message_page(99, 5)
    assert (beyond.messages, beyond.has_more, beyond.returned) == ((), False, 0)
    assert (chat.get_message_page().limit, len(chat.get_messages(8)), len(chat.get_messages(limit=3))) == (10, 2, 3)


@pytest.mark.contract("1.3 get_messages/3")
def test_a_page_of_nothing(chat: Session) -> None:
    page = chat.get_message_page(0, 10)
    assert (page.limit, page.returned, page.total, page.has_more, page.messages) == (10, 0, 0, False, ())
    for offset, limit in ((-1, 1), (0, 0), (0, -1), ("0", 1), (0, "all")):
        refused("invalid_page", chat.get_message_page, offset, limit)


@pytest.mark.contract("1.3 clear_messages")
def test_messages_can_be_cleared(chat: Session) -> None:
    chat.append_message("user", "x")
    assert chat.clear_messages() is None  # type: ignore[func-returns-value]
    assert chat.get_messages() == []
    chat.append_message("user", "y")
    assert [m.content for m in chat.get_messages()] == ["y"]


# --- streaming --------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 start_streaming", "1.3 update_streaming", "1.3 end_streaming")
def test_a_streamed_answer_becomes_a_message(chat: Session) -> None:
    assert chat.streaming.start("m1") == "m1"
    assert (chat.query_state("is_streaming"), chat.query_state("streaming_message")) == (True, "")
    chat.streaming.update("Hello")
    chat.streaming.update(" World")
    assert chat.query_state("streaming_message") == "Hello World"
    message = chat.streaming.end()
    assert (message.id, message.role, message.content) == ("m1", "assistant", "Hello World")
    assert chat.get_messages() == [message]
    assert (chat.query_state("is_streaming"), chat.query_state("streaming_message_id")) == (False, None)


@pytest.mark.contract("1.3 start_streaming", "1.3 update_streaming", "1.3 end_streaming")
def test_what_goes_wrong_with_streaming_is_told(chat: Session) -> None:
    chat.streaming.update("ignored without an answer")
    refused("not_streaming", chat.streaming.end)
    refused("not_streaming", chat.streaming.cancel)
    chat.streaming.start("m1")
    refused("already_streaming", chat.streaming.start, "m2")
    chat.streaming.update("kept")
    assert chat.streaming.cancel() == "kept"
    assert chat.get_messages() == []
    chat.streaming.start()
    assert chat.streaming.end().content == ""


@pytest.mark.contract("1.3 end_streaming", "0.3 caps hold everywhere")
def test_the_end_of_a_stream_keeps_the_bound(chat: Session) -> None:
    chat.set_messages([{"role": "user", "content": str(number)} for number in range(1000)])
    chat.streaming.start()
    chat.streaming.end()
    assert (len(chat.get_messages()), chat.get_messages()[0].content) == (1000, "1")


# --- reasoning, tool calls, todos -------------------------------------------------------------------------------------
@pytest.mark.contract(
    "1.3 add_reasoning_step", "1.3 get_reasoning_steps", "1.3 clear_reasoning_steps", "1.1 reasoning_steps"
)
def test_the_last_hundred_steps_of_reasoning_are_kept(chat: Session) -> None:
    for number in range(102):
        chat.add_reasoning_step(str(number), type="plan")
    steps = chat.get_reasoning_steps()
    assert (len(steps), steps[0].content, steps[-1].content, steps[-1].metadata) == (100, "2", "101", {"type": "plan"})
    chat.clear_reasoning_steps()
    assert chat.get_reasoning_steps() == []
    refused("invalid_reasoning_step", chat.add_reasoning_step, 3)


@pytest.mark.contract("1.3 add_tool_call", "1.3 get_tool_calls", "0.9 tool calls have a life")
def test_a_tool_call_has_a_life(chat: Session) -> None:
    call = chat.add_tool_call("read_file", {"path": "a.py"}, id="c1")
    assert (call.status, call.result, call.arguments) == ("pending", None, {"path": "a.py"})
    running = chat.update_tool_call("c1", "running")
    assert (running.status, running.started_at is not None) == ("running", True)
    done = chat.update_tool_call("c1", "completed", result={"lines": 3})
    assert (done.status, done.result) == ("completed", {"lines": 3})
    assert done.ended_at is not None
    assert done.duration_ms is not None
    assert chat.get_tool_calls() == [done]
    refused("tool_call_not_found", chat.update_tool_call, "c2", "completed")
    refused("invalid_tool_call", chat.add_tool_call, "")
    chat.clear_tool_calls()
    assert chat.get_tool_calls() == []


@pytest.mark.contract("1.3 add_tool_call", "1.1 tool_calls")
def test_the_last_five_hundred_tool_calls_are_kept(chat: Session) -> None:
    for number in range(502):
        chat.add_tool_call(f"tool_{number}")
    calls = chat.get_tool_calls()
    assert (len(calls), calls[0].name, calls[-1].name) == (500, "tool_2", "tool_501")


@pytest.mark.contract("1.3 update_todos", "1.3 get_todos", "1.1 todos")
def test_todos_are_replaced_as_a_whole_in_the_given_order(chat: Session) -> None:
    chat.update_todos([{"content": "b"}, {"content": "a", "status": "in_progress", "id": "1"}])
    assert [(todo.content, todo.status) for todo in chat.get_todos()] == [("b", "pending"), ("a", "in_progress")]
    assert chat.update_todos(chat.get_todos()[1:])[0].id == "1"
    assert chat.update_todos([]) == []
    for bad in ([{"status": "pending"}], [{"content": "x", "status": "soon"}], ["x"]):
        refused("invalid_todo", chat.update_todos, bad)
    assert chat.get_todos() == []


@pytest.mark.contract("1.3 update_todos")
def test_single_todos_can_be_added_changed_and_dropped(chat: Session) -> None:
    todo = chat.add_todo("first")
    assert chat.update_todo(todo.id, content="second", status="in_progress").content == "second"
    assert chat.complete_todo(todo.id).status == "completed"
    chat.remove_todo(todo.id)
    assert chat.get_todos() == []
    refused("todo_not_found", chat.complete_todo, todo.id)


# --- prompts, scroll offset -------------------------------------------------------------------------------------------
@pytest.mark.contract(
    "1.3 get_prompt_history", "1.3 add_to_prompt_history", "1.3 set_prompt_history", "1.1 prompt_history"
)
def test_prompts_are_newest_first(chat: Session) -> None:
    assert chat.prompts.add("one") == ["one"]
    assert chat.prompts.add(" two ") == [" two ", "one"]
    assert chat.prompts.add("one") == ["one", " two ", "one"]  # duplicates are kept
    assert chat.prompts.add("   ") == ["one", " two ", "one"]  # blank ones are not
    assert chat.prompts.set([str(number) for number in range(120)]) == [str(number) for number in range(100)]
    assert chat.prompts.add("new")[:2] == ["new", "0"]
    assert len(chat.prompts.get()) == 100
    refused("invalid_prompt", chat.prompts.add, 3)


@pytest.mark.contract("1.3 set_scroll_offset")
def test_the_scroll_offset_is_set_and_overwritten(chat: Session) -> None:
    chat.set_scroll_offset(10)
    chat.set_scroll_offset(3)
    assert chat.query_state("scroll_offset") == 3
    for bad in (-1, 1.5, "3", True):
        refused("invalid_scroll_offset", chat.set_scroll_offset, bad)
