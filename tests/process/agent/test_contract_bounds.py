"""Contract 1.1 and 1.2: what a session keeps at most, how long a call waits, and what no argument can be."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Callable
from typing import Any

import pytest

from helpers.hosts import pid_of
from procession import CallTimedOut, ExpiredInQueue, InvalidRequest, MessageTooLarge, ProcessionError, Session

pytestmark = pytest.mark.process

LARGE = "x" * 4_000_000  # as long as one message may be, nearly


# --- bounds -----------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.1 file_writes")
def test_the_last_thousand_writes_are_kept_and_a_repeated_one_counts_as_new(chat: Session) -> None:
    for number in range(1000):
        chat.files.track_write(f"{number}.py")
    chat.files.track_write("0.py")
    chat.files.track_write("new.py")
    writes = chat.query_state("file_writes")
    assert (len(writes), "0.py" in writes, "1.py" in writes, list(writes)[-1]) == (1000, True, False, "new.py")
    assert chat.query_state("file_reads") == {}


@pytest.mark.contract("1.1 access_log")
def test_the_last_thousand_uses_are_kept(chat: Session) -> None:
    chat.memory.record_access("framework")
    for _ in range(1000):
        chat.memory.record_access("user_intent", "write")
    assert len(chat.query_state("access_log")) == 1000
    assert chat.memory.access_stats("framework").frequency == 0
    stats = chat.memory.access_stats("user_intent")
    assert (stats.frequency, stats.recency) == (1000, chat.query_state("access_log")[-1]["timestamp"])


@pytest.mark.contract("1.1 pending_memories", "1.3 add_pending_memory")
def test_of_more_than_five_hundred_memories_the_least_important_goes_even_the_new_one(chat: Session) -> None:
    chat.memory.disable_promotion()
    chat.memory.add("least", "fact", 0.9, "tool", importance_score=0.61, id="least")
    for number in range(499):
        chat.memory.add("x", "fact", 0.9, "tool", importance_score=0.7, id=str(number))
    assert [memory.id for memory in chat.memory.pending()][-1] == "least"
    chat.memory.add("more", "fact", 0.9, "tool", importance_score=0.65, id="more")
    kept = {memory.id for memory in chat.memory.pending()}
    assert (len(kept), "least" in kept, "more" in kept) == (500, False, True)
    assert chat.memory.add("too little", "fact", 0.9, "tool", importance_score=0.62, id="little") is None
    assert {memory.id for memory in chat.memory.pending()} == kept


@pytest.mark.contract("1.1 pending_memories", "1.3 add_agent_memory_decision")
def test_the_last_hundred_decisions_are_kept(chat: Session) -> None:
    chat.memory.disable_promotion()
    for number in range(101):
        chat.memory.decide("x", "decision", 0.9, "agent", id=str(number))
    assert [memory.id for memory in chat.memory.pending()] == [str(number) for number in range(1, 101)]


@pytest.mark.contract("1.1 todos", "1.3 update_todos")
def test_a_plan_has_at_most_a_thousand_todos_and_is_not_cut(chat: Session) -> None:
    plan = [{"content": str(number)} for number in range(1000)]
    chat.update_todos(plan)
    for adding in (lambda: chat.update_todos([*plan, {"content": "x"}]), lambda: chat.add_todo("x")):
        with pytest.raises(InvalidRequest) as caught:
            adding()
        assert caught.value.code == "too_many_todos"
    assert [todo.content for todo in chat.get_todos()] == [str(number) for number in range(1000)]


@pytest.mark.contract("1.3 update_todos")
def test_two_todos_of_one_plan_have_two_ids(chat: Session) -> None:
    chat.add_todo("x", id="1")
    for adding in (lambda: chat.add_todo("y", id="1"), lambda: chat.update_todos([{"content": "y", "id": "2"}] * 2)):
        with pytest.raises(InvalidRequest) as caught:
            adding()
        assert caught.value.code == "duplicate_todo"
    assert [todo.content for todo in chat.get_todos()] == ["x"]


@pytest.mark.contract("1.1 messages")
def test_a_full_conversation_has_no_room_before_its_beginning(chat: Session) -> None:
    chat.append_message("user", "first")
    assert chat.prepend_message("system", "before it").content == "before it"
    assert [message.content for message in chat.get_messages()] == ["before it", "first"]
    chat.set_messages([{"role": "user", "content": str(number)} for number in range(1000)])
    with pytest.raises(InvalidRequest) as caught:
        chat.prepend_message("system", "no room")
    assert caught.value.code == "messages_full"
    assert chat.get_message_page(0, 1).messages[0].content == "0"


@pytest.mark.contract("0.3 caps hold everywhere", "1.1 byte budgets")
def test_a_state_has_at_most_64_mebibytes_and_what_was_there_stays(chat: Session) -> None:
    for _ in range(16):
        chat.append_message("user", LARGE, timeout=20)
    with pytest.raises(MessageTooLarge) as caught:
        chat.append_message("user", LARGE, timeout=20)
    assert (caught.value.code, caught.value.ran) == ("state_too_large", "no")
    assert "messages" in caught.value.hint
    assert chat.get_message_page(15, 1, timeout=20).total == 16
    chat.clear_messages()
    chat.append_message("user", LARGE, timeout=20)
    chat.clear_messages()


@pytest.mark.contract("0.3 caps hold everywhere", "1.3 update_streaming")
def test_a_streamed_answer_is_no_larger_than_a_message_may_be(chat: Session) -> None:
    chat.streaming.start()
    chat.streaming.update(LARGE, timeout=20)
    with pytest.raises(MessageTooLarge) as caught:
        chat.streaming.update(LARGE, timeout=20)
    assert caught.value.code == "message_too_large"
    assert len(str(chat.streaming.end(timeout=20).content)) == len(LARGE)
    chat.clear_messages()


# --- calls ------------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.2 deadlines")
def test_a_call_of_a_session_that_does_not_answer_ends_at_its_deadline(chat: Session) -> None:
    os.kill(pid_of(chat), signal.SIGSTOP)
    try:
        for call in (lambda: chat.get_state(timeout=0.2), lambda: chat.append_message("user", "x", timeout=0.2)):
            with pytest.raises(ProcessionError) as caught:
                call()
            assert isinstance(caught.value, CallTimedOut | ExpiredInQueue)
            assert caught.value.session == chat.id
    finally:
        os.kill(pid_of(chat), signal.SIGCONT)
    assert chat.append_message("user", "it goes on").content == "it goes on"


@pytest.mark.contract("1.2 deadlines")
@pytest.mark.parametrize("timeout", [0, -1, None, "5", True, float("nan"), float("inf")])
def test_every_call_has_a_deadline_and_it_is_a_number_of_seconds(chat: Session, timeout: Any) -> None:
    for call in (chat.get_state, chat.clear_messages, chat.memory.pending, chat.streaming.end, chat.context.all):
        with pytest.raises(InvalidRequest) as caught:
            call(timeout=timeout)
        assert caught.value.code == "invalid_timeout"


#: A verb that is given what it cannot be given, and what that is called.
WRONG: list[tuple[Callable[[Any], object], str]] = [
    (lambda s: s.append_message(None), "invalid_message"),
    (lambda s: s.append_message("user", b"x"), "invalid_message"),
    (lambda s: s.append_message("user", {"type": "text"}), "invalid_message"),
    (lambda s: s.append_message("user", object()), "not_plain_data"),
    (lambda s: s.set_messages({}), "invalid_message"),
    (lambda s: s.set_messages(3), "invalid_message"),
    (lambda s: s.get_messages("0"), "invalid_page"),
    (lambda s: s.get_messages(True), "invalid_page"),
    (lambda s: s.streaming.start(3), "invalid_stream"),
    (lambda s: s.streaming.update(3), "invalid_stream"),
    (lambda s: s.add_reasoning_step(None), "invalid_reasoning_step"),
    (lambda s: s.add_tool_call(3), "invalid_tool_call"),
    (lambda s: s.add_tool_call("x", 3), "invalid_tool_call"),
    (lambda s: s.update_tool_call(3, "running"), "invalid_tool_call"),
    (lambda s: s.update_todos(3), "invalid_todo"),
    (lambda s: s.add_todo(3), "invalid_todo"),
    (lambda s: s.remove_todo(3), "invalid_todo"),
    (lambda s: s.prompts.set("abc"), "invalid_prompt"),
    (lambda s: s.prompts.set([3]), "invalid_prompt"),
    (lambda s: s.files.track_read(3), "invalid_path"),
    (lambda s: s.files.was_read(None), "invalid_path"),
    (lambda s: s.context.get(3), "invalid_context_key"),
    (lambda s: s.context.set_many(3), "invalid_context"),
    (lambda s: s.context.set("framework", 1, source="gossip"), "invalid_context"),
    (lambda s: s.context.set("framework", 1, confidence="high"), "invalid_context"),
    (lambda s: s.memory.add(3, "fact", 0.9, "tool"), "invalid_memory"),
    (lambda s: s.memory.clear_promoted("ab"), "invalid_memory"),
    (lambda s: s.memory.record_access(3), "invalid_access"),
    (lambda s: s.memory.access_stats(("memory",)), "invalid_access"),
    (lambda s: s.memory.set_promotion_interval("1"), "invalid_interval"),
    (lambda s: s.memory.candidates(2), "invalid_promotion"),
    (lambda s: s.rename(3), "invalid_name"),
    (lambda s: s.set_config([]), "invalid_config"),
    (lambda s: s.set_language(3), "invalid_language"),
    (lambda s: s.set_connection_status(3), "invalid_connection_status"),
    (lambda s: s.query_state(3), "invalid_path"),
]


@pytest.mark.contract("1.2 wrong types", "0.1 elements are validated")
def test_what_no_argument_can_be_is_refused_by_name_and_the_session_lives(chat: Session) -> None:
    before = chat.get_state()
    for work, code in WRONG:
        with pytest.raises(InvalidRequest) as caught:
            work(chat)
        assert (caught.value.code, caught.value.ran, caught.value.session) in (
            (code, "no", chat.id),
            (code, "no", None),  # refused before anything was sent
        ), str(caught.value)
    assert chat.get_state() == before
    assert (chat.status().incarnation, chat.status().restarts) == (1, 0)


@pytest.mark.contract("1.2 wrong types")
def test_any_mapping_and_any_iterable_will_do_and_what_was_read_can_be_given_back(chat: Session) -> None:
    chat.set_config(types.MappingProxyType({"model": "m"}))
    chat.context.set_many(types.MappingProxyType({"framework": "x"}))
    chat.append_message("user", ({"type": "text", "text": "a"},), tool_calls=({"id": "1"},))
    chat.append_message("assistant", None, tool_calls=[{"id": "2"}], mood={"now": {1, 2}})
    assert chat.set_messages(message for message in chat.get_messages()) == chat.get_messages()
    assert [message.metadata for message in chat.get_messages()] == [{}, {"mood": {"now": {1, 2}}}]
    chat.update_todos({"content": str(number)} for number in range(3))
    assert chat.update_todos(chat.get_todos()[::-1]) == chat.get_todos()
    assert [todo.content for todo in chat.get_todos()] == ["2", "1", "0"]


@pytest.mark.contract("1.2 wrong types")
def test_what_is_read_is_a_copy(chat: Session) -> None:
    chat.append_message("user", "x", tags=["a"])
    chat.get_state()["messages"].clear()
    chat.get_messages()[0].metadata["tags"].append("b")
    assert chat.get_messages()[0].metadata == {"tags": ["a"]}


@pytest.mark.contract("1.3 get_state")
def test_one_place_of_the_state_can_be_asked_for(chat: Session) -> None:
    assert chat.query_state("working_context.max_tokens") == chat.query_state(["working_context", "max_tokens"])
    assert chat.query_state("session.name") == chat.get_session().name
    assert chat.query_state("session.nothing", None) is None
    for path in ("nothing", "session.name.first", "session.nothing", ""):
        with pytest.raises(InvalidRequest) as caught:
            chat.query_state(path)
        assert caught.value.code == "path_not_found"
