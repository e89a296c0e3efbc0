"""A session that gives its process back: what is left of it, what wakes it, and what keeps it awake."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.agents import Caller, Counter, result_of, send, state_of
from helpers.cli import procession
from helpers.hosts import EventWatch, pid_of
from helpers.proc import look_at
from helpers.waiting import wait_until
from procession import (
    AlreadyExists,
    AsyncHost,
    Host,
    InvalidRequest,
    Sandbox,
    Session,
    SessionNotRunning,
)

pytestmark = pytest.mark.process


def texts(session: Session) -> list[object]:
    return [message.content for message in session.get_messages()]


# --- what it is -------------------------------------------------------------------------------------------------------
def test_its_process_is_gone_and_all_that_it_knows_is_there(host: Host, tmp_path: Path) -> None:
    session = host.start_session(tmp_path, name="sleeper")
    session.append_message("user", "kept")
    session.exec(["echo", "last words"])
    pid = pid_of(session)
    with EventWatch(host) as watch:
        session.hibernate()
        assert look_at(pid) is None
        status = session.status()
        assert (status.phase, status.pid, status.name, status.restarts) == ("hibernated", None, "sleeper", 0)
        assert [listed.id for listed in host.list_sessions()] == [session.id]
        state = session.committed_state()
        assert state is not None
        assert state["messages"][0]["content"] == "kept"
        assert [chunk.text for chunk in session.logs()] == ["last words\n"]
        report = session.last_report()
        assert report is not None
        assert (report.ended, report.exit_code) == ("exit", 0)
        session.hibernate()
        with pytest.raises(AlreadyExists) as refused:
            host.start_session(tmp_path)
        assert refused.value.code == "project_already_open"
        assert session.status().phase == "hibernated"

        assert session.append_message("user", "more").content == "more"
        watch.wait("session.ready", session)
    assert texts(session) == ["kept", "more"]
    kinds = [seen.event.type for seen in watch.seen if seen.event.session == session.id]
    assert kinds == [
        "session.ended", "session.hibernated", "session.woken", "session.starting", "session.ready",
    ]  # fmt: skip
    assert session.status().incarnation == 2
    host.remove_session(session.id)


def test_an_agent_of_ones_own_goes_on_where_it_was(host: Host) -> None:
    session = host.start_session(agent=Counter, state={"count": 40})
    session.call("counter.increment", {"by": 1})
    session.hibernate()
    assert session.call("counter.increment") == 42
    host.remove_session(session.id)


def test_the_other_verbs_find_it_at_rest(host: Host) -> None:
    session = host.start_session(name="verbs")
    session.append_message("user", "kept")
    session.hibernate()
    session.kill()
    assert session.status().phase == "hibernated"
    session.restart()
    assert session.status().phase == "ready"
    session.hibernate()
    session.stop()
    assert session.status().phase == "stopped"
    with pytest.raises(SessionNotRunning) as refused:
        session.hibernate()
    assert refused.value.code == "stopped"
    host.resume_session(session.id)
    session.kill()
    session.hibernate()
    assert (session.status().phase, texts(session)) == ("hibernated", ["kept"])
    host.remove_session(session.id)


def test_one_that_has_failed_is_not_put_to_sleep(host: Host) -> None:
    session = host.start_session(agent=Counter, restart="temporary")
    with EventWatch(host) as watch:
        os.kill(pid_of(session), signal.SIGKILL)
        watch.wait("session.failed", session)
    with pytest.raises(SessionNotRunning) as refused:
        session.hibernate()
    assert refused.value.code == "failed"
    host.remove_session(session.id)


def test_async_remote_and_the_command_line_do_the_same(tmp_path: Path) -> None:
    async def asleep(folder: Path) -> str:
        async with AsyncHost.connect(folder, sandbox=Sandbox.off()) as client:
            session = await client.session("one")
            await session.hibernate()
            return (await session.status()).phase

    with Host(tmp_path / "data", sandbox=Sandbox.off()) as host:
        one, two = host.start_session(name="one"), host.start_session(name="two")
        command = two.start(["sleep", "60"])
        assert asyncio.run(asleep(tmp_path / "data")) == "hibernated"
        done = procession("hibernate", "--data-dir", tmp_path / "data", "one", "two")
        assert (done.code, done.out) == (2, f"one ({one.id}) hibernated\n")
        assert "commands that it started run: 1" in done.err
        command.kill()
        wait_until(lambda: not command.status().running, "the command is over")
        assert procession("hibernate", "--data-dir", tmp_path / "data", "two").code == 0
        assert {session.name: session.phase for session in host.list_sessions()} == {
            "one": "hibernated", "two": "hibernated",
        }  # fmt: skip


def _forever() -> None:
    threading.Event().wait(60)


# --- what keeps it awake ----------------------------------------------------------------------------------------------
def refused(session: Session) -> str:
    with pytest.raises(InvalidRequest) as caught:
        session.hibernate()
    assert (caught.value.code, caught.value.ran, caught.value.session) == ("session_busy", "no", session.id)
    assert session.status().phase == "ready"
    return caught.value.message


def _run(session: Session) -> Callable[[], object]:
    return session.submit(_forever).cancel


def _command(session: Session) -> Callable[[], object]:
    command = session.start(["sleep", "60"])

    def end() -> None:
        command.kill()
        wait_until(lambda: not command.status().running, "it is over")

    return end


def _interpreter(session: Session) -> Callable[[], object]:
    session.run_code("x = 1")
    return session.restart


def _awaited_result(session: Session) -> Callable[[], object]:
    thread = threading.Thread(target=lambda: _ignoring(lambda: result_of(session, "never", timeout_s=1.0)))
    thread.start()
    wait_until(lambda: any(call.op == "await_result" for call in session.calls()), "it is awaited")
    return thread.join


def _delayed_signal(session: Session) -> Callable[[], object]:
    send(session, "counter.later", {"ms": 60_000})
    return session.restart


def _cron(session: Session) -> Callable[[], object]:
    send(session, "counter.cron", {"cron": "0 0 1 1 *"})
    return lambda: send(session, "counter.cron_cancel")


def _effects(session: Session) -> Callable[[], object]:
    send(session, "counter.for_ever", wait=False)
    session.echo(b"it is behind that")
    return session.restart


def _fresh_result(session: Session) -> Callable[[], object]:
    session.cast("counter.increment")
    session.echo(b"it is behind that")
    return session.restart


def _ignoring(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        pass


@pytest.mark.parametrize(
    ("begin", "named"),
    [
        (_run, "calls are open"), (_awaited_result, "calls are open"), (_command, "commands that it started run: 1"),
        (_interpreter, "its interpreter (run_code) is alive"), (_delayed_signal, "delayed signals are to come: 1"),
        (_cron, "cron jobs of its agent: 1"), (_effects, "effects of its agent are to be carried out"),
        (_fresh_result, "the result of a signal may still be awaited"),
    ],
)  # fmt: skip
def test_what_it_needs_its_process_for_is_named_and_it_sleeps_afterwards(host: Host, begin, named: str) -> None:
    session = host.start_session(agent=Counter)
    end = begin(session)
    wait_until(lambda: named in refused(session), f"what keeps it awake is named: {named}")
    assert session.ping() > 0
    end()
    wait_until(lambda: _sleeps(session), "nothing keeps it awake any more")
    host.remove_session(session.id)


def _sleeps(session: Session) -> bool:
    try:
        session.hibernate()
    except InvalidRequest as error:
        if error.code != "session_busy":
            raise
        return False
    return session.status().phase == "hibernated"


def test_an_agent_that_awaits_another_one_is_awake_and_the_other_is_woken(host: Host) -> None:
    asked, asker = host.start_session(agent=Caller), host.start_session(agent=Caller)
    asked.hibernate()
    assert send(asker, "caller.ask", {"of": asked.id, "path": []}) is not None
    assert asked.status().phase == "ready"
    waiting = threading.Thread(
        target=lambda: _ignoring(
            lambda: send(asker, "caller.ask_for", {"of": asked.id, "kind": "caller.never", "timeout_s": 1.0})
        )
    )
    waiting.start()
    wait_until(lambda: any(call.op == "signal" for call in asked.calls() if call.state != "over"), "it is asked")
    assert "calls are open" in refused(asker)
    assert "calls are open" in refused(asked)
    waiting.join()
    for session in (asker, asked):
        host.remove_session(session.id)


def test_a_responder_that_answers_keeps_it_awake(host: Host) -> None:
    session = host.start_session(responder=_slowly)
    sending = threading.Thread(target=lambda: _ignoring(lambda: session.send_message("hello", timeout=30)))
    sending.start()
    wait_until(lambda: any(call.op == "send_message" for call in session.calls()), "it answers")
    assert "calls are open" in refused(session)
    session.kill()
    sending.join()
    session.append_message("user", "goes on")
    session.hibernate()
    host.remove_session(session.id)


def _slowly(turn: object) -> str:
    _forever()
    return "never said"


def test_a_promotion_that_is_to_come_keeps_it_awake_until_it_has_been(host: Host) -> None:
    session = host.start_session()
    session.memory.add("the tests are slow", "fact", 0.9, "tool", importance_score=0.9)
    assert "memories are to be promoted" in refused(session)
    session.memory.run_promotion_now()
    session.hibernate()
    assert [memory.content for memory in session.memory.all()] == ["the tests are slow"]
    host.remove_session(session.id)


# --- calls that come while it is put to sleep ---------------------------------------------------------------------------
def test_no_call_is_lost_or_refused_while_it_is_put_to_sleep_again_and_again(host: Host) -> None:
    session = host.start_session(agent=Counter)
    calls_each, failures = 25, []
    over, pause = threading.Event(), threading.Event()

    def call() -> None:
        for _ in range(calls_each):
            try:
                session.call("counter.increment", timeout=20)
            except Exception as error:
                failures.append(error)
            pause.wait(0.004)  # so that there is a moment with no call in it

    def put_to_sleep() -> None:
        while not over.is_set():
            _sleeps(session)
            pause.wait(0.002)

    callers = [threading.Thread(target=call) for _ in range(3)]
    sleeper = threading.Thread(target=put_to_sleep)
    with ExitStack() as stack:
        for thread in (*callers, sleeper):
            thread.start()
        stack.callback(over.set)
        for thread in callers:
            thread.join()
        over.set()
        sleeper.join()
    assert failures == []
    assert state_of(session)["count"] == 3 * calls_each
    status = session.status()
    assert status.restarts == 0
    assert status.incarnation > 3, "it was hardly ever put to sleep"
    host.remove_session(session.id)


def test_fail_fast_does_not_leave_it_asleep(host: Host) -> None:
    session = host.start_session(agent=Counter)
    session.hibernate()
    fast = session.using(fail_fast=True)
    with pytest.raises(Exception, match="no process"):
        fast.call("counter.increment")
    wait_until(lambda: session.status().phase == "ready", "it was woken all the same")
    assert fast.call("counter.increment") == 1
    host.remove_session(session.id)
