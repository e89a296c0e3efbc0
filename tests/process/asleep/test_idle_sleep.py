"""Sessions that give their processes back by themselves: when they are idle, and when another one needs the room."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import Counter, CounterState, send
from helpers.hosts import EventWatch
from helpers.waiting import wait_until
from procession import Host, InvalidRequest, Sandbox, Session, SessionLimitReached
from procession.agent import Agent, Change, Emit, SpawnAgent, StopChild, ToChild, action

pytestmark = pytest.mark.process

IDLE_S = 0.4


@pytest.fixture(scope="module")
def sleepy() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"], hibernate_after=IDLE_S) as opened:
        opened.remove_session(opened.start_session().id)
        yield opened


@contextmanager
def small(sessions_max: int, **options: object) -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"], max_sessions=sessions_max, **options) as opened:  # type: ignore[arg-type]
        yield opened


def phase_of(session: Session) -> str:
    return session.status().phase


def kept(session: Session, field: str) -> Any:
    """Return a field of its state as the host has it, which wakes nobody."""
    state = session.committed_state()
    return None if state is None else state[field]


def wait_asleep(session: Session) -> None:
    wait_until(lambda: phase_of(session) == "hibernated", f"{session} sleeps")


def outlives(session: Session, work: Callable[[], object]) -> None:
    """Have something go on, now and then, for longer than it may be idle; it is awake all the time."""
    until = time.monotonic() + 2.5 * IDLE_S
    while time.monotonic() < until:
        threading.Event().wait(IDLE_S / 10)
        work()
        assert phase_of(session) == "ready"


# --- idle ---------------------------------------------------------------------------------------------------------------
def test_one_that_nobody_calls_sleeps_and_wakes_and_sleeps_again(sleepy: Host) -> None:
    with EventWatch(sleepy) as watch:
        began = time.monotonic()
        session = sleepy.start_session(agent=Counter)
        assert watch.wait("session.hibernated", session).at - began >= IDLE_S
        assert session.call("counter.increment") == 1
        watch.wait("session.hibernated", session, count=2)
    assert session.call("counter.increment") == 2
    sleepy.remove_session(session.id)


def test_calls_and_commands_keep_it_awake(sleepy: Host) -> None:
    session = sleepy.start_session(agent=Counter)
    outlives(session, lambda: session.echo(b"x"))
    outlives(session, session.touch)
    command = session.start(["sleep", "60"])
    outlives(session, object)
    command.kill()
    wait_asleep(session)
    sleepy.remove_session(session.id)


def test_an_owner_and_who_follows_it_do_not_and_notice_nothing(sleepy: Host) -> None:
    session = sleepy.start_session(agent=Counter)
    with session.attach(), session.signals(follow=True) as told, session.follow_agent_status():
        wait_asleep(session)
        send(session, "counter.emit", {"to": "subscribers"})
        assert next(told).type == "counter.increment"
        wait_asleep(session)
    sleepy.remove_session(session.id)


def test_never_is_never(sleepy: Host) -> None:
    session = sleepy.start_session(hibernate_after=None)
    outlives(session, object)
    sleepy.remove_session(session.id)
    with small(3, hibernate_after=None) as host:
        other = host.start_session(hibernate_after=IDLE_S)
        awake = host.start_session()
        wait_asleep(other)
        assert phase_of(awake) == "ready"


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), True, "never"])
def test_a_time_that_is_none_is_refused(sleepy: Host, given: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sleepy.start_session(hibernate_after=given)  # type: ignore[arg-type]
    assert refused.value.code == "invalid_timeout"
    with pytest.raises(InvalidRequest):
        Host(hibernate_after=given)  # type: ignore[arg-type]


def test_one_that_sleeps_is_stopped_in_its_time(sleepy: Host) -> None:
    session = sleepy.start_session(idle_timeout=3 * IDLE_S)
    wait_asleep(session)
    wait_until(lambda: phase_of(session) == "stopped", "it was idle for too long")
    assert session.status().reason == "idle_timeout"


def test_a_delayed_signal_is_something_to_do_for_the_idle_timeout_too(host: Host) -> None:
    session = host.start_session(agent=Counter, idle_timeout=IDLE_S)
    send(session, "counter.later", {"ms": int(4 * IDLE_S * 1000)})
    wait_until(lambda: kept(session, "count") == 1, "its signal came while it was up")
    assert phase_of(session) == "ready"
    wait_until(lambda: phase_of(session) == "stopped", "there is nothing more to come")


# --- room -----------------------------------------------------------------------------------------------------------------
def test_more_sessions_than_may_run_are_all_used_as_if_they_ran() -> None:
    with small(2) as host:
        sessions = [host.start_session(agent=Counter) for _ in range(5)]
        for turn in range(1, 4):
            assert [session.call("counter.increment", timeout=20) for session in sessions] == [turn] * 5
            assert sum(phase_of(session) == "ready" for session in sessions) <= 2
        assert host.statistics().restarts == 0


def test_the_one_that_was_used_longest_ago_gives_way() -> None:
    with small(3) as host:
        first, second, third = (host.start_session() for _ in range(3))
        for session in (second, third, first):
            session.echo(b"x")
        host.start_session()
        assert [phase_of(session) for session in (first, second, third)] == ["ready", "hibernated", "ready"]
        assert second.append_message("user", "awake").content == "awake"
        assert phase_of(third) == "hibernated"


def test_who_has_work_does_not_give_way_and_with_nobody_else_that_is_told() -> None:
    with small(2) as host:
        busy, other = host.start_session(), host.start_session()
        commands = [session.start(["sleep", "60"]) for session in (busy, other)]
        with pytest.raises(SessionLimitReached) as refused:
            host.start_session()
        assert refused.value.ran == "no"
        commands[1].kill()
        wait_until(lambda: not commands[1].status().running, "it is over")
        late = host.start_session()
        assert [phase_of(session) for session in (busy, other, late)] == ["ready", "hibernated", "ready"]
        late.start(["sleep", "60"])
        with pytest.raises(SessionLimitReached):
            other.append_message("user", "no room")


def test_who_never_sleeps_by_itself_does_not_give_way_either() -> None:
    with small(1) as host:
        host.start_session(hibernate_after=None)
        with pytest.raises(SessionLimitReached):
            host.start_session()


def test_many_that_want_the_same_room_at_once_all_get_it() -> None:
    with small(2) as host:
        sessions = [host.start_session(agent=Counter) for _ in range(6)]
        answers: list[object] = []

        def call(session: Session) -> None:
            for _ in range(10):
                try:
                    answers.append(session.call("counter.increment", timeout=30))
                    return
                except SessionLimitReached as full:  # all that run were at work just then
                    answers.append(full)
                    threading.Event().wait(0.05)

        threads = [threading.Thread(target=call, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer for answer in answers if not isinstance(answer, SessionLimitReached)] == [1] * 6


# --- families -------------------------------------------------------------------------------------------------------------
class Parent(Agent[CounterState]):
    """Has a child, tells it things, and notes what it is told of it."""

    children = (Counter,)

    @action("parent.have")
    def have(self) -> Change:
        return Change().asking(SpawnAgent("helpers.agents:Counter", "one"))

    @action("parent.tell")
    def tell(self) -> Change:
        return Change().asking(Emit("counter.increment", {"by": 1}, ToChild("one")))

    @action("parent.end")
    def end(self) -> Change:
        return Change().asking(StopChild("one"))

    @action("procession.agent.child.started")
    def started(self, **_: Any) -> Change:
        return Change.set(notes=[*self.state.notes, "started"])

    @action("procession.agent.child.exit")
    def exited(self, **_: Any) -> Change:
        return Change.set(notes=[*self.state.notes, "exit"])


def test_a_child_that_sleeps_is_not_gone_and_a_signal_wakes_it(host: Host) -> None:
    parent = host.start_session(agent=Parent)
    parent.call("parent.have")
    wait_until(lambda: kept(parent, "notes") == ["started"], "there is a child")
    child = host.session(parent.children()[0].session)
    child.hibernate()
    assert [one.phase for one in parent.children()] == ["hibernated"]
    parent.call("parent.tell")
    wait_until(lambda: kept(child, "count") == 1, "it was told")
    assert phase_of(child) == "ready"
    child.hibernate()
    parent.hibernate()
    assert kept(parent, "notes") == ["started"]
    parent.call("parent.end")
    wait_until(lambda: kept(parent, "notes") == ["started", "exit"], "it is told of the end")
    assert phase_of(child) == "stopped"
    host.remove_session(parent.id)


def test_a_parent_that_is_killed_in_its_sleep_goes_without_its_child_being_woken(host: Host) -> None:
    parent = host.start_session(agent=Parent)
    parent.call("parent.have")
    wait_until(lambda: kept(parent, "notes") == ["started"], "there is a child")
    child = host.session(parent.children()[0].session)
    child.hibernate()
    parent.hibernate()
    host.stop_session(parent.id)
    assert [phase_of(session) for session in (parent, child)] == ["stopped", "stopped"]
    assert child.status().incarnation == 1


# --- durable --------------------------------------------------------------------------------------------------------------
def test_it_sleeps_on_over_a_restart_of_its_host(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=Sandbox.off()) as host:
        session = host.start_session(name="sleeper")
        session.append_message("user", "kept")
        session.hibernate()
        assert session.committed_state() is not None
    for restore in ("lazy", "eager"):
        with Host(tmp_path / "data", sandbox=Sandbox.off(), restore=restore) as host:
            again = host.session("sleeper")
            assert phase_of(again) == "hibernated"
    with Host(tmp_path / "data", sandbox=Sandbox.off()) as host:
        again = host.session("sleeper")
        again.append_message("user", "more")
        assert [message.content for message in again.get_messages()] == ["kept", "more"]


def test_a_death_while_it_wakes_is_counted_as_any_other_and_loses_nothing(host: Host) -> None:
    session = host.start_session(agent=Counter)
    session.call("counter.increment")
    session.hibernate()
    with EventWatch(host) as watch:
        session.echo(b"wake")
        pid = session.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        watch.wait("session.ready", session, count=2)
    assert (session.call("counter.increment"), session.status().restarts) == (2, 1)
    host.remove_session(session.id)
