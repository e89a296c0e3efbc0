"""Waiting until agents are finished: one, all, the first, a child; and what a wait that comes to nothing says."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.agents import Counter, send, state_of
from helpers.four_faces import FACES, play
from helpers.hosts import SLACK, pid_of
from helpers.waiting import wait_until
from procession import (
    AgentError,
    CallCancelled,
    CallTimedOut,
    Finished,
    Host,
    InvalidRequest,
    ProcessionError,
    Sandbox,
    Session,
    SessionDied,
    SessionNotFound,
)
from procession.agent import Agent, Change, Completion, Schedule, SpawnAgent, action

pytestmark = pytest.mark.process


class Nothing(BaseModel):
    pass


class Parent(Agent[Nothing]):
    """Starts a child on request, at once or later."""

    children = (Counter,)

    @action("parent.spawn")
    def spawn(self) -> Change:
        return Change().asking(SpawnAgent(f"{Counter.__module__}:Counter", "a", state={"count": 7}))

    @action("parent.spawn_later")
    def spawn_later(self, ms: int) -> Change:
        return Change().asking(Schedule(ms, "parent.spawn"))


class Job(BaseModel):
    state: str = "running"
    answer: Any = None
    why: Any = None


class JobState(BaseModel):
    job: Job = Job()
    asked_to_stop: bool = False


class Worker(Agent[JobState]):
    """Says elsewhere in its state that it is finished, and ends its work when it is asked to."""

    completion = Completion(("job", "state"), ("job", "answer"), ("job", "why"))

    @action("worker.finish")
    def finish(self, answer: Any) -> Change:
        return Change.set(job={"state": "completed", "answer": answer})

    @action("procession.agent.cancel")
    def cancel(self, reason: str = "") -> Change:
        return Change.set(asked_to_stop=True, job={"state": "failed", "why": reason})


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(opened.start_session(agent=Counter).id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def start(host: Host) -> Iterator[Callable[..., Session]]:
    """Start agents, counters unless told otherwise; all of them are gone afterwards."""
    yield lambda agent=Counter, **given: host.start_session(agent=agent, **given)
    for one in host.list_sessions(all=True):
        host.remove_session(one.id)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Do it in a thread of its own; what it returns, or the error it ends with, is in the list."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(work())
        except ProcessionError as error:
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def open_calls(session: Session) -> list[str]:
    return [call.op for call in session.calls() if call.state != "over"]


# --- one --------------------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 await_completion")
def test_whether_an_agent_completed_or_failed_is_told_with_its_answer_or_error(start: Callable[..., Session]) -> None:
    good, bad = start(state={"count": 3}), start()
    waiting, got = in_thread(good.await_completion)
    wait_until(lambda: open_calls(good) == ["await_result"], "it waits")
    good.call("counter.finish")
    waiting.join(5)
    bad.call("counter.finish", {"failed": True})
    assert got == [Finished("completed", 3)]
    assert good.await_completion() == Finished("completed", 3)  # looked at, not taken
    assert bad.await_completion() == Finished("failed", "it broke")
    assert bad.await_completion().asdict() == {"status": "failed", "value": "it broke"}


@pytest.mark.contract("3 await_completion")
def test_an_agent_may_say_elsewhere_in_its_state_that_it_is_finished(start: Callable[..., Session]) -> None:
    worker = start(Worker)
    with pytest.raises(CallTimedOut):
        worker.await_completion(timeout=0.1)
    worker.call("worker.finish", {"answer": [1, 2]})
    assert worker.await_completion() == Finished("completed", [1, 2])


@pytest.mark.contract("3 await_completion")
def test_who_waited_for_nothing_is_told_how_the_agent_is_doing_and_is_forgotten(start: Callable[..., Session]) -> None:
    session = start()
    session.call("counter.later", {"ms": 60_000})
    with pytest.raises(AgentError):
        session.call("counter.fail")
    session.cast("counter.fail")
    wait_until(lambda: session.agent_status().errors > 0, "it failed once")
    errors = session.agent_status().errors
    began = time.monotonic()
    with pytest.raises(CallTimedOut) as caught:
        session.await_completion(timeout=0.2)
    assert 0.2 <= time.monotonic() - began <= 0.2 + 0.5 * SLACK
    error = caught.value
    assert (error.code, error.ran, error.session) == ("await_timeout", "no", session.id)
    said = f"was not finished after 0.2 s; it is idle; signals to come later: 1; errors so far: {errors}, the last: "
    assert said in str(error)
    assert open_calls(session) == []
    session.call("counter.for_ever")
    with pytest.raises(CallTimedOut, match="it is at work, effects to carry out: 1"):
        session.await_completion(timeout=0.1)


@pytest.mark.contract("3 await_completion")
def test_a_process_that_dies_ends_the_wait_for_its_agent(start: Callable[..., Session]) -> None:
    session = start()
    waiting, got = in_thread(session.await_completion)
    wait_until(lambda: [call.state for call in session.calls()] == ["running"], "its process has the call")
    os.kill(pid_of(session), signal.SIGKILL)
    waiting.join(10)
    (error,) = got
    assert isinstance(error, SessionDied)


# --- all and any ------------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 Await all / any / child / cancel")
def test_all_are_waited_for_and_come_in_the_order_given(host: Host, start: Callable[..., Session]) -> None:
    agents = [start(state={"count": number}) for number in range(4)]
    waiting, got = in_thread(lambda: host.await_all([*agents, agents[0]]))
    for at in (2, 0, 3):
        agents[at].call("counter.finish", {"failed": at == 3})
    wait_until(lambda: open_calls(agents[1]) == ["await_result"], "the last one is waited for")
    assert got == []
    agents[1].call("counter.finish")
    waiting.join(10)
    expected = [
        Finished("completed", 0),
        Finished("completed", 1),
        Finished("completed", 2),
        Finished("failed", "it broke"),
    ]
    assert got == [dict(zip(agents, expected, strict=True))]
    assert list(got[0]) == agents  # type: ignore[call-overload]


@pytest.mark.contract("3 Await all / any / child / cancel")
def test_the_first_of_several_is_told_and_the_others_go_on_with_nobody_waiting(
    host: Host, start: Callable[..., Session]
) -> None:
    agents = [start() for _ in range(3)]
    waiting, got = in_thread(lambda: host.await_any(agents))
    wait_until(lambda: all(open_calls(one) == ["await_result"] for one in agents), "all are waited for")
    agents[1].call("counter.finish")
    waiting.join(10)
    assert got == [(agents[1], Finished("completed", 0))]
    for one in (agents[0], agents[2]):
        wait_until(lambda one=one: open_calls(one) == [], "nobody waits any more")  # type: ignore[misc]
        assert send(one, "counter.increment") == 1
    agents[0].call("counter.finish")
    assert host.await_any(agents)[0] in agents[:2]  # of several that are finished either


@pytest.mark.contract("3 Await all / any / child / cancel")
def test_of_nobody_all_are_finished_and_none_is(host: Host) -> None:
    assert host.await_all([]) == {}
    began = time.monotonic()
    with pytest.raises(CallTimedOut) as caught:
        host.await_any([])
    assert (caught.value.code, caught.value.ran) == ("await_timeout", "no")
    assert time.monotonic() - began < 1.0 * SLACK


@pytest.mark.contract("3 Await all / any / child / cancel")
@pytest.mark.parametrize("verb", ["await_all", "await_any"])
def test_one_that_can_no_longer_finish_ends_the_wait_and_is_named(
    host: Host, start: Callable[..., Session], verb: str
) -> None:
    busy, gone = start(), start()
    waiting, got = in_thread(lambda: getattr(host, verb)([busy, gone]))
    wait_until(lambda: all(open_calls(one) == ["await_result"] for one in (busy, gone)), "both are waited for")
    host.remove_session(gone.id)
    waiting.join(10)
    (error,) = got
    assert isinstance(error, ProcessionError)
    assert error.session == gone.id
    wait_until(lambda: open_calls(busy) == [], "nobody waits any more")
    with pytest.raises(SessionNotFound) as caught:
        getattr(host, verb)([busy, gone])
    assert caught.value.session == gone.id
    with pytest.raises(CallTimedOut) as timed_out:
        getattr(host, verb)([busy], timeout=0.1)
    assert timed_out.value.session == busy.id


@pytest.mark.parametrize("given", [None, 3, ["an id"], [None]])
def test_what_is_no_session_is_not_waited_for(host: Host, given: object) -> None:
    for verb in (host.await_all, host.await_any):
        with pytest.raises(InvalidRequest) as caught:
            verb(given)  # type: ignore[arg-type]
        assert caught.value.code == "invalid_session"


# --- a child ----------------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 Await all / any / child / cancel")
def test_a_child_is_waited_for_before_it_is_there(host: Host, start: Callable[..., Session]) -> None:
    parent = start(Parent)
    with pytest.raises(CallTimedOut, match=r"there was no child 'a' within 0\.1 s"):
        parent.await_child("a", timeout=0.1)
    waiting, got = in_thread(lambda: parent.await_child("a"))
    parent.call("parent.spawn_later", {"ms": 100})
    wait_until(lambda: [one.phase for one in parent.children()] == ["ready"], "the child is there")
    host.session(parent.children()[0].session).call("counter.finish")
    waiting.join(10)
    assert got == [Finished("completed", 7)]
    assert parent.await_child("a", timeout=1) == Finished("completed", 7)


# --- cancelling -------------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 Await all / any / child / cancel")
def test_to_ask_an_agent_to_cancel_is_advice(start: Callable[..., Session]) -> None:
    worker, counter = start(Worker), start()
    for one in (worker, counter):
        one.cast("procession.agent.cancel", {"reason": "enough"})
    assert worker.await_completion() == Finished("failed", "enough")
    assert state_of(worker)["asked_to_stop"] is True
    assert (counter.call("counter.increment"), counter.agent_status().errors) == (1, 0)  # it does not care


@pytest.mark.contract("3 Await all / any / child / cancel")
def test_a_wait_can_be_called_off_and_the_agent_does_not_notice(start: Callable[..., Session]) -> None:
    session = start()
    waiting, got = in_thread(session.await_completion)
    wait_until(lambda: open_calls(session) == ["await_result"], "it waits")
    session.cancel(next(call.id for call in session.calls() if call.op == "await_result"))
    waiting.join(10)
    assert isinstance(got[0], CallCancelled)
    assert session.call("counter.increment") == 1


# --- every face -------------------------------------------------------------------------------------------------------
@pytest.mark.contract("3 Await all / any / child / cancel", "3 await_completion")
@pytest.mark.parametrize("face", FACES)
def test_every_face_waits(tmp_path: Path, face: str) -> None:
    async def scenario(host: Any) -> None:
        a, b = [await host.start_session(agent=Counter) for _ in range(2)]
        handles = [getattr(one, "handle", one) for one in (a, b)]
        await a.call("counter.finish")
        assert await a.await_completion() == Finished("completed", 0)
        assert await host.await_any(handles) == (handles[0], Finished("completed", 0))
        with pytest.raises(CallTimedOut):
            await host.await_all(handles, timeout=0.1)
        await b.call("counter.finish")
        assert await host.await_all(handles) == dict.fromkeys(handles, Finished("completed", 0))
        assert await host.await_all([]) == {}
        with pytest.raises(CallTimedOut):
            await host.await_any([])
        parent = await host.start_session(agent=Parent)
        await parent.call("parent.spawn")
        with pytest.raises(CallTimedOut):
            await parent.await_child("a", timeout=0.3)
        with pytest.raises(InvalidRequest):
            await parent.await_child("a", timeout=0)

    play(face, tmp_path, scenario)


def test_a_cancelled_task_waits_for_nobody_any_more() -> None:
    async def main() -> None:
        from procession import AsyncHost

        async with AsyncHost(sandbox=Sandbox.off(), preload=["pydantic"]) as host:
            agents = [await host.start_session(agent=Counter) for _ in range(2)]
            waiting = asyncio.create_task(host.await_all(agents))
            for _ in range(2):  # a turn of the loop for the task, and one for its own, which ask
                await asyncio.sleep(0)
            assert [(await one.status()).calls for one in agents] == [1, 1]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert [(await one.status()).calls for one in agents] == [0, 0]

    asyncio.run(main())
