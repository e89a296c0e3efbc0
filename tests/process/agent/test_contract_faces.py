"""Contract 4.4: the Session API on all four faces, one test for each family of verbs, and the verbs that do not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import Counter
from helpers.four_faces import FACES, play
from procession import (
    AgentError,
    CallTimedOut,
    Host,
    InvalidRequest,
    MessageTooLarge,
    NotDelivered,
    Sandbox,
    Session,
    SessionNotFound,
)

pytestmark = pytest.mark.process

Scenario = Callable[[Any], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(params=FACES)
def on_face(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    """Play a scenario on one of the four faces."""
    return lambda scenario: play(request.param, tmp_path, scenario)


async def refused(code: str, work: Callable[..., Any], *args: object, **given: object) -> None:
    with pytest.raises(NotDelivered) as caught:
        await work(*args, **given)
    assert caught.value.code == code


@pytest.mark.contract("4.4 every face")
def test_the_conversation_and_its_lists(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        message = await s.append_message("user", "hi", mood="good")
        assert (message.content, message.metadata) == ("hi", {"mood": "good"})
        await s.prepend_message("system", "first")
        assert [one.content for one in await s.get_messages()] == ["first", "hi"]
        assert (await s.get_message_page(1, 1)).messages == (message,)
        await s.set_messages([message])
        await refused("invalid_message", s.append_message, "nobody", "x")
        with pytest.raises(MessageTooLarge):
            await s.append_message("user", "x" * (5 << 20), timeout=20)
        assert await s.clear_messages() is None
        step = await s.add_reasoning_step("because", type="plan")
        assert await s.get_reasoning_steps() == [step]
        await s.clear_reasoning_steps()
        call = await s.add_tool_call("read_file", {"path": "a"})
        ended = await s.update_tool_call(call.id, "error", error="gone", duration_ms=7)
        assert (ended.status, ended.duration_ms) == ("error", 7)
        assert await s.get_tool_calls() == [ended]
        await s.clear_tool_calls()
        todo = await s.add_todo("one")
        assert await s.update_todos([todo, {"content": "two"}]) == await s.get_todos()
        assert (await s.update_todo(todo.id, content="1")).content == "1"
        assert (await s.complete_todo(todo.id)).status == "completed"
        await s.remove_todo(todo.id)
        await refused("todo_not_found", s.complete_todo, todo.id)
        await s.set_scroll_offset(3)
        state = await s.get_state()
        assert (state["scroll_offset"], len(state["todos"]), state["messages"]) == (3, 1, [])
        assert await s.committed_state() == state

    on_face(scenario)


@pytest.mark.contract("4.4 every face")
def test_the_record(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session(name="before", language="rs", config={"temperature": 1})
        assert (await s.rename("after")).name == "after"
        assert (await s.set_config({"model": "m"})).config["temperature"] == 1
        assert (await s.set_language("js")).language == "javascript"
        assert (await s.set_connection_status("error")).connection_status == "error"
        record = await s.get_session()
        assert (record.id, record.name, record.config["model"]) == (s.id, "after", "m")
        assert (await s.status()).name == "after"
        await refused("name_too_long", s.rename, "x" * 51)
        await refused("invalid_language", s.set_language, "cobol")

    on_face(scenario)


@pytest.mark.contract("4.4 every face")
def test_the_namespaces(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        assert (await s.context.set("framework", "x", source="tool")).suggested_type == "fact"
        assert await s.context.get("framework") == "x"
        assert (await s.context.item("framework")).access_count == 2
        await s.context.set_many({"user_intent": None})
        assert await s.context.all() == {"user_intent": None}
        await s.context.clear()
        await refused("key_not_found", s.context.get, "framework")

        await s.memory.disable_promotion()
        added = await s.memory.add("a", "fact", 0.9, "tool", importance_score=0.7)
        decided = await s.memory.decide("b", "decision", "high", "agent")
        assert await s.memory.pending() == [decided, added]
        assert [one.id for one in await s.memory.candidates(count_max=1)] == [decided.id]
        await s.memory.clear_promoted([added.id])
        await s.memory.record_access("framework")
        assert (await s.memory.access_stats("framework")).frequency == 1
        await s.memory.set_promotion_interval(9)
        assert await s.memory.run_promotion_now() == 0
        stats = await s.memory.promotion_stats()
        assert (stats.enabled, stats.interval_ms, stats.runs) == (False, 9, 1)
        await s.memory.enable_promotion()
        kept = await s.memory.remember("tabs", "convention", "high", source_type="user", seen="twice")
        assert await s.memory.get(kept.id) == kept
        assert [(one.id, one.score) for one in await s.memory.recall("tab", 1, 0.9)] == [(kept.id, 1.0)]
        assert [(one.access_count, one.metadata) for one in await s.memory.all()] == [(1, {"seen": "twice"})]
        gone = await s.memory.forget(kept.id, "not so")
        assert (await s.memory.all(), await s.memory.all(include_forgotten=True)) == ([], [gone])
        await refused("already_forgotten", s.memory.forget, kept.id)

        read = await s.files.track_read("a.py")
        await s.files.track_write("b.py")
        assert (await s.files.was_read("./a.py"), await s.files.was_read("b.py")) == (True, False)
        assert await s.files.read_time("a.py") == read
        await s.files.clear()

        assert await s.streaming.start("m") == "m"
        await s.streaming.update("text")
        assert (await s.streaming.end()).content == "text"
        await s.streaming.start()
        assert await s.streaming.cancel() == ""
        await refused("not_streaming", s.streaming.end)

        assert await s.prompts.add("p") == ["p"]
        assert await s.prompts.set(["q"]) == await s.prompts.get() == ["q"]
        assert await s.query_state("prompt_history") == ["q"]
        assert await s.committed_state() == await s.get_state()

    on_face(scenario)


@pytest.mark.contract("4.4 signals")
def test_signals(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session(agent=Counter)
        assert await s.call("counter.increment", {"by": 2}) == 2
        cast = await s.cast("counter.increment")
        assert await s.await_result(cast) == 3
        sent = await s.send_signal("counter.note", {"text": "n"}, subject="s", id="my-own", extensions={"lane": 3})
        assert sent == "my-own"
        await s.await_result("my-own")
        assert await s.query_state("notes") == ["n"]
        assert await s.query_state("notes.first", None) is None
        await refused("path_not_found", s.query_state, "notes.first")
        await refused("no_route", s.call, "counter.unheard_of")
        await refused("invalid_signal_type", s.cast, "no type")
        await refused("not_plain_data", s.call, "counter.increment", object())
        with pytest.raises(AgentError):
            await s.call("counter.fail")
        with pytest.raises(CallTimedOut):
            await s.await_result("unheard-of", timeout=0.1)
        assert (await s.agent_status()).errors >= 1
        await s.debug_events(keep=10)
        await s.call("counter.increment")
        ended, received = await s.debug_events()
        assert (received.kind, received.duration_ms) == ("signal_received", None)
        assert (ended.kind, ended.detail) == ("signal_finished", received.detail)
        assert ended.duration_ms is not None
        assert 0 < ended.duration_ms < 5_000
        await refused("unknown_action", s.clear_messages)

    on_face(scenario)


@pytest.mark.contract("4.4 every face", "1.8 lookup", "1.8 lookup_by_path", "1.8 lookup_by_name")
def test_the_registry(on_face: Play, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        project = tmp_path / "project"
        project.mkdir()
        s = await host.start_session(project, name="one")
        await host.start_session(name="one")
        assert await host.get_session(s.id) == s
        assert await host.get_session_by_path(project) == s
        assert await host.lookup_by_name("one") == s
        for lookup, given in ((host.get_session_by_path, tmp_path), (host.lookup_by_name, "two")):
            with pytest.raises(SessionNotFound):
                await lookup(given)
        await refused("invalid_session_id", host.get_session, "one")

    on_face(scenario)


@pytest.mark.contract("4.4 append_message_async")
def test_messages_that_nobody_waited_for_come_in_the_order_in_which_they_were_given(on_face: Play) -> None:
    async def scenario(host: Any) -> None:
        s = await host.start_session()
        started = [s.append_message_async("user", str(number), number=number) for number in range(100)]
        answers = [await one for one in started]
        assert [message.metadata["number"] for message in answers] == list(range(100))
        assert await s.get_messages() == answers
        wrong = s.append_message_async("nobody", "x")
        await refused("invalid_message", lambda: wrong)

    on_face(scenario)


@pytest.mark.contract("4.4 append_message_async")
def test_it_is_a_future_in_the_sync_face_and_a_task_in_the_async_one(chat: Session) -> None:
    future = chat.append_message_async("user", "x")
    assert isinstance(future, Future)
    assert future.result(5) == chat.get_messages()[0]
    with pytest.raises(InvalidRequest) as caught:
        chat.append_message_async("user", "x", timeout=0)
    assert caught.value.code == "invalid_timeout"

    async def main() -> None:
        from procession import AsyncHost

        async with AsyncHost(sandbox=Sandbox.off()) as host:
            session = await host.start_session()
            task = session.append_message_async("user", "x")
            assert isinstance(task, asyncio.Task)
            assert (await task).content == "x"

    asyncio.run(main())


@pytest.mark.contract("4.4 every face")
def test_two_handles_and_a_client_see_one_session(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=Sandbox.off()) as host, Host.connect(tmp_path / "data") as client:
        ours = host.start_session()
        theirs = client.session(ours.id)
        ours.append_message("user", "from the host")
        theirs.append_message("user", "from the client")
        assert [message.content for message in ours.get_messages()] == ["from the host", "from the client"]
        assert theirs.get_messages() == ours.get_messages()
        assert theirs.committed_state() == ours.committed_state() == ours.get_state()
