"""Sessions that stand still or will not leave: stopped, in an endless loop, deaf to SIGTERM. Told apart, ended in time."""

import signal
import time
from pathlib import Path

import pytest

from helpers.hosts import SLACK, Counted, EventWatch, kill, pid_of
from helpers.proc import look_at
from helpers.session_faults import FAULT
from helpers.waiting import wait_until
from procession import CallCancelled, CallTimedOut, Host, Session, SessionDied, ToolFailed
from procession.api.core import plans
from procession.host.core import watchdog
from procession.ipc.core.records import RunReport

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

LAG_MS = 50


def order(session: Session, what: str) -> None:
    """Have the session do this when it is next asked for its modules."""
    Path(session.status().project or "", FAULT).write_text(what)


def wait_state(pid: int, states: str) -> None:
    def is_so() -> bool:
        seen = look_at(pid)
        return seen is not None and seen.state in states

    wait_until(is_so, f"state {states} of {pid}")


@pytest.mark.guarantee("R-09")
def test_a_stopped_session_is_restarted_after_ten_seconds_and_a_continued_one_is_not(
    host: Host, start, events: EventWatch
) -> None:
    stopped, continued = start(), start()
    pid, other = pid_of(stopped), pid_of(continued)
    stopped_at = kill(pid, signal.SIGSTOP)
    kill(other, signal.SIGSTOP)
    wait_state(pid, "T")
    wait_until(lambda: "stopped" in continued.status().health, "the watchdog's notice", timeout_s=10)
    kill(other, signal.SIGCONT)
    ended = events.wait("session.ended", stopped, timeout_s=30)
    assert 10 - 2 <= ended.at - stopped_at <= 10 + 2 * SLACK
    events.wait("session.ready", stopped, incarnation=2)
    assert stopped.echo(b"back") == b"back"
    report = stopped.last_report()
    assert isinstance(report, RunReport)
    assert (report.signal, report.processes_left) == ("SIGABRT", 0)  # continued for its stack, then killed
    assert "in serve" in report.stack
    assert "stopped for 1" in str(stopped.story().story)
    assert continued.echo(b"never away") == b"never away"
    assert (pid_of(continued), continued.status().health) == (other, "")


@pytest.mark.guarantee("R-09")
def test_a_stopped_session_can_be_killed_and_stopped_at_once(host: Host) -> None:
    for end in (Session.kill, lambda session: session.stop(grace=0.2), Session.restart):
        session = host.start_session()
        pid = pid_of(session)
        kill(pid, signal.SIGSTOP)
        wait_state(pid, "T")
        began = time.monotonic()
        end(session)
        assert time.monotonic() - began <= 1.0 * SLACK
        assert look_at(pid) is None
        host.remove_session(session.id)


@pytest.mark.guarantee("R-10")
@pytest.mark.parametrize("what", ["spin", "hold the lock"])
def test_an_endless_loop_is_ended_two_seconds_after_its_calls_deadline(faulty_host: Host, what: str) -> None:
    with EventWatch(faulty_host) as events:
        session, sibling = faulty_host.start_session(), faulty_host.start_session()
        order(session, what)
        began = time.monotonic()
        with pytest.raises(CallTimedOut) as caught:
            session.modules(timeout=1)
        assert 1 <= time.monotonic() - began <= 1 * SLACK
        assert caught.value.ran == "maybe"
        ended = events.wait("session.ended", session)
        assert 3 <= ended.at - began <= 3 + 2 * SLACK  # one look a second, one second for the stack
        report = session.last_report()
        assert isinstance(report, RunReport)
        assert report.signal == ("SIGABRT" if what == "spin" else report.signal)
        assert "_die" in report.stack
        events.wait("session.ready", session, incarnation=2)
        assert sibling.echo(b"prompt") == b"prompt"
        assert (sibling.status().incarnation, sibling.status().health) == (1, "")
        assert faulty_host.statistics().lag_ms_max <= LAG_MS * SLACK


@pytest.mark.guarantee("R-10")
def test_a_loop_in_a_call_that_may_last_is_warned_of_at_10_s_and_ended_at_30_s(
    faulty_host: Host, soak_factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = 1.0 if soak_factor > 1 else 0.2  # the same code on a shorter clock; a soak takes the real one
    monkeypatch.setattr(watchdog, "STUCK_WARN_S", watchdog.STUCK_WARN_S * scale)
    monkeypatch.setattr(watchdog, "STUCK_END_S", watchdog.STUCK_END_S * scale)
    with EventWatch(faulty_host) as events:
        busy, stuck = faulty_host.start_session(), faulty_host.start_session()
        order(stuck, "spin")
        running = busy.submit(time.sleep, 8)  # payload: a session that waits for a worker is busy, not stuck
        began = time.monotonic()
        with pytest.raises(SessionDied) as caught:
            stuck.modules(timeout=50)
        warned = events.wait("session.stuck", stuck)
        ended = events.wait("session.ended", stuck)
        assert -1 <= warned.at - began - 10 * scale <= 2 * SLACK
        assert -1 <= ended.at - began - 30 * scale <= 3 * SLACK
        assert caught.value.ran == "maybe"
        assert running.result() is None
        assert events.of("session.stuck", busy) == []
        assert busy.status().incarnation == 1


def ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        signal.pause()


@pytest.mark.guarantee("R-11")
@pytest.mark.parametrize("hang", ["worker", "session", "stopped"])
def test_stop_returns_in_time_whatever_ignores_sigterm(faulty_host: Host, hang: str) -> None:
    """A worker that ignores it, a session that hangs, a session that is stopped: the grace, then SIGKILL to the tree."""
    session = faulty_host.start_session()
    pid = pid_of(session)
    shell = session.start("trap '' TERM; sleep 1000 & wait; sleep 1000")
    deaf = Counted(session, ignores_sigterm)
    deaf.wait_printed()
    if hang == "session":
        order(session, "spin")
        plan = plans.modules(session.id, 30.0)
        session._link.backend.submit(plan.request, lambda outcome: None)
        wait_state(pid, "R")
    elif hang == "stopped":
        kill(pid, signal.SIGSTOP)
        wait_state(pid, "T")
    began = time.monotonic()
    receipt = session.stop(grace=1.0)
    assert time.monotonic() - began <= 1.0 + 2.0 * SLACK
    assert receipt.left == 0
    assert isinstance(deaf.wait(), ToolFailed | SessionDied | CallCancelled)
    assert [look_at(pid), look_at(shell.pid or 0)] == [None, None]
    assert session.status().phase == "stopped"
