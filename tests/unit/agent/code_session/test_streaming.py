"""Streaming: chunks join into one message, which counts from the start, and nothing unfinished is lost unasked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.code_session import START, Played
from helpers.counts import examples
from procession.agent_proc.agent.code_session.state import Budgets
from procession.ipc.core.errors import MessageTooLarge
from procession.ipc.core.state_ops import AppendText


@pytest.fixture
def session() -> Played:
    return Played()


def test_chunks_join_into_an_assistant_message(session: Played):
    assert session.do("start_streaming", message_id="m1") == "m1"
    assert session.state["is_streaming"] is True
    assert session.state["streaming_message"] == ""
    assert session.do("update_streaming", chunk="Hello") is None
    session.do("update_streaming", chunk=" World")
    assert session.state["streaming_message"] == "Hello World"
    session.at = START
    message = session.do("end_streaming")
    assert message == {
        "id": "m1",
        "role": "assistant",
        "content": "Hello World",
        "timestamp": START,
        "metadata": {},
    }
    assert session.messages() == [message]
    assert session.state["is_streaming"] is False
    assert session.state["streaming_message"] is None
    assert session.state["streaming_message_id"] is None


def test_a_chunk_is_one_op_with_the_chunk_alone(session: Played):
    session.do("start_streaming", message_id="m1")
    session.do("update_streaming", chunk="a" * 1000)
    assert session.change("update_streaming", chunk="b").ops[0] == AppendText(("streaming_message",), "b")


def test_an_empty_answer_is_a_message_too(session: Played):
    session.do("start_streaming", message_id="m1")
    assert session.do("end_streaming")["content"] == ""


def test_a_chunk_without_a_stream_is_ignored(session: Played):
    before = session.state
    assert session.do("update_streaming", chunk="early") is None
    assert session.state == before


def test_an_empty_chunk_changes_nothing(session: Played):
    session.do("start_streaming", message_id="m1")
    assert session.change("update_streaming", chunk="").ops == ()


def test_a_second_start_does_not_drop_the_first_answer(session: Played):
    session.do("start_streaming", message_id="m1")
    session.do("update_streaming", chunk="kept")
    error = session.refusal("already_streaming", "start_streaming", message_id="m2")
    assert "session.streaming.cancel()" in error.hint
    assert session.do("end_streaming")["content"] == "kept"


def test_cancelling_drops_the_answer_and_says_what_it_was(session: Played):
    session.do("start_streaming", message_id="m1")
    session.do("update_streaming", chunk="half")
    assert session.do("cancel_streaming") == "half"
    assert session.messages() == []
    assert session.state["sizes"]["streaming_message"] == 0
    assert session.do("start_streaming", message_id="m2") == "m2"


@pytest.mark.parametrize("name", ["end_streaming", "cancel_streaming"])
def test_there_is_nothing_to_end_without_a_stream(session: Played, name: str):
    session.refusal("not_streaming", name)


def test_the_cap_holds_at_the_end_of_a_stream(session: Played):
    session.fill("append_message", ({"message": {"role": "user", "content": str(count)}} for count in range(1000)))
    session.do("start_streaming", message_id="m1")
    session.do("end_streaming")
    assert len(session.messages()) == 1000
    assert session.messages()[0]["content"] == "1"
    assert session.messages()[-1]["id"] == "m1"


@pytest.mark.parametrize("message_id", ["", None, 7, "x" * 257])
def test_what_is_no_id_is_refused(session: Played, message_id: object):
    session.refusal("invalid_stream", "start_streaming", message_id=message_id)


@pytest.mark.parametrize("chunk", [None, b"x", "half \ud800"])
def test_what_is_no_text_is_refused(session: Played, chunk: object):
    session.do("start_streaming", message_id="m1")
    session.refusal("invalid_stream", "update_streaming", chunk=chunk)


@pytest.mark.parametrize("letter", ["a", "ä", "語"])
def test_what_would_be_too_large_a_message_is_refused_while_it_grows(letter: str):
    session = Played(Budgets(element_bytes_max=2_000, context_tokens_max=100))
    chunk = letter * (600 // len(letter.encode()))
    session.do("start_streaming", message_id="m1")
    session.do("update_streaming", chunk=chunk)
    session.do("update_streaming", chunk=chunk)
    error = session.refusal("message_too_large", "update_streaming", chunk=chunk * 2)
    assert isinstance(error, MessageTooLarge)
    assert session.do("end_streaming")["content"] == chunk * 2


def test_a_stream_that_fills_the_state_can_still_be_ended():
    session = Played(Budgets(state_bytes_max=1 << 20))
    session.do("start_streaming", message_id="m1")
    chunk = "x" * 1_000
    for _ in range(2_000):
        if len(session.state["streaming_message"]) + 1_000 > (1 << 20) - (128 << 10) - 4_000:
            break
        session.fill("update_streaming", [{"chunk": chunk}])
    session.refusal("state_too_large", "update_streaming", chunk=chunk * 5)
    session.do("end_streaming")
    assert len(session.messages()) == 1


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_the_size_of_a_stream_is_that_of_its_message_at_every_chunk(chunks: list[str]):
    session = Played()
    session.do("start_streaming", message_id="m1")
    for chunk in chunks:
        session.do("update_streaming", chunk=chunk)  # checks the sizes
    assert session.do("end_streaming")["content"] == "".join(chunks)
