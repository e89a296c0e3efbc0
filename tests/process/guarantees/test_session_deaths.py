"""A session process dies, idle or in the middle of a call: seen at once, back at once, each call over exactly once."""

import os
import time
from itertools import cycle
from pathlib import Path

import pytest

from helpers.hosts import SLACK, Counted, EventWatch, count_of, kill, median, pid_of
from procession import Host, SessionDied
from procession.ipc.core.backend import Response
from procession.ipc.core.errors import ProcessionError

pytestmark = pytest.mark.process

NOTICE_IDLE_S = 0.020
NOTICE_CALL_S = 0.050
READY_AGAIN_S = 0.300


@pytest.mark.guarantee("R-01")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_idle_session_is_noticed_and_ready_again(
    host: Host, start, events: EventWatch, soak_factor: int
) -> None:
    sibling = start()
    before = sibling.status()
    noticed, ready = [], []
    for _ in range(count_of(200, soak_factor)):
        session = host.start_session()
        killed_at = kill(pid_of(session))
        ended = events.wait("session.ended", session, incarnation=1)
        noticed.append(ended.at - killed_at)
        ready.append(events.wait("session.ready", session, incarnation=2).at - killed_at)
        assert ended.event.data["how"] == "signal (SIGKILL)"
        assert session.echo(b"again") == b"again"
        status = session.status()
        assert (status.phase, status.incarnation, status.restarts) == ("ready", 2, 1)
        host.remove_session(session.id)
    assert median(noticed) <= NOTICE_IDLE_S * SLACK
    assert median(ready) <= READY_AGAIN_S * SLACK
    after = sibling.status()
    assert (after.pid, after.incarnation, after.restarts) == (before.pid, 1, 0)
    assert sibling.echo(b"untouched") == b"untouched"


def note(place: str) -> int:
    """Leave a trace of having run, say so, and return."""
    with open(place, "ab") as file:
        file.write(b"x")
    print("noted", flush=True)
    return 7


def note_and_stay(place: str) -> None:
    note(place)
    time.sleep(60)  # payload: runs until its session is killed


@pytest.mark.guarantee("R-02")
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_call_whose_session_is_killed_ends_once(host: Host, soak_factor: int, tmp_path: Path) -> None:
    """Killed right behind the send, while the function runs, and while its result is on the way."""
    trace = tmp_path / "trace"
    noticed = []
    moments = cycle(("sent", "running", "answering"))
    calls_before = host.statistics().calls
    kills = count_of(10_000, soak_factor)
    for moment, _ in zip(moments, range(kills), strict=False):
        trace.write_bytes(b"")
        session = host.start_session()
        pid = pid_of(session)
        call = Counted(session, note_and_stay if moment == "running" else note, str(trace))
        if moment != "sent":
            call.wait_printed()
        killed_at = kill(pid) if moment == "running" or not call.outcomes else 0.0
        outcome = call.wait()
        runs = len(trace.read_bytes())
        if moment == "running":
            noticed.append(call.at - killed_at)
            assert isinstance(outcome, SessionDied)
            assert runs == 1
        if isinstance(outcome, Response):
            assert runs == 1
        else:
            assert isinstance(outcome, SessionDied)
            assert outcome.ran == "maybe"
            assert outcome.report is not None
            assert (outcome.report.ended, outcome.report.signal) == ("signal", "SIGKILL")
            assert runs <= 1
        host.remove_session(session.id)
        assert len(call.outcomes) == 1
    assert host.statistics().calls == calls_before + kills
    assert median(noticed) <= NOTICE_CALL_S * SLACK


@pytest.mark.guarantee("R-02")
def test_every_open_call_of_a_killed_session_ends_once_and_is_counted_once(host: Host, start, tmp_path: Path) -> None:
    session = start(parallel_runs=4)
    traces = [tmp_path / str(number) for number in range(8)]
    calls = [Counted(session, note_and_stay, str(trace)) for trace in traces[:4]]
    for call in calls:
        call.wait_printed()
    queued = [Counted(session, note, str(trace)) for trace in traces[4:]]
    session.ping()  # it has them all
    kill(pid_of(session))
    outcomes = [call.wait() for call in calls]
    assert all(isinstance(outcome, SessionDied) for outcome in outcomes)
    for call, trace in zip(queued, traces[4:], strict=True):
        outcome = call.wait()
        runs = len(trace.read_bytes()) if trace.exists() else 0
        assert runs == (1 if isinstance(outcome, Response) else 0)
        assert isinstance(outcome, Response | ProcessionError)
    assert [len(call.outcomes) for call in (*calls, *queued)] == [1] * 8
    over = [info for info in session.calls() if info.op == "run"]
    assert len(over) == 8
    assert {info.state for info in over} == {"over"}
    assert os.path.exists(traces[0])
