"""Contract section 3, what one agent server promises that no other file shows: turns, policies, what a death forgets, keys."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.agents import Counter, state_of
from helpers.hosts import SLACK, pid_of
from helpers.waiting import wait_until
from procession import AgentError, AlreadyExists, Host, Sandbox, Session
from procession.agent import Agent, Change, Custom, Emit, EmitErrors, Error, Schedule, action

pytestmark = pytest.mark.process


class LogState(BaseModel):
    lines: list[str] = []
    strict: bool = False


class Slow(Agent[LogState]):
    """Takes its time, fails on request, and keeps what it is told."""

    @action("slow.work")
    def work(self, seconds: float, line: str) -> Change:
        time.sleep(seconds)  # payload: an action that takes its time
        return self.note(line)

    @action("slow.note")
    def note(self, line: str) -> Change:
        return Change.set(lines=[*self.state.lines, line]).replying(line)

    @action("slow.fail")
    def fail(self, strict: bool = False) -> Change:
        raise ValueError("no")

    @action("slow.be_strict")
    def be_strict(self) -> Change:
        return Change.set(strict=True)

    @action("slow.later")
    def later(self, ms: int) -> Change:
        return Change().asking(Schedule(ms, "slow.note", {"line": "late"}))

    @action("slow.remind")
    def remind(self, ms: int) -> Change:
        return Change().asking(Schedule(ms))

    @action("procession.scheduled")
    def reminded(self) -> Change:
        return self.note("reminded")

    @action("slow.two")
    def two(self) -> Change:
        return self.note("two").asking(
            Emit("slow.unheard_of", None, "self"), Emit("slow.note", {"line": "after"}, "self")
        )

    @action("procession.agent.error")
    def failed(self, kind: str, code: str, message: str, context: str, action: str) -> Change:
        return self.note(f"{context} {code} {action}")


class Telling(Slow):
    error_policy = EmitErrors("self")


def strictly(error: Error, state: Any) -> str:
    return "stop" if state["strict"] else "ok"


class Choosing(Slow):
    error_policy = Custom(strictly)  # type: ignore[arg-type]


class Broken(Slow):
    error_policy = Custom(lambda error, state: state["no such field"])


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(opened.start_session(agent=Counter).id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    """Start agents; all of them are gone afterwards."""
    yield lambda agent=Slow, **given: host.start_session(agent=agent, **given)
    for one in host.list_sessions(all=True):
        host.remove_session(one.id)


def lines_of(session: Session) -> list[str]:
    found: list[str] = state_of(session)["lines"]
    return found


# --- one signal at a time ---------------------------------------------------------------------------------------------
@pytest.mark.contract("3 sync-call scheduling", "3 call")
def test_what_comes_during_a_slow_call_is_handled_after_it_in_order_and_the_state_can_be_read_meanwhile(
    start: Callable[..., Session],
) -> None:
    session = start()
    slow = threading.Thread(target=lambda: session.call("slow.work", {"seconds": 0.5, "line": "slow"}))
    slow.start()
    wait_until(lambda: [call.state for call in session.calls()] == ["running"], "it is at work")
    for number in range(3):
        _cast_aside(session, number)
    assert lines_of(session) == ["slow", "0", "1", "2"]
    slow.join(5)


def _cast_aside(session: Session, number: int) -> None:
    """Cast without waiting until it is taken: a session that is at work takes it later."""
    before = session.status().calls
    threading.Thread(target=lambda: session.cast("slow.note", {"line": str(number)}, timeout=10)).start()
    wait_until(lambda: session.status().calls > before, "it is on its way")


@pytest.mark.contract("3 sync-call scheduling")
def test_the_committed_state_is_read_at_once_while_an_action_runs(start: Callable[..., Session]) -> None:
    session = start()
    session.call("slow.note", {"line": "before"})
    slow = threading.Thread(target=lambda: session.call("slow.work", {"seconds": 1.0, "line": "slow"}))
    slow.start()
    wait_until(lambda: [call.state for call in session.calls() if call.state != "over"] == ["running"], "it is at work")
    began = time.monotonic()
    committed = session.committed_state()
    assert committed is not None
    assert committed["lines"] == ["before"]
    assert session.status().phase == "ready"
    assert time.monotonic() - began < 0.2 * SLACK
    slow.join(10)


@pytest.mark.contract("3 call")
def test_a_call_is_answered_before_what_it_asked_for_is_done(start: Callable[..., Session]) -> None:
    session = start()
    assert session.call("slow.two") == "two"
    wait_until(lambda: lines_of(session) == ["two", "after"], "the effects came, the one that failed too")
    assert session.agent_status().errors == 0  # nobody's action failed: it has no route


@pytest.mark.contract("3 status")
def test_an_agent_is_idle_until_effects_wait(start: Callable[..., Session]) -> None:
    session = start(Counter)
    seen = session.agent_status()
    assert (seen.agent, seen.status, seen.finished, seen.queued) == ("Counter", "idle", "", 0)
    session.call("counter.for_ever")
    seen = session.agent_status()
    assert (seen.status, seen.queued) == ("processing", 1)


# --- error policies ---------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 error policy")
def test_a_policy_tells_each_error_as_a_signal(start: Callable[..., Session]) -> None:
    session = start(Telling)
    for number in range(2):
        session.cast("slow.fail")
        wait_until(lambda n=number: len(lines_of(session)) == n + 1, "it is told")  # type: ignore[misc]
    assert lines_of(session) == ["instruction agent_error fail"] * 2
    assert session.agent_status().errors == 2


@pytest.mark.contract("3 error policy")
def test_a_function_decides_and_one_that_fails_itself_lets_the_agent_go_on(
    host: Host, start: Callable[..., Session]
) -> None:
    session, broken = start(Choosing), start(Broken)
    for one in (session, broken):
        one.cast("slow.fail")
        wait_until(lambda one=one: one.agent_status().errors == 1, "it is counted")  # type: ignore[misc]
    session.call("slow.be_strict")
    session.cast("slow.fail")
    wait_until(lambda: session.status().phase == "stopped", "its function said stop")
    assert session.status().reason.startswith("agent_error: ")
    assert broken.call("slow.note", {"line": "here"}) == "here"
    told = [str(event.data["text"]) for event in host.events() if event.session == broken.id and "text" in event.data]
    assert any("the error policy raised KeyError" in text for text in told)


@pytest.mark.contract("3 error policy")
def test_an_error_that_its_caller_was_told_is_the_policy_s_too(start: Callable[..., Session]) -> None:
    session = start(Telling)
    with pytest.raises(AgentError):
        session.call("slow.fail")
    wait_until(lambda: lines_of(session) == ["instruction agent_error fail"], "it is told")


# --- time -------------------------------------------------------------------------------------------------------------
@pytest.mark.contract("2.2 Schedule", "3 Schedule / scheduled")
def test_a_delayed_signal_is_lost_in_a_crash_and_kept_from_no_other(start: Callable[..., Session]) -> None:
    session = start()
    session.call("slow.later", {"ms": 60_000})
    session.call("slow.note", {"line": "kept"})
    assert session.agent_status().schedules == 1
    before = session.status().incarnation
    os.kill(pid_of(session), signal.SIGKILL)
    wait_until(lambda: session.status().incarnation > before and session.status().phase == "ready", "it is back")
    assert (session.agent_status().schedules, lines_of(session)) == (0, ["kept"])


@pytest.mark.contract("2.2 Schedule", "3 Schedule / scheduled")
def test_a_delay_without_a_type_is_a_signal_that_says_so(start: Callable[..., Session]) -> None:
    session = start()
    session.call("slow.remind", {"ms": 0})
    wait_until(lambda: lines_of(session) == ["reminded"], "procession.scheduled came")


# --- one agent for a key ----------------------------------------------------------------------------------------------
@pytest.mark.contract("3 InstanceManager")
def test_however_many_ask_for_a_key_at_once_all_get_the_one_that_is_started(host: Host) -> None:
    for round_ in range(3):
        begin = threading.Barrier(12)
        got: list[Session] = []

        def ask(begin: threading.Barrier = begin, got: list[Session] = got, key: str = f"key {round_}") -> None:
            begin.wait()
            session = host.get_or_start_session(key, agent=Counter)
            session.call("counter.increment")
            got.append(session)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (len(got), len(set(got))) == (12, 1)
        assert got[0].get_state()["count"] == 12  # nobody got one that was not ready, and none was lost
        assert len(host.list_sessions(all=True)) == 1
        host.remove_session(got[0].id)


@pytest.mark.contract("3 InstanceManager")
def test_a_key_that_could_not_be_started_is_free(host: Host, start: Callable[..., Session], tmp_path: Any) -> None:
    other = start(project=tmp_path)
    with pytest.raises(AlreadyExists):
        host.get_or_start_session("key", tmp_path)
    other.stop()
    assert host.get_or_start_session("key", tmp_path) == host.session("key")
