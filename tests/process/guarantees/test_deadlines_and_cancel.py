"""R-49, R-50, R-52: what has not started never runs, what runs is ended on time, what is cancelled is told truthfully."""

import statistics
import threading
import time
from pathlib import Path

import pytest

from helpers.hosts import StartSession, count_of, pid_of
from helpers.stopping import continue_process, stop_process
from helpers.waiting import wait_until
from procession import CallCancelled, ExpiredInQueue, NotDelivered, Session, ToolTimedOut

pytestmark = pytest.mark.process

GRACE_S = 0.25


def leave_a_mark(folder: str, name: int) -> int:
    Path(folder, str(name)).touch()
    return name


def never_end() -> None:
    threading.Event().wait()


def ignore_sigterm() -> None:
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        pass


@pytest.mark.guarantee("R-49")
def test_what_expires_in_the_queue_of_a_stopped_session_never_runs(
    start: StartSession, tmp_path: Path, soak_factor: int
) -> None:
    session = start()
    count = min(count_of(10_000, soak_factor), 200)
    pid = pid_of(session)
    stop_process(pid)
    futures = [session.submit(leave_a_mark, str(tmp_path), n, timeout=0.3) for n in range(count)]
    errors = [future.exception(20) for future in futures]
    continue_process(pid)
    for error in errors:
        assert isinstance(error, ExpiredInQueue), error
        assert isinstance(error, NotDelivered)
        assert error.ran == "no"
    assert session.run(leave_a_mark, str(tmp_path), -1) == -1  # what was withdrawn would have come before this
    assert [entry.name for entry in tmp_path.iterdir()] == ["-1"]


@pytest.mark.guarantee("R-49")
def test_what_expires_behind_other_runs_never_runs(start: StartSession, tmp_path: Path) -> None:
    session = start(parallel_runs=1)
    first = session.submit(never_end, timeout=1.5)
    queued = [session.submit(leave_a_mark, str(tmp_path), n, timeout=0.3) for n in range(20)]
    for future in queued:
        error = future.exception(20)
        assert isinstance(error, ExpiredInQueue)
        assert error.ran == "no"
    assert isinstance(first.exception(20), ToolTimedOut)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guarantee("R-50")
def test_a_run_is_ended_at_its_deadline(session: Session, soak_factor: int) -> None:
    late = []
    for _ in range(count_of(500, soak_factor)):
        begun = time.monotonic()
        with pytest.raises(ToolTimedOut) as caught:
            session.run(never_end, timeout=0.2)
        late.append(time.monotonic() - begun - 0.2)
        assert caught.value.ran == "yes"
        assert caught.value.report is not None
        assert caught.value.report.ended == "deadline"
        assert caught.value.report.processes_left == 0
    assert statistics.median(late) <= 0.020 * 3  # SIGTERM ends it at once
    assert min(late) >= 0


@pytest.mark.guarantee("R-50")
def test_a_run_that_ignores_sigterm_is_gone_after_the_grace(session: Session) -> None:
    late = []
    for _ in range(5):
        begun = time.monotonic()
        with pytest.raises(ToolTimedOut):
            session.run(ignore_sigterm, timeout=0.3)
        late.append(time.monotonic() - begun - 0.3 - GRACE_S)
    assert statistics.median(late) <= 0.05 * 3
    assert min(late) >= -0.02


@pytest.mark.guarantee("R-50")
def test_the_outcome_stays_readable_by_call_id(session: Session) -> None:
    with pytest.raises(ToolTimedOut) as caught:
        session.run(never_end, timeout=0.1)
    found = [call for call in session.calls() if call.id == caught.value.call_id]
    assert [call.outcome for call in found] == ["timeout"]


@pytest.mark.guarantee("R-52")
def test_cancel_before_it_is_started(start: StartSession, tmp_path: Path) -> None:
    session = start(parallel_runs=1)
    running = session.submit(never_end, timeout=20)
    wait_until(lambda: any(call.state == "running" for call in session.calls()), "the first run is under way")
    waiting = session.submit(leave_a_mark, str(tmp_path), 1, timeout=20)
    ids = [call.id for call in session.calls() if call.state != "over"]
    session.cancel(ids[-1])
    error = waiting.exception(10)
    assert isinstance(error, CallCancelled)
    assert error.ran == "no"
    assert error.code == "not_sent"
    session.cancel(ids[0])
    error = running.exception(10)
    assert isinstance(error, CallCancelled)
    assert error.code == "cancelled_in_session"
    assert error.report is not None
    assert error.report.processes_left == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guarantee("R-52")
def test_cancel_after_it_is_over(session: Session) -> None:
    session.run(len, ())
    over = session.calls()[-1]
    assert session.cancel(over.id) == "too_late"


@pytest.mark.guarantee("R-52")
def test_cancel_races_the_reply_truthfully(session: Session, tmp_path: Path, soak_factor: int) -> None:
    """Whatever the race, what is told agrees with what the run itself wrote down."""
    for number in range(count_of(1_000, soak_factor)):
        future = session.submit(leave_a_mark, str(tmp_path), number, timeout=20)
        ids = [call.id for call in session.calls() if call.state != "over"]
        if ids:
            session.cancel(ids[-1])
        error = future.exception(20)
        ran = (tmp_path / str(number)).exists()
        if error is None:
            assert ran, "it is said to have run and did not"
        else:
            assert isinstance(error, CallCancelled), error
            assert not (error.ran == "no" and ran), "it is said not to have run and did"
