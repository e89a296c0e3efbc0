"""Arguments that are none: a typed error that says what is needed, on every face, with nothing done and nobody harmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from helpers.four_faces import FACES, play
from procession import CallTimedOut, Host, InvalidRequest, Session, Todo
from procession.agent import Agent, Change, action, echo

pytestmark = pytest.mark.process


class Model(BaseModel):
    n: int = 1


class Color(Enum):
    RED = 1


@dataclass
class Point:
    x: int = 1


class Struct(msgspec.Struct):
    n: int = 1


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
NO_TEXTS: tuple[Any, ...] = (3, None, object(), "\ud800", 2**70, [], CYCLE, Model(), b"x")
NO_COUNTS: tuple[Any, ...] = ("x", object(), "\ud800", 2**70, -1, 1.5, True, [], CYCLE, Model())
NO_PAGES: tuple[Any, ...] = ("x", -1, [], CYCLE)
NO_FUNCTIONS: tuple[Any, ...] = (3, "x", [])
NO_MAPPINGS: tuple[Any, ...] = (3, "ab", [("a", "b")], CYCLE)
NO_LISTS = (3, object(), 2**70, 1.5, True)

#: What is called, and with what: each argument that is wrong on its own.
Wrong = tuple[str, tuple[Any, ...], dict[str, Any]]


def wrong_calls() -> list[Wrong]:
    of_texts = ("send_message", "call", "cast", "rename", "await_child", "complete_todo", "remove_todo")
    calls: list[Wrong] = [(verb, (given,), {}) for verb in of_texts for given in NO_TEXTS]
    calls += [("await_result", (given,), {}) for given in NO_TEXTS]
    calls += [("debug_events", (), {name: given}) for name in ("keep", "limit") for given in NO_COUNTS]
    calls += [("get_message_page", (), {name: given}) for name in ("offset", "limit") for given in NO_PAGES]
    calls += [("send_message", ("x",), {"on_text": given}) for given in NO_FUNCTIONS]
    calls += [("exec", (["true"],), {"env": given}) for given in NO_MAPPINGS]
    return calls


@pytest.mark.parametrize("face", FACES)
def test_what_is_no_argument_is_refused_by_name_and_changes_nothing(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(responder=echo)
        before = await session.get_state()

        async def refused(verb: Callable[..., Any], *args: Any, **named: Any) -> None:
            with pytest.raises(InvalidRequest) as caught:
                await verb(*args, **named)
            error = caught.value
            assert (error.ran, bool(error.code)) == ("no", True)
            assert not any(
                word in str(error) for word in ("request's body", "Expected `", "$.", "annotate", "returns=")
            )

        for verb, args, named in wrong_calls():
            await refused(getattr(session, verb), *args, **named)
        for given in NO_COUNTS:
            await refused(host.audit, limit=given)
        for given in (3, object(), "\ud800"):
            await refused(host.audit, tool=given)
        for given in NO_LISTS:
            await refused(host.start_session, preload=given)
            await refused(host.start_session, import_paths=given)
        assert await session.get_state() == before
        assert (await session.status()).incarnation == 1

    play(face, tmp_path, scenario)


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (Model(), "model_dump()"),
        (Color.RED, ".value"),
        (Point(), "dataclasses.asdict"),
        (Struct(), "msgspec.to_builtins"),
        (iter([1]), "list(...)"),
        (lambda: None, "call it"),
    ],
)
def test_for_an_argument_that_is_no_plain_data_it_is_said_what_to_send(
    chat: Session, contract_host: Host, given: object, instead: str
) -> None:
    sends: list[Callable[[], object]] = [
        lambda: chat.call("x", {"c": given}),
        lambda: chat.cast("x", {"c": given}),
        lambda: chat.context.set("framework", given),
        lambda: chat.append_message("user", "x", more=given),
    ]
    for send in sends:
        with pytest.raises(InvalidRequest) as caught:
            send()
        assert caught.value.code == "not_plain_data"
        assert instead in (caught.value.hint or "")
        assert "return" not in str(caught.value)


@pytest.mark.contract("1.3 update_todos")
def test_a_todo_is_its_own_id(chat: Session) -> None:
    todo = chat.add_todo("x")
    assert chat.update_todo(todo, content="y").content == "y"
    assert chat.complete_todo(todo).status == "completed"
    chat.remove_todo(todo)
    assert chat.get_todos() == []
    with pytest.raises(InvalidRequest, match="a todo's id is needed, or a Todo"):
        chat.complete_todo(Model())  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        chat.complete_todo(Todo(id="no-such", content="x", status="pending"))
    assert caught.value.code == "todo_not_found"


@pytest.mark.parametrize("face", ["AsyncHost", "AsyncHost.connect"])
def test_an_async_on_text_is_awaited_for_each_piece_before_the_answer_is_returned(face: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(responder=echo)
        said: list[str] = []

        async def on_text(piece: str) -> None:
            said.append(piece)

        assert await session.send_message("hello to all", on_text=on_text) == "hello to all"
        assert "".join(said) == "hello to all"

        async def fails(piece: str) -> None:
            raise KeyError(piece)

        with pytest.raises(KeyError):
            await session.send_message("x", on_text=fails)

    play(face, tmp_path, scenario)


def test_an_on_text_that_would_have_to_be_awaited_is_refused_where_nobody_does(contract_host: Host) -> None:
    session = contract_host.start_session(responder=echo)

    async def on_text(piece: str) -> None:
        raise AssertionError

    with pytest.raises(InvalidRequest, match="on_text: ") as caught:
        session.send_message("x", on_text=on_text)
    assert caught.value.code == "async_output"
    assert session.get_messages() == []

    def fails(piece: str) -> None:
        raise KeyError(piece)

    with pytest.raises(KeyError):
        session.send_message("x", on_text=fails)
    assert [message.role for message in session.get_messages()] == ["user", "assistant"]
    contract_host.remove_session(session.id)


class Own(Agent[Mapping[str, Any]]):
    """An agent of the program's own, which is no code session."""

    @action("own.slow")
    def slow(self) -> Change:
        time.sleep(0.6)  # payload: longer than its caller waits, shorter than the session is given
        return Change()

    @action()
    def unnamed(self) -> Change:
        return Change()


@pytest.fixture
def own(contract_host: Host) -> Iterator[Session]:
    session = contract_host.start_session(agent=Own)
    yield session
    contract_host.remove_session(session.id)


def test_a_responder_for_an_agent_that_is_no_code_session_is_refused_before_anything_is_started(
    contract_host: Host,
) -> None:
    before = contract_host.list_sessions(all=True)
    with pytest.raises(InvalidRequest, match="responder: only a code session has one") as caught:
        contract_host.start_session(agent=Own, responder=echo)
    assert caught.value.code == "not_a_code_session"
    assert contract_host.list_sessions(all=True) == before


def test_verbs_of_code_sessions_say_so_to_an_agent_of_another_kind(own: Session) -> None:
    for verb, code in ((own.get_messages, "unknown_query"), (own.clear_messages, "unknown_action")):
        with pytest.raises(InvalidRequest, match="is for code sessions, and Own is an agent of another kind") as caught:
            verb()
        assert caught.value.code == code


def test_a_call_of_an_action_by_its_name_says_what_would_run_it(own: Session) -> None:
    with pytest.raises(InvalidRequest, match="no_such") as caught:
        own.call("no_such")
    for name, hint in (
        ("unnamed", """give it one, as in @action("my.unnamed")"""),
        ("slow", "signals of type own.slow run the action slow"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            own.call(name)
        assert caught.value.code == "no_route"
        assert hint in (caught.value.hint or "")


def test_a_call_without_an_answer_names_what_was_called(own: Session) -> None:
    with pytest.raises(CallTimedOut, match=r"signal own\.slow had no answer in 0\.2 s"):
        own.call("own.slow", timeout=0.2)
    assert own.status().incarnation == 1


def test_a_path_may_be_a_path(chat: Session) -> None:
    read = chat.files.track_read(Path("a.py"))
    chat.files.track_write(Path("src/../b.py"))
    assert (chat.files.was_read(Path("a.py")), chat.files.was_read("a.py")) == (True, True)
    assert chat.files.read_time(Path("./a.py")) == read
    assert list(chat.get_state()["file_writes"]) == ["b.py"]
    with pytest.raises(InvalidRequest) as caught:
        chat.files.was_read(3)  # type: ignore[arg-type]
    assert caught.value.code == "invalid_path"
