"""What a code session tells those who follow it, and that it tells nobody else; what signals do to it; across real processes."""

from __future__ import annotations

import asyncio
import os
import signal as signals
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import Counter
from helpers.four_faces import FACES, play
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import AgentSignal, AsyncHost, Host, InvalidRequest, Sandbox, Session, ToolRaised
from procession.agent import Agent, CallAgent, Change, Emit, ToSession, Turn, action, echo

pytestmark = pytest.mark.process

MESSAGE = "procession.session.message"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    started: list[Session] = []

    def begin(**spec: Any) -> Session:
        started.append(host.start_session(**spec))
        return started[-1]

    yield begin
    for session in started:
        host.remove_session(session.id)


@pytest.fixture
def chat(start: Callable[..., Session]) -> Session:
    return start()


def read(following: Iterator[AgentSignal], count: int) -> list[tuple[str, Any]]:
    """Return the next signals, type and data, without what all of them have."""
    found = []
    for one in (next(following) for _ in range(count)):
        assert one.data.pop("session_id") == one.session
        assert one.source == f"/procession/session/{one.session}"
        found.append((one.type.removeprefix("procession."), one.data))
    return found


# --- signals in -------------------------------------------------------------------------------------------------------
@pytest.mark.contract("4.4 signals")
def test_a_message_is_appended_by_a_signal_whether_its_sender_waits_or_not(chat: Session) -> None:
    made = chat.call(MESSAGE, {"role": "user", "content": "hello", "message_id": "m"})
    assert (made["id"], made["content"]) == ("m", "hello")
    taken = chat.cast("jido_code.message.append", {"role": "assistant", "content": "good day"})
    assert chat.await_result(taken)["content"] == "good day"
    assert [one.content for one in chat.get_messages()] == ["hello", "good day"]
    assert chat.get_state() == chat.committed_state()


@pytest.mark.contract("4.4 signals")
@pytest.mark.contract("2.3 unknown types")
def test_a_type_that_nobody_takes_is_refused_to_who_waits_and_told_to_the_log_else(host: Host, chat: Session) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat.call("procession.session.massage", {})
    assert (caught.value.code, caught.value.ran) == ("no_route", "no")
    assert MESSAGE in str(caught.value)
    chat.cast("nothing.of.ours")

    def told() -> bool:
        return any(
            "no_route" in str(event.data.get("text")) for event in chat.events() if event.type == "session.notice"
        )

    wait_until(told, "it is told")
    assert chat.get_messages() == []


# --- signals out ------------------------------------------------------------------------------------------------------
@pytest.mark.contract("0.12 one signal vocabulary")
def test_who_follows_a_session_is_told_of_each_change(chat: Session) -> None:
    with chat.signals(follow=True) as following:
        message = chat.append_message("user", "hi", id="m")
        chat.update_todos([{"id": "a", "content": "x"}])
        chat.set_config({"model": "n"})
        chat.files.track_read("./a")
        chat.files.track_write("b")
        chat.set_scroll_offset(3)
        chat.call("procession.session.rename", {"name": "other"})
        appended, todos, config, was_read, written, scrolled, renamed = read(following, 7)
    assert appended == (
        "session.message.appended",
        {"message_id": "m", "role": "user", "content": "hi", "timestamp": message.timestamp, "is_cut": False},
    )
    assert todos == ("session.state.changed", {"field": "todos", "change": "replaced", "ids": ["a"], "count": 1})
    assert (config[0], config[1]["config"]["model"]) == ("session.config.updated", "n")
    assert [(kind, data["path"]) for kind, data in (was_read, written)] == [("file.read", "a"), ("file.write", "b")]
    assert [data["field"] for _, data in (scrolled, renamed)] == ["scroll_offset", "session.name"]


def test_a_change_is_there_when_it_is_told(chat: Session) -> None:
    with chat.signals(follow=True) as following:
        for number in range(50):
            chat.append_message_async("user", str(number))
        for number in range(50):
            assert next(following).data["content"] == str(number)
            kept = chat.committed_state()
            assert kept is not None
            assert len(kept["messages"]) > number


def test_nothing_is_made_while_nobody_follows(chat: Session) -> None:
    chat.append_message("user", "unheard")
    chat.call_tool("remember", {"content": "unheard"})
    with chat.signals(follow=True) as first, chat.signals(follow=True) as second:
        chat.append_message("user", "heard")
        assert [read(one, 1)[0][1]["content"] for one in (first, second)] == ["heard", "heard"]
        first.close()
        chat.append_message("user", "heard by one")
        assert read(second, 1)[0][1]["content"] == "heard by one"
    chat.append_message("user", "unheard again")
    with chat.signals(follow=True) as again:
        chat.append_message("user", "heard again")
        assert (number := next(again)).data["content"] == "heard again"
        assert number.number == 3
    assert [one.data["content"] for one in chat.signals()] == ["heard", "heard by one", "heard again"]


def test_every_change_after_the_following_began_is_seen(start: Callable[..., Session]) -> None:
    """The session is told in the same pipe, before any call that comes after; every time anew."""
    session = start()
    for number in range(200):
        with session.signals(follow=True) as following:
            session.append_message("user", str(number))
            assert next(following).data["content"] == str(number)


def test_a_new_process_knows_that_it_is_followed_before_its_first_call(chat: Session) -> None:
    with chat.signals(follow=True) as following:
        chat.append_message("user", "first")
        os.kill(pid_of(chat), signals.SIGKILL)
        wait_until(lambda: chat.status().incarnation == 2, "it is back")
        chat.append_message("user", "second")
        chat.kill()
        chat.append_message("user", "third")
        assert [data["content"] for _, data in read(following, 3)] == ["first", "second", "third"]


def test_an_agent_of_one_s_own_tells_what_it_wants_and_nothing_else(start: Callable[..., Session]) -> None:
    counter = start(agent=Counter)
    with counter.signals(follow=True) as following:
        counter.call("counter.increment")
        counter.call("counter.emit", {"to": "subscribers"})
        assert next(following).type == "counter.increment"
    counter.call("counter.emit", {"to": "subscribers"})
    wait_until(lambda: len(counter.signals()) == 2, "what an agent tells is kept, whether anybody follows or not")


def test_what_is_long_is_told_in_bounds_and_read_back_whole(chat: Session) -> None:
    with chat.signals(follow=True) as following:
        chat.append_message("user", "x" * 1_000_000)
        ((_, data),) = read(following, 1)
    assert (data["is_cut"], set(data["content"])) == (True, {"x"})
    assert len(data["content"]) < 64 * 1024
    assert len(str(chat.get_messages()[-1].content)) == 1_000_000


@pytest.mark.contract("4.4 every face")
@pytest.mark.parametrize("face", FACES)
def test_signals_in_and_out_on_every_face(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(responder=echo)
        async with session.signals(follow=True) as following:
            made = await session.call(MESSAGE, {"role": "user", "content": "hi"})
            told = await anext(following)
            assert (told.type, told.data["message_id"]) == (f"{MESSAGE}.appended", made["id"])

    play(face, tmp_path, scenario)


# --- answers ----------------------------------------------------------------------------------------------------------
def two_pieces(turn: Turn) -> Iterator[str]:
    yield "as far as "
    yield "this"
    if turn.text == "fail":
        raise ValueError("no more")


@pytest.mark.contract("1.11 send_message_stream")
def test_an_answer_is_told_as_it_is_said(start: Callable[..., Session]) -> None:
    session = start(responder=two_pieces)
    with session.signals(follow=True) as following:
        assert session.send_message("go") == "as far as this"
        begun, question, one, two, ended, answer = read(following, 6)
    kinds = [kind.removeprefix("session.") for kind, _ in (begun, question, one, two, ended, answer)]
    assert kinds == [
        "stream.start",
        "message.appended",
        "stream.chunk",
        "stream.chunk",
        "stream.end",
        "message.appended",
    ]
    assert one[1]["text"] + two[1]["text"] == answer[1]["content"] == "as far as this"
    assert {data["message_id"] for _, data in (begun, one, two, ended, answer)} == {answer[1]["message_id"]}
    assert ended[1]["is_kept"] is True


@pytest.mark.contract("1.11 send_message_stream")
def test_an_answer_that_breaks_off_is_told_with_its_reason(start: Callable[..., Session]) -> None:
    session = start(responder=two_pieces)
    with session.signals(follow=True) as following:
        with pytest.raises(ToolRaised):
            session.send_message("fail")
        told = read(following, 7)
    assert [kind for kind, _ in told[-3:]] == ["session.stream.error", "session.stream.end", "session.message.appended"]
    assert "no more" in told[-3][1]["reason"]["message"]
    assert told[-3][1]["message_id"] == told[0][1]["message_id"]


# --- traces -----------------------------------------------------------------------------------------------------------
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.contract("3 telemetry")
def test_a_trace_goes_on_to_what_a_signal_causes(start: Callable[..., Session]) -> None:
    counter, chat = start(agent=Counter), start()
    with counter.signals(follow=True) as emitted, chat.signals(follow=True) as told:
        counter.send_signal("counter.emit", {"to": "subscribers"}, extensions={"traceparent": TRACE})
        assert next(emitted).extensions == {"traceparent": TRACE}
        counter.send_signal("counter.emit", {"to": "subscribers"})
        assert next(emitted).extensions == {}
        chat.send_signal(MESSAGE, {"role": "user", "content": "hi"}, extensions={"traceparent": TRACE})
        assert next(told).extensions == {"traceparent": TRACE}
        chat.append_message("user", "hi")
        assert next(told).extensions == {}


class Relay(Agent[Mapping[str, Any]]):
    """Asks another session, and remembers the trace of what it is told."""

    @action("relay.ask")
    def ask(self, of: str) -> Change:
        return Change().asking(CallAgent(ToSession(of), "relay.told", None, "answered"))

    @action("relay.told")
    def told(self) -> Change:
        assert self.signal is not None
        return Change.set(trace=self.signal.extensions.get("traceparent")).asking(Emit("relay.heard", to="subscribers"))

    @action()
    def answered(self, status: str, **_: Any) -> Change:
        return Change().asking(Emit("relay.answered", status, "subscribers"))


@pytest.mark.contract("3 telemetry")
def test_a_trace_goes_through_a_call_and_back(start: Callable[..., Session]) -> None:
    asker, asked = start(agent=Relay), start(agent=Relay)
    with asker.signals(follow=True) as answered, asked.signals(follow=True) as heard:
        asker.send_signal("relay.ask", {"of": asked.id}, extensions={"traceparent": TRACE})
        assert next(heard).extensions == {"traceparent": TRACE}
        assert (told := next(answered)).data == "ok"
        assert told.extensions == {"traceparent": TRACE}
        assert asked.query_state("trace") == TRACE
        asker.send_signal("relay.ask", {"of": asked.id})
        assert next(heard).extensions == next(answered).extensions == {}


def test_the_async_face_follows_from_the_moment_it_asks() -> None:
    async def go() -> None:
        async with AsyncHost(sandbox=Sandbox.off()) as host:
            session = await host.start_session()
            for number in range(50):
                async with session.signals(follow=True) as following:
                    await session.append_message("user", str(number))
                    assert (await anext(following)).data["content"] == str(number)

    asyncio.run(go())
