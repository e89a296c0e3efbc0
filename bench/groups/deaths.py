"""P8: from kill -9 of a session process to the typed error of the call in flight, and to the next call that works,
which reads what was acknowledged before.

The call in flight is a run that has started: one that has not would go to the next incarnation instead of failing. Its
worker tree has to end too. Each round kills a session of its own: a second death within seconds would meet the
back-off, which is policy and not cost.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from bench.goals import Measured
from bench.ours import OFF, Starter
from bench.peers.forker import BareFork
from bench.timing import Effort, Figure, median_of, wait_until
from procession import Host, Session, SessionDied

WAIT_S: Final = 20.0


def stay(sign: str) -> None:
    """Say that the run has started, and stay."""
    Path(sign).touch()
    time.sleep(60)


def _killed_s(session: Session) -> tuple[float, float]:
    """Kill a session with a run in flight; return the seconds to its error and to the next reply."""
    with tempfile.TemporaryDirectory() as folder:
        session.append_message("user", "before")
        sign = Path(folder) / "started"
        running = session.submit(stay, str(sign), timeout=90)
        if not wait_until(sign.exists, WAIT_S):
            raise TimeoutError("the run did not start")
        pid = session.status().pid
        assert pid is not None
        ended: Future[float] = Future()
        running.add_done_callback(lambda _: ended.set_result(time.perf_counter()))
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        told = ended.result(WAIT_S) - began
        error = running.exception(0)
        assert isinstance(error, SessionDied), f"the call in flight ended with {error!r}"
        (kept,) = session.get_messages()
        took = time.perf_counter() - began
        assert kept.content == "before"
        return told, took


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P8."""
    notices, tolds, nexts, starts = [], [], [], []
    fork = BareFork()
    with Starter() as starter, Host(sandbox=OFF) as host:
        starter.start_s()
        for _ in range(effort.rounds):
            notices.append(median_of([fork.death_s() for _ in range(5)]))
            starts.append(median_of([starter.start_s() for _ in range(5)]))
            session = host.start_session()
            told, next_s = _killed_s(session)
            tolds.append(told)
            nexts.append(next_s)
            session.stop()
    fork.close()
    told_ms, notice_ms = Figure(tuple(tolds)).scaled(1e3), Figure(tuple(notices)).scaled(1e3)
    next_ms, start_ms = Figure(tuple(nexts)).scaled(1e3), Figure(tuple(starts)).scaled(1e3)
    beside = "bare kill to pidfd"
    yield Measured("P8/error", "kill -9 to the error of the run", "pin0", "ms", told_ms, beside, notice_ms)
    beside = "session start"
    yield Measured("P8/next", "kill -9 to the next reply", "pin0", "ms", next_ms, beside, start_ms)
