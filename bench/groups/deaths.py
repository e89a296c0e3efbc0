"""P8: from kill -9 of a session process to the typed error of the call in flight, and to the next call that works.

The call in flight is an echo to a process that is stopped, so that it cannot have answered. Each round kills a session
of its own: a second death within seconds would meet the back-off, which is policy and not cost. A run in flight, whose
worker tree has to end first, is reported beside it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future

from bench.goals import Measured
from bench.ours import OFF, SMALL, Starter, backend_of, echo_request, is_stopped
from bench.peers.forker import BareFork
from bench.timing import Effort, Figure, median_of, wait_until
from procession import Host, Session, SessionDied
from procession.ipc.core.backend import Outcome

WAIT_S = 20.0


def _killed_s(host: Host, session: Session, *, during_run: bool) -> tuple[float, float]:
    """Kill a session with a call in flight; return the seconds to its error and to the next reply."""
    pid = session.status().pid
    ended: Future[Outcome] = Future()
    if during_run:
        running = session.submit(time.sleep, 60, timeout=90)
        running.add_done_callback(lambda future: ended.set_result(future.exception()))
        if not wait_until(lambda: bool(session.status().calls), WAIT_S):
            raise TimeoutError("the run did not start")
    else:
        os.kill(pid, signal.SIGSTOP)
        if not wait_until(lambda: is_stopped(pid), WAIT_S):
            raise TimeoutError("the session process did not stop")
        backend_of(host).submit(echo_request(session, SMALL, WAIT_S), ended.set_result)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    error = ended.result(WAIT_S)
    told = time.perf_counter() - began
    assert isinstance(error, SessionDied), f"the call in flight ended with {error!r}"
    session.echo(SMALL)
    return told, time.perf_counter() - began


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P8."""
    notices, tolds, nexts, starts, run_tolds = [], [], [], [], []
    fork = BareFork()
    with Starter() as starter, Host(sandbox=OFF) as host:
        starter.start_s()
        for _ in range(effort.rounds):
            notices.append(median_of([fork.death_s() for _ in range(5)]))
            starts.append(median_of([starter.start_s() for _ in range(5)]))
            session = host.start_session()
            told, next_s = _killed_s(host, session, during_run=False)
            tolds.append(told)
            nexts.append(next_s)
            session.stop()
            session = host.start_session()
            run_tolds.append(_killed_s(host, session, during_run=True)[0])
            session.stop()
    fork.close()
    notice, start = Figure(tuple(notices)).scaled(1e3), Figure(tuple(starts)).scaled(1e3)
    yield Measured(
        "P8/error",
        "kill -9 to the error of an echo in flight",
        "pin0",
        "ms",
        Figure(tuple(tolds)).scaled(1e3),
        "SIGKILL to pidfd readable",
        notice,
    )
    yield Measured(
        "P8/run",
        "the same, a run in flight",
        "pin0",
        "ms",
        Figure(tuple(run_tolds)).scaled(1e3),
        "SIGKILL to pidfd readable",
        notice,
    )
    yield Measured(
        "P8/next",
        "kill -9 to the next reply",
        "pin0",
        "ms",
        Figure(tuple(nexts)).scaled(1e3),
        "session start to first reply",
        start,
    )
