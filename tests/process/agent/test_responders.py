"""Messages that a responder answers: in a worker, streamed, kept in the state, and ended like any tool."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import act, conversation, say, state_of
from helpers.four_faces import FACES, play
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import (
    Host,
    InvalidRequest,
    MessageTooLarge,
    Sandbox,
    Session,
    SessionDied,
    ToolCrashed,
    ToolRaised,
    ToolTimedOut,
)
from procession.agent import Turn, echo

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def with_responder(host: Host) -> Iterator[Callable[[Callable[[Turn], object]], Session]]:
    started: list[Session] = []

    def start(responder: Callable[[Turn], object]) -> Session:
        started.append(host.start_session(responder=responder))
        return started[-1]

    yield start
    for session in started:
        host.remove_session(session.id)


Start = Callable[[Callable[[Turn], object]], Session]


@pytest.mark.contract("1.11 send_message")
def test_the_answer_is_returned_streamed_and_kept_after_the_question(with_responder: Start) -> None:
    session = with_responder(echo)
    pieces: list[str] = []
    assert say(session, "hello to all", pieces=pieces) == "hello to all"
    assert "".join(pieces) == "hello to all"
    assert say(session, "again") == "again"
    assert conversation(session) == [
        ("user", "hello to all"), ("assistant", "hello to all"), ("user", "again"), ("assistant", "again"),
    ]  # fmt: skip


def pieces_later(turn: Turn) -> AsyncIterator[str]:
    async def said() -> AsyncIterator[str]:
        yield f"{len(turn.messages)} "
        yield turn.config["provider"]

    return said()


async def awaited(turn: Turn) -> str:
    return turn.text.upper()


def whole(turn: Turn) -> str:
    return turn.text[::-1]


@pytest.mark.parametrize(
    ("responder", "answer"), [(pieces_later, "1 anthropic"), (awaited, "ÄB"), (whole, "bä"), (lambda turn: "", "")]
)
def test_a_responder_may_be_written_in_any_way(
    with_responder: Start, responder: Callable[[Turn], object], answer: str
) -> None:
    assert say(with_responder(responder), "äb") == answer


def chatty(turn: Turn) -> Iterator[str]:
    print("to the log")
    os.write(1, b"and this\n")
    yield "the answer"


def test_what_a_responder_prints_is_no_part_of_its_answer(with_responder: Start) -> None:
    session = with_responder(chatty)
    pieces: list[str] = []
    assert say(session, "x", pieces=pieces) == "the answer"
    assert pieces == ["the answer"]
    logged = "".join(chunk.text for chunk in session.logs() if chunk.stream == "stderr")
    assert "to the log" in logged
    assert "and this" in logged
    assert "the answer" not in "".join(chunk.text for chunk in session.logs())


def breaks_off(turn: Turn) -> Iterator[str]:
    yield "as far as "
    yield "this"
    if turn.text == "raise":
        raise ValueError("no more")
    if turn.text == "crash":
        ctypes.string_at(0)
    if turn.text == "data":
        yield 3  # type: ignore[misc]
    signal.pause()


@pytest.mark.parametrize(
    ("text", "error"), [("raise", ToolRaised), ("crash", ToolCrashed), ("data", ToolRaised), ("hang", ToolTimedOut)]
)
def test_an_answer_that_breaks_off_keeps_what_was_said_and_the_next_one_works(
    with_responder: Start, text: str, error: type[Exception]
) -> None:
    session = with_responder(breaks_off)
    with pytest.raises(error):
        say(session, text, timeout_s=1.0)
    assert conversation(session) == [("user", text), ("assistant", "as far as this")]
    with pytest.raises(ToolRaised):
        say(session, "raise")
    assert len(conversation(session)) == 4
    assert session.status().incarnation == 1


def silent(turn: Turn) -> str:
    raise ValueError("not a word")


def test_of_an_answer_that_never_began_nothing_is_kept(with_responder: Start) -> None:
    session = with_responder(silent)
    with pytest.raises(ToolRaised):
        say(session, "x")
    assert conversation(session) == [("user", "x")]


def slow(turn: Turn) -> Iterator[str]:
    yield "begun"
    time.sleep(60)  # payload: until it is ended


def _in_a_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_there_is_one_answer_at_a_time_and_the_session_answers_everything_else(with_responder: Start) -> None:
    session = with_responder(slow)
    asking, outcome = _in_a_thread(lambda: say(session, "first", timeout_s=1.5))
    wait_until(lambda: state_of(session)["streaming_message"] == "begun", "it has begun")
    with pytest.raises(InvalidRequest) as caught:
        say(session, "second")
    assert (caught.value.code, caught.value.ran) == ("already_streaming", "no")
    act(session, "add_todo", todo={"content": "meanwhile"})
    asking.join(10)
    assert isinstance(outcome[0], ToolTimedOut)
    assert conversation(session) == [("user", "first"), ("assistant", "begun")]


def test_an_answer_whose_session_dies_is_kept_as_far_as_it_was_said(with_responder: Start) -> None:
    session = with_responder(slow)
    asking, outcome = _in_a_thread(lambda: say(session, "x", timeout_s=30))
    wait_until(lambda: state_of(session)["streaming_message"] == "begun", "it has begun")
    os.kill(pid_of(session), signal.SIGKILL)
    asking.join(10)
    assert isinstance(outcome[0], SessionDied)
    wait_until(lambda: session.status().incarnation == 2, "it is back")
    assert conversation(session) == [("user", "x"), ("assistant", "begun")]


def flood(turn: Turn) -> Iterator[str]:
    while True:
        yield "x" * 100_000


def test_an_answer_that_is_too_long_is_ended_and_kept_up_to_there(with_responder: Start) -> None:
    session = with_responder(flood)
    with pytest.raises(MessageTooLarge):
        say(session, "x", timeout_s=30)
    (_, (role, content)) = conversation(session)
    assert role == "assistant"
    assert 3 << 20 < len(content) <= 4 << 20


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_message"),
        (" \n ", "empty_message"),
        ("x" * 10_001, "message_too_long"),
        ("ä" * 5_001, "message_too_long"),
    ],
)
def test_what_is_no_message_is_refused_and_changes_nothing(with_responder: Start, text: str, code: str) -> None:
    session = with_responder(echo)
    with pytest.raises(InvalidRequest) as caught:
        say(session, text)
    assert (caught.value.code, caught.value.ran) == (code, "no")
    assert conversation(session) == []


# --- as it is said ----------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.11 send_message_stream")
def test_an_answer_is_read_as_it_is_said(with_responder: Start) -> None:
    session = with_responder(echo)
    with session.send_message_stream("hello to all") as answer:
        assert "".join(answer) == "hello to all"
        assert answer.result() == "hello to all"
        assert list(answer) == []
    assert conversation(session) == [("user", "hello to all"), ("assistant", "hello to all")]


@pytest.mark.contract("1.11 send_message_stream")
def test_a_piece_is_read_while_the_answer_goes_on_and_closing_it_stops_that(with_responder: Start) -> None:
    session = with_responder(slow)
    answer = session.send_message_stream("x", timeout=30)
    assert next(answer) == "begun"
    assert state_of(session)["is_streaming"] is True
    answer.close()
    assert state_of(session)["is_streaming"] is False
    answer.close()
    assert list(answer) == []
    assert conversation(session) == [("user", "x"), ("assistant", "begun")]
    with pytest.raises(CancelledError, match="cancelled while it ran"):
        answer.result(10)


def stubborn(turn: Turn) -> Iterator[str]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield "begun"
    time.sleep(60)  # payload: until it is ended


@pytest.mark.contract("1.11 send_message_stream")
def test_after_an_answer_was_closed_the_next_one_can_begin(with_responder: Start) -> None:
    for session in (with_responder(slow), with_responder(stubborn)):
        for _ in range(3):
            with session.send_message_stream("x", timeout=30) as answer:
                assert next(answer) == "begun"
        assert conversation(session) == [("user", "x"), ("assistant", "begun")] * 3


def test_a_message_that_was_cancelled_or_late_leaves_room_for_the_next_one(with_responder: Start) -> None:
    session = with_responder(slow)
    for _ in range(3):
        with pytest.raises(ToolTimedOut):
            session.send_message("late", timeout=0.5)
        answer = session.send_message_stream("cancelled", timeout=30)
        assert next(answer) == "begun"
        answer.close()
    assert [role for role, _ in conversation(session)] == ["user", "assistant"] * 6


def test_letting_go_of_an_answer_stops_it(with_responder: Start) -> None:
    session = with_responder(slow)
    for piece in session.send_message_stream("x", timeout=30):
        assert piece == "begun"
        break
    wait_until(lambda: not state_of(session)["is_streaming"], "it has stopped")


@pytest.mark.contract("1.11 send_message_stream")
@pytest.mark.parametrize(("text", "error"), [("raise", ToolRaised), ("crash", ToolCrashed), ("hang", ToolTimedOut)])
def test_an_error_comes_out_of_the_iterator_after_what_was_said(
    with_responder: Start, text: str, error: type[Exception]
) -> None:
    answer = with_responder(breaks_off).send_message_stream(text, timeout=1.0)
    said: list[str] = []
    with pytest.raises(error):
        said.extend(answer)
    assert "".join(said) == "as far as this"
    assert list(answer) == []
    with pytest.raises(error):
        answer.result()


@pytest.mark.contract("1.11 send_message_stream")
def test_what_is_refused_comes_out_of_the_iterator_too(with_responder: Start) -> None:
    for text, code in (("", "empty_message"), ("x" * 10_001, "message_too_long")):
        with pytest.raises(InvalidRequest) as caught:
            next(with_responder(echo).send_message_stream(text))
        assert caught.value.code == code
    with pytest.raises(InvalidRequest) as caught:
        with_responder(echo).send_message_stream("x", timeout=0)
    assert caught.value.code == "invalid_timeout"


def long(turn: Turn) -> Iterator[str]:
    for _ in range(30):
        yield "語" * 30_000


def test_a_reader_who_stands_still_gets_all_of_it_in_the_end(with_responder: Start) -> None:
    answer = with_responder(long).send_message_stream("x", timeout=30)
    whole = answer.result(30)
    assert len(whole) == 900_000
    assert "".join(answer) == whole


@pytest.mark.contract("1.11 send_message_stream")
@pytest.mark.parametrize("face", FACES)
def test_answers_are_streamed_on_every_face(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(responder=echo)
        said = [piece async for piece in session.send_message_stream("hello to all")]
        assert "".join(said) == "hello to all"
        slow_one = await host.start_session(responder=slow)
        async with slow_one.send_message_stream("x", timeout=30) as answer:
            assert await anext(answer) == "begun"
        assert (await slow_one.get_messages())[-1].content == "begun"
        failing = await host.start_session(responder=breaks_off)
        said.clear()

        async def read() -> None:
            async for piece in failing.send_message_stream("raise"):
                said.append(piece)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(ToolRaised):
            await read()
        assert "".join(said) == "as far as this"

    play(face, tmp_path, scenario)


def test_a_session_without_a_responder_says_so(host: Host) -> None:
    session = host.start_session()
    with pytest.raises(InvalidRequest) as caught:
        say(session, "hello")
    assert caught.value.code == "no_responder"
    host.remove_session(session.id)
    with pytest.raises(InvalidRequest):
        host.start_session(responder="echo")  # type: ignore[arg-type]
