"""What an agent's author gets wrong in size, in kind or in place: told with a code, nothing kept, and the session goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import AgentError, Host, InvalidRequest, MessageTooLarge, ProcessionError, Sandbox, Session, StartFailed
from procession.agent import (
    Agent,
    AppendItems,
    CallAgent,
    Change,
    CodeSessionAgent,
    Custom,
    Emit,
    EmitErrors,
    Error,
    RunInstruction,
    Stop,
    ToSession,
    action,
)

pytestmark = pytest.mark.process

MB = 1_000_000
SHARED: list[int] = []


class Held(BaseModel):
    log: list[Any] = []
    note: str = ""
    status: str = ""
    last_answer: str = ""


class Author(Agent[Held]):
    queue_max = 3

    @action("set")
    def set(self, count: int) -> Change:
        return Change.set(log=["x" * count])

    @action("add")
    def add(self, count: int) -> Change:
        return Change((AppendItems(("log",), ("x" * count,)),))

    @action("finish")
    def finish(self, count: int, stop: bool = False) -> Change:
        change = Change.set(status="completed", last_answer="done", log=["x" * count])
        return change.asking(Stop()) if stop else change

    @action("share")
    def share(self, item: int, fail: bool = False) -> Change:
        SHARED.append(item)
        if fail:
            raise ValueError("not kept")
        return Change.set(log=SHARED).replying(SHARED)

    @action("raise")
    def fail(self, text: str, ours: bool = False) -> Change:
        raise InvalidRequest(text, code=3, hint=b"x") if ours else ValueError(text)  # type: ignore[arg-type]

    @action("emit")
    def emit(self, count: int, size: int = 1) -> Change:
        return Change.set(note="told").asking(*(Emit("told", "x" * size, "log") for _ in range(count))).replying("did")

    @action("again")
    def again(self, count: int) -> Change:
        return Change().asking(RunInstruction("emit", {"count": count}, result_action="fed"))

    @action("fed")
    def fed(self, status: str, **about: object) -> Change:
        return Change.set(note=status)

    @action("far")
    def far(self, size: int) -> Change:
        return Change().asking(Emit("far", "x" * size), Emit("near", None, "self"))

    @action("near")
    def near(self) -> Change:
        return Change.set(note="near")

    @action("nobody")
    def nobody(self) -> Change:
        return Change().asking(Emit("far", None, ToSession("nobody of this name")))


def _clearing(_: Error, state: Mapping[str, Any]) -> Any:
    state["log"].append("by the policy")
    raise SystemExit(3)


class Meddler(Author):
    error_policy = Custom(_clearing)


class TellsItself(Author):
    queue_max = 2
    error_policy = EmitErrors("self")

    @action("procession.agent.error")
    def heard(self, **about: object) -> Change:
        return Change().asking(*(Emit("told", None, "log") for _ in range(3)))


class Plain(Agent[Mapping[str, Any]]):
    @action("spoil")
    def spoil(self, fail: bool = True) -> Change:
        self.state["items"].append(1)
        if fail:
            raise ValueError("not kept")
        return Change()

    @action("take")
    def take(self, key: str) -> Change:
        return Change.set(**{key: "x"})


class Asker(Agent[Held]):
    @action("ask.me")
    def asked(self) -> Change:
        return Change.set(last_answer="was asked")

    @action("answer")
    def answer(self, asker: str) -> Change:
        """Answer at once, and call back the one that has its answer by then."""
        return Change().replying("at once").asking(CallAgent(ToSession(asker), "ask.me", result_action="over"))

    @action("begin")
    def begin(self, other: str, me: str) -> Change:
        return Change().asking(CallAgent(ToSession(other), "answer", {"asker": me}, result_action="over"))

    @action("over")
    def over(self, status: str, **about: object) -> Change:
        return Change.set(note=status)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session(agent=Author).id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    """Start a session; at the end it has not died, and what it answers is what its host has."""
    started: list[Session] = []

    def begin(agent: type[Agent[Any]] = Author, **given: Any) -> Session:
        started.append(host.start_session(agent=agent, **given))
        return started[-1]

    yield begin
    for one in started:
        status = one.status()
        if status.phase == "ready" and status.restarts == 0:
            assert one.get_state() == one.committed_state()
        host.remove_session(one.id)
        assert status.restarts == 0, status


# --- sizes ------------------------------------------------------------------------------------------------------------
@pytest.mark.contract("0.3 caps hold everywhere")
def test_a_change_that_fits_no_message_is_refused_and_nothing_of_it_is_kept(start: Callable[..., Session]) -> None:
    session = start()
    with pytest.raises(MessageTooLarge) as caught:
        session.call("set", {"count": 20 * MB})
    assert (caught.value.code, caught.value.applied) == ("change_too_large", False)
    with pytest.raises(MessageTooLarge):
        session.await_result(session.cast("set", {"count": 20 * MB}))
    assert session.get_state()["log"] == []
    session.call("set", {"count": 10})
    assert session.get_state()["log"] == ["x" * 10]


@pytest.mark.contract("0.3 caps hold everywhere")
def test_a_code_session_refuses_it_too(host: Host) -> None:
    session = host.start_session()
    with pytest.raises(MessageTooLarge) as caught:
        session.set_messages([{"role": "user", "content": "x" * 4 * MB}] * 6)
    assert caught.value.code == "change_too_large"
    assert session.get_messages() == []
    session.append_message("user", "after it")
    assert session.get_state() == session.committed_state()
    host.remove_session(session.id)


@pytest.mark.contract("0.3 caps hold everywhere", "1.1 byte budgets")
def test_a_state_has_a_limit_which_is_told_before_anything_changes(start: Callable[..., Session]) -> None:
    session = start()
    for _ in range(6):
        session.call("add", {"count": 10 * MB})
    with pytest.raises(MessageTooLarge) as caught:
        session.call("add", {"count": 10 * MB})
    assert (caught.value.code, caught.value.applied) == ("state_too_large", False)
    session.call("set", {"count": 10 * MB})
    session.call("add", {"count": 10 * MB})
    assert [len(item) for item in session.get_state()["log"]] == [10 * MB, 10 * MB]


def test_an_effect_that_cannot_be_sent_is_the_agents_error_and_the_next_is_carried_out(
    start: Callable[..., Session],
) -> None:
    session = start()
    session.call("far", {"size": 17 * MB})
    wait_until(lambda: session.get_state()["note"] == "near", "the effect behind it was carried out")
    status = session.agent_status()
    assert status.errors == 1
    assert status.last_error.startswith("invalid_effect: the effect Emit cannot be carried out")


# --- who is told what -------------------------------------------------------------------------------------------------
@pytest.mark.contract("0.5 a crash loses nothing", "3 await_completion")
def test_who_is_told_of_an_end_finds_it_after_a_death(host: Host) -> None:
    session = host.start_session(agent=Author, restart="permanent")
    told: list[object] = []

    def wait_and_kill() -> None:
        told.append(session.await_completion(timeout=30).value)
        os.kill(pid_of(session), signal.SIGKILL)

    waiting = threading.Thread(target=wait_and_kill)
    waiting.start()
    wait_until(lambda: any(call.op == "await_result" for call in session.calls()), "somebody waits")
    session.cast("finish", {"count": 12 * MB})
    waiting.join(60)
    assert told == ["done"]
    wait_until(lambda: session.status().incarnation == 2, "it died")
    assert session.get_state()["status"] == "completed"
    host.remove_session(session.id)


@pytest.mark.contract("3 directive queue and drain")
def test_what_was_given_up_for_want_of_room_is_told_as_that(start: Callable[..., Session]) -> None:
    session = start()
    with pytest.raises(AgentError) as caught:
        session.await_result(session.cast("emit", {"count": 4}))
    assert (caught.value.code, caught.value.applied) == ("queue_overflow", False)
    assert session.get_state()["note"] == ""
    session.call("again", {"count": 4})
    wait_until(lambda: session.get_state()["note"] != "", "it was told")
    assert session.get_state()["note"] == "error"


@pytest.mark.contract("3 await_completion", "3 Await all / any / child / cancel")
def test_an_agent_that_finished_and_stopped_can_still_be_awaited(host: Host, start: Callable[..., Session]) -> None:
    first, second = start(), start()
    for one in (first, second):
        one.call("finish", {"count": 1, "stop": True})
        wait_until(lambda one=one: one.status().phase == "stopped", "it stopped")  # type: ignore[misc]
    assert first.await_completion().value == "done"
    assert {one.id: end.value for one, end in host.await_all([first, second]).items()} == {
        first.id: "done", second.id: "done",
    }  # fmt: skip
    assert host.await_any([first])[1].status == "completed"
    with pytest.raises(ProcessionError):
        first.await_result("some signal")
    host.resume_session(first.id)
    assert first.await_completion().value == "done"
    first.call("set", {"count": 1})
    assert "procession.finished" not in (first.committed_state() or {})


def test_an_effect_for_nobody_is_noted_as_an_error(start: Callable[..., Session]) -> None:
    session = start()
    session.call("nobody")
    wait_until(lambda: session.agent_status().errors == 1, "the host could not do it")
    assert "no session 'nobody of this name'" in session.agent_status().last_error


@pytest.mark.guarantee("R-55")
def test_who_has_its_answer_does_not_wait_so_what_follows_is_no_cycle(start: Callable[..., Session]) -> None:
    asker, other = start(Asker), start(Asker)
    asker.call("begin", {"other": other.id, "me": asker.id})
    wait_until(lambda: other.get_state()["note"] != "", "its call is over")
    assert (other.get_state()["note"], asker.get_state()["last_answer"]) == ("ok", "was asked")


# --- what an author holds on to ---------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-06")
def test_a_list_that_the_program_goes_on_using_is_not_the_states(start: Callable[..., Session]) -> None:
    session = start()
    first = session.cast("share", {"item": 1})
    with pytest.raises(AgentError):
        session.call("share", {"item": 2, "fail": True})
    assert session.get_state()["log"] == [1] == (session.committed_state() or {})["log"]
    session.call("share", {"item": 3})
    assert session.await_result(first) == [1]


@pytest.mark.guarantee("R-06")
def test_a_mapping_changed_in_place_is_not_the_states(start: Callable[..., Session]) -> None:
    session = start(Plain, state={"items": []})
    with pytest.raises(AgentError):
        session.call("spoil")
    session.call("spoil", {"fail": False})
    assert session.get_state() == {"items": []} == session.committed_state()


@pytest.mark.guarantee("R-06")
def test_a_policy_of_ones_own_can_neither_change_the_state_nor_end_the_process(start: Callable[..., Session]) -> None:
    session = start(Meddler)
    with pytest.raises(AgentError):
        session.call("raise", {"text": "x"})
    wait_until(lambda: session.agent_status().errors == 1, "it was asked")
    assert session.get_state()["log"] == []


def test_an_agent_that_fails_at_its_own_errors_does_not_go_round(start: Callable[..., Session]) -> None:
    session = start(TellsItself)
    with pytest.raises(AgentError):
        session.call("raise", {"text": "x"})
    wait_until(lambda: session.agent_status().errors == 2, "it failed, and failed at hearing of it")
    assert session.agent_status().last_error.startswith("queue_overflow")


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.guarantee("R-06")
def test_whatever_an_error_says_can_be_told(start: Callable[..., Session], ours: bool) -> None:
    session = start()
    for text in ("\ud800", os.fsdecode(b"\xff")):
        with pytest.raises(ProcessionError) as caught:
            session.call("raise", {"text": text, "ours": ours})
        assert text.encode("utf-8", "backslashreplace").decode() in str(caught.value)
    with pytest.raises(InvalidRequest):
        session.call("raise", {"\ud800": 1})


@pytest.mark.parametrize("key", ["procession.jobs", "procession.finished"])
def test_what_the_server_keeps_is_not_the_agents(host: Host, start: Callable[..., Session], key: str) -> None:
    session = start(Plain)
    with pytest.raises(AgentError) as caught:
        session.call("take", {"key": key})
    assert caught.value.code == "foreign_state"
    with pytest.raises(StartFailed, match=key):
        host.start_session(agent=Plain, state={key: {"a": 3}})


class Needs(BaseModel):
    must: int


class Needy(Agent[Needs]):
    pass


@pytest.mark.contract("3 agent resolution")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"agent": Needy}, "Needy cannot begin so: must: Field required"),
        (
            {"agent": Needy, "state": {"must": 1, "more": 2}},
            "Needy cannot begin so: Needs has no field more; there is must",
        ),
        (
            {"agent": "no_such_module:X"},
            "the agent cannot begin: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            {"agent": "broken_agent:X"},
            "the agent cannot begin: RuntimeError: no luck\n  {folder}/broken_agent.py:4, in <module>",
        ),
    ],
)
def test_why_an_agent_cannot_begin_is_said_without_our_own_lines(
    host: Host, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    (tmp_path / "broken_agent.py").write_text("def begin():\n    raise RuntimeError('no luck')\n\nbegin()\n")
    with pytest.raises(StartFailed) as caught:
        host.start_session(import_paths=[tmp_path], **given)
    assert str(caught.value).startswith(said.format(folder=tmp_path))
    assert "agent_proc" not in str(caught.value)


@pytest.mark.contract("3 agent resolution")
def test_the_code_sessions_own_class_is_a_code_session(host: Host) -> None:
    session = host.start_session(agent=CodeSessionAgent)
    assert session.get_todos() == []
    assert session.get_session().id == session.id
    host.remove_session(session.id)
