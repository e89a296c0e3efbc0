"""The agent server in a real session process: calls, casts, results, effects, errors, time, and what a death leaves."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.agents import (
    Counter,
    Patient,
    Strict,
    Ticking,
    act,
    debug_events,
    result_of,
    send,
    state_of,
    status_of,
)
from helpers.hosts import SLACK, pid_of
from helpers.proc import look_at
from helpers.waiting import wait_until
from procession import (
    AgentError,
    CallTimedOut,
    Host,
    InvalidRequest,
    ProcessionError,
    Sandbox,
    Session,
    StartFailed,
)
from procession.agent import Agent

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(
            opened.start_session(agent=Counter).id
        )  # its zygote is the fixture's, not the first test's
        yield opened


@pytest.fixture
def counter(host: Host) -> Iterator[Session]:
    session = host.start_session(agent=Counter, state={"count": 5})
    yield session
    host.remove_session(session.id)


def kill(session: Session) -> None:
    """Kill the session's process and wait until there is another one."""
    pid, before = pid_of(session), session.status().incarnation
    seen = look_at(pid)
    assert seen is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: session.status().incarnation > before and session.status().phase == "ready", "it is back")


@pytest.mark.contract("3 start / start_link / child_spec")
# --- calls ------------------------------------------------------------------------------------------------------------
def test_an_agent_begins_with_what_it_was_given(counter: Session) -> None:
    assert state_of(counter)["count"] == 5
    assert state_of(counter)["status"] == "working"


@pytest.mark.contract("3 call")
def test_a_call_answers_with_what_its_action_replies_and_the_state_is_the_hosts_too(counter: Session) -> None:
    assert [send(counter, "counter.increment") for _ in range(5)] == [6, 7, 8, 9, 10]
    assert act(counter, "increment", by=90) == 100
    assert state_of(counter)["count"] == 100


@pytest.mark.contract("2.3 unknown types", "3 call", "3 routing")
def test_an_unknown_type_is_refused_with_what_there_is(counter: Session) -> None:
    with pytest.raises(InvalidRequest) as caught:
        send(counter, "counter.decrement")
    assert (caught.value.code, caught.value.ran) == ("no_route", "no")
    assert "counter.increment" in caught.value.hint or "more" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "not a type"}, "invalid_signal_type"),
        ({"source": ""}, "invalid_signal_source"),
        ({"id": ""}, "invalid_signal_id"),
        ({"time": "yesterday"}, "invalid_signal_time"),
    ],
)
def test_what_is_no_signal_is_refused(counter: Session, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        send(counter, str(fields.get("type", "counter.increment")), **{k: v for k, v in fields.items() if k != "type"})
    assert caught.value.code == code


@pytest.mark.contract("3 cast")
@pytest.mark.guarantee("R-06")
@pytest.mark.parametrize("kind", ["counter.fail", "counter.spoil", "counter.leave"])
def test_an_action_that_raises_changes_nothing_and_the_session_lives(counter: Session, kind: str) -> None:
    before, pid = state_of(counter), pid_of(counter)
    for _ in range(19):
        with pytest.raises(AgentError):
            send(counter, kind)
    with pytest.raises(AgentError) as caught:
        send(counter, kind)
    error = caught.value
    assert error.ran == "yes"
    if kind == "counter.fail":
        assert (error.exception_type, "no" in str(error)) == ("ValueError", True)
        assert "raise ValueError(text)" in error.traceback
    assert state_of(counter) == before
    assert (pid_of(counter), counter.status().restarts, counter.status().incarnation) == (pid, 0, 1)
    assert send(counter, "counter.increment") == before["count"] + 1


def test_an_action_without_end_ends_the_session_at_its_deadline_and_the_state_is_what_was_acknowledged(
    counter: Session,
) -> None:
    assert send(counter, "counter.increment") == 6
    with pytest.raises(ProcessionError) as caught:
        send(counter, "counter.spin", timeout_s=0.3)
    assert caught.value.ran == "maybe"
    wait_until(
        lambda: counter.status().incarnation == 2 and counter.status().phase == "ready", "it is back", timeout_s=15
    )
    assert state_of(counter)["count"] == 6


@pytest.mark.contract("3 cast")
# --- casts, results and finishing -------------------------------------------------------------------------------------
def test_a_cast_is_taken_at_once_and_its_result_can_be_asked_for_later_by_any_number(counter: Session) -> None:
    ids = [send(counter, "counter.increment", {"by": by}, wait=False) for by in (1, 2, 3)]
    assert [result_of(counter, one) for one in ids] == [6, 8, 11]
    assert result_of(counter, ids[0]) == 6
    failing = send(counter, "counter.fail", wait=False)
    with pytest.raises(AgentError):
        result_of(counter, failing)


@pytest.mark.contract("2.2 Reply")
def test_a_call_that_is_answered_later_waits_for_its_reply(counter: Session) -> None:
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(send(counter, "counter.ask")))
    asking.start()
    wait_until(lambda: state_of(counter)["asker"] != "", "it was asked")
    assert answers == []
    send(counter, "counter.tell", {"value": {"answer": [42]}})
    asking.join(5)
    assert answers == [{"answer": [42]}]


@pytest.mark.contract("3 call")
def test_a_call_that_nobody_answers_ends_at_its_deadline_and_costs_the_session_nothing(counter: Session) -> None:
    with pytest.raises(CallTimedOut):
        send(counter, "counter.ask", timeout_s=0.2)
    assert (counter.status().incarnation, send(counter, "counter.increment")) == (1, 6)


@pytest.mark.contract("3 await_completion", "3 state / status / stream_status")
def test_a_finished_agent_is_awaited_and_a_failed_one_too(host: Host, counter: Session) -> None:
    got: list[object] = []
    waiting = [threading.Thread(target=lambda: got.append(result_of(counter))) for _ in range(3)]
    for one in waiting:
        one.start()
    assert status_of(counter).finished == ""
    send(counter, "counter.finish")
    for one in waiting:
        one.join(5)
    assert got == [5, 5, 5]
    assert (result_of(counter), status_of(counter).finished) == (5, "completed")
    failed = host.start_session(agent=Counter)
    send(failed, "counter.finish", {"failed": True})
    assert (result_of(failed), status_of(failed).finished) == ("it broke", "failed")
    host.remove_session(failed.id)


@pytest.mark.contract("3 await_completion")
def test_awaiting_what_does_not_come_ends_at_the_deadline_and_leaves_no_waiter(counter: Session) -> None:
    for _ in range(3):
        with pytest.raises(CallTimedOut) as caught:
            result_of(counter, "unheard-of", timeout_s=0.1)
        assert caught.value.code in ("await_timeout", "timeout")
    assert send(counter, "counter.increment") == 6


@pytest.mark.contract("2.2 Emit", "3 directive queue and drain")
# --- effects ----------------------------------------------------------------------------------------------------------
def test_effects_run_in_order_after_the_answer(counter: Session) -> None:
    assert send(counter, "counter.emit", {"count": 200}) is None
    wait_until(lambda: state_of(counter)["count"] == 205, "all of them")
    assert status_of(counter).queued == 0


@pytest.mark.contract("3 directive queue and drain")
def test_too_many_effects_are_refused_and_nothing_of_the_command_is_kept(counter: Session) -> None:
    with pytest.raises(AgentError) as caught:
        send(counter, "counter.emit", {"count": 301})
    assert (caught.value.code, caught.value.applied) == ("queue_overflow", False)
    assert state_of(counter)["count"] == 5
    send(counter, "counter.emit", {"count": 300})
    wait_until(lambda: state_of(counter)["count"] == 305, "as many as there is room for")


@pytest.mark.contract("2.2 RunInstruction")
def test_an_instruction_of_its_own_comes_back_with_its_result(counter: Session) -> None:
    send(counter, "counter.step", {"by": 7})
    wait_until(lambda: state_of(counter)["notes"] == ["ok 12 7 increment"], "the result came back")


@pytest.mark.contract("3 directive queue and drain")
def test_an_endless_chain_of_effects_does_not_keep_callers_out(counter: Session) -> None:
    send(counter, "counter.emit", {"count": 250, "by": 0})
    quick = [_timed(lambda: send(counter, "counter.increment", {"by": 0})) for _ in range(20)]
    assert statistics.median(quick) < 0.1 * SLACK


def test_an_agent_that_tells_itself_something_for_ever_still_answers_and_can_be_stopped(host: Host) -> None:
    session = host.start_session(agent=Counter)
    send(session, "counter.for_ever")
    assert [send(session, "counter.increment") for _ in range(20)] == list(range(1, 21))
    assert session.run(len, "abc") == 3
    began = time.monotonic()
    host.remove_session(session.id)
    assert time.monotonic() - began <= 2 * SLACK


def _timed(work: object) -> float:
    began = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - began


@pytest.mark.contract("2.2 Stop")
def test_an_agent_can_end_its_session(host: Host) -> None:
    session = host.start_session(agent=Counter)
    send(session, "counter.stop", {"reason": "all done"})
    wait_until(lambda: session.status().phase == "stopped", "it is stopped")
    assert session.status().restarts == 0
    host.remove_session(session.id)


@pytest.mark.contract("3 error policy")
# --- error policies ---------------------------------------------------------------------------------------------------
def test_errors_are_logged_and_the_agent_goes_on_unless_told_otherwise(host: Host, counter: Session) -> None:
    send(counter, "counter.fail", wait=False)
    wait_until(lambda: status_of(counter).errors == 1, "it is counted")
    notices = [event for event in host.events() if event.type == "session.notice" and event.session == counter.id]
    assert any("fail raised ValueError" in str(event.data["text"]) for event in notices)


@pytest.mark.contract("3 error policy")
@pytest.mark.parametrize(("kind", "errors"), [(Strict, 1), (Patient, 3)])
def test_a_policy_ends_the_agent_at_its_error(host: Host, kind: type[Agent[object]], errors: int) -> None:
    session = host.start_session(agent=kind)
    for _ in range(errors - 1):
        send(session, "counter.fail", wait=False)
    with pytest.raises(InvalidRequest):
        send(session, "counter.unknown")  # its sender's error, not the agent's
    assert session.status().phase == "ready"
    send(session, "counter.fail", wait=False)
    wait_until(lambda: session.status().phase == "stopped", "the policy ended it")
    host.remove_session(session.id)


@pytest.mark.contract("2.2 Schedule", "3 Schedule / scheduled")
# --- time -------------------------------------------------------------------------------------------------------------
def test_a_scheduled_signal_comes_when_it_is_due_and_not_before(counter: Session) -> None:
    began = time.monotonic()
    send(counter, "counter.later", {"ms": 200, "by": 10})
    send(counter, "counter.later", {"ms": 100, "by": 1})
    assert status_of(counter).schedules == 2
    wait_until(lambda: state_of(counter)["count"] == 6, "the first")
    wait_until(lambda: state_of(counter)["count"] == 16, "the second")
    assert time.monotonic() - began >= 0.2


@pytest.mark.contract("2.2 Cron", "2.2 CronCancel", "3 cron durability")
def test_cron_jobs_are_kept_over_a_death_replaced_by_id_and_cancelled(counter: Session) -> None:
    send(counter, "counter.cron", {"job": "a"})
    send(counter, "counter.cron", {"job": "b", "timezone": "Europe/Berlin", "cron": "30 4 * * MON"})
    send(counter, "counter.cron", {"job": "a", "cron": "@daily"})
    wait_until(lambda: set(status_of(counter).jobs) == {"a", "b"}, "both are there")
    kill(counter)
    assert set(status_of(counter).jobs) == {"a", "b"}
    assert "procession.jobs" not in state_of(counter)
    send(counter, "counter.cron_cancel", {"job": "a"})
    wait_until(lambda: status_of(counter).jobs == ("b",), "one is cancelled")
    kill(counter)
    assert status_of(counter).jobs == ("b",)


@pytest.mark.contract("3 cron")
def test_a_job_that_cannot_be_leaves_the_old_one(host: Host, counter: Session) -> None:
    send(counter, "counter.cron", {"job": "a"})
    wait_until(lambda: status_of(counter).jobs == ("a",), "it is there")
    with pytest.raises(ProcessionError):
        send(counter, "counter.cron", {"job": "a", "cron": "61 * * * *"})
    send(counter, "counter.cron", {"job": "a", "timezone": "Nowhere/Atall"})
    told = lambda: [event for event in host.events() if "Nowhere/Atall" in str(event.data)]  # noqa: E731
    wait_until(lambda: bool(told()), "the unknown zone is told")
    assert status_of(counter).jobs == ("a",)


@pytest.mark.contract("3 cron", "3 cron durability")
def test_schedules_of_a_kind_are_armed_at_every_start(host: Host) -> None:
    session = host.start_session(agent=Ticking)
    wait_until(lambda: state_of(session)["count"] == 1000, "the first start")
    assert status_of(session).jobs == ("yearly",)
    kill(session)
    wait_until(lambda: state_of(session)["count"] == 2000, "the second start")
    host.remove_session(session.id)


@pytest.mark.contract("3 debug events")
# --- debugging --------------------------------------------------------------------------------------------------------
def test_the_ring_of_events_is_off_until_it_is_switched_on(counter: Session) -> None:
    with pytest.raises(InvalidRequest) as caught:
        debug_events(counter)
    assert caught.value.code == "debug_not_enabled"
    debug_events(counter, keep=3)
    for _ in range(5):
        send(counter, "counter.increment")
    found = debug_events(counter)
    assert [one["kind"] for one in found] == ["signal_finished", "signal_received", "signal_finished"]
    assert len(debug_events(counter, limit=1)) == 1


@pytest.mark.contract("3 telemetry")
def test_signals_and_directives_have_their_beginnings_ends_and_durations_without_data(counter: Session) -> None:
    debug_events(counter, keep=100)
    counter.call("counter.emit", {"to": "self", "by": 424_242})
    counter.cast("counter.fail", {"text": "a secret word"})
    with pytest.raises(AgentError):
        counter.call("counter.fail", {"text": "a secret word"})
    wait_until(lambda: counter.agent_status().errors == 2, "both failed")
    found = debug_events(counter)
    kinds = [one["kind"] for one in reversed(found)]
    assert kinds[:2] == ["signal_received", "signal_finished"]
    emitted = kinds.index("directive_started")
    assert kinds[emitted : emitted + 4] == [
        "directive_started", "signal_received", "signal_finished", "directive_finished",
    ]  # fmt: skip
    assert kinds.count("signal_failed") == 2
    for one in found:
        ends = one["kind"].endswith(("_finished", "_failed"))
        assert (one["duration_ms"] is not None) == ends
        assert "424242" not in one["detail"]
        assert not ends or 0 < one["duration_ms"] < 5_000
    took = {one["detail"]: one["duration_ms"] for one in found if one["kind"].endswith("_finished")}
    assert took["Emit"] > min(took.values())  # the signal was handled inside


@pytest.mark.contract("3 telemetry")
@pytest.mark.contract("3 cron")
def test_cron_jobs_and_a_queue_that_overflows_are_events_of_the_host(counter: Session) -> None:
    counter.call("counter.cron", {"job": "nightly", "cron": "0 3 * * *"})
    counter.call("counter.cron_cancel", {"job": "nightly"})
    counter.call("counter.cron_cancel", {"job": "nobody"})
    with pytest.raises(AgentError) as caught:
        counter.call("counter.emit", {"count": 301})
    assert caught.value.code == "queue_overflow"

    def told() -> list[tuple[object, object]]:
        notices = [event.data for event in counter.events() if event.type == "session.notice"]
        return [(data["about"], data["text"]) for data in notices]

    wait_until(lambda: len(told()) == 3, "all of them")
    registered, cancelled, overflow = told()
    assert registered == ("cron_registered", "nightly: 0 3 * * * UTC")
    assert cancelled == ("cron_cancelled", "nightly")
    assert overflow[0] == "queue_overflow"
    assert "300" in str(overflow[1])


# --- deaths -----------------------------------------------------------------------------------------------------------
def test_a_death_loses_nothing_that_was_acknowledged(counter: Session) -> None:
    for round_ in range(5):
        assert send(counter, "counter.increment") == 6 + round_
        kill(counter)
        assert state_of(counter)["count"] == 6 + round_


def test_a_large_state_goes_on_in_the_next_process(host: Host) -> None:
    session = host.start_session(agent=Counter)
    text = "x" * (4 << 20)
    send(session, "counter.note", {"text": text})
    kill(session)
    assert state_of(session)["notes"] == [text]
    assert send(session, "counter.increment") == 1
    host.remove_session(session.id)


@pytest.mark.contract("3 agent resolution")
# --- starting ---------------------------------------------------------------------------------------------------------
def test_an_agent_that_cannot_begin_is_a_start_that_failed_and_says_why(host: Host) -> None:
    with pytest.raises(StartFailed) as caught:
        host.start_session(agent=Counter, state={"count": "many"})
    assert "count" in str(caught.value)
    with pytest.raises(StartFailed) as caught:
        host.start_session(agent="no_such_module_anywhere:Thing")
    assert "no_such_module_anywhere" in str(caught.value)
    with pytest.raises(StartFailed) as caught:
        host.start_session(agent="json:JSONDecoder")
    assert "JSONDecoder" in str(caught.value)
    assert [one for one in host.list_sessions(all=True) if one.phase == "failed"] == []


@pytest.mark.contract("3 agent resolution")
@pytest.mark.parametrize("agent", [Agent, int, "not a reference", 3])
def test_what_is_no_agent_is_refused_before_anything_starts(host: Host, agent: object) -> None:
    with pytest.raises(InvalidRequest):
        host.start_session(agent=agent)  # type: ignore[arg-type]
