"""P9: how long after deadline and grace a run that fights its end has left nothing behind, and what survived.

The run ignores SIGTERM, has a child that does so too and a daemon (double fork, setsid, its descriptors closed). Each
of the three writes its pid down; survivors are counted from those, not from the receipt. What is timed is deadline to
error, less the 0.25 s between SIGTERM and SIGKILL: the error comes when the tree has been proved empty.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.goals import Measured
from bench.ours import is_alive, open_session
from bench.timing import Effort, Figure
from procession import Session, ToolTimedOut
from procession.ipc.core.bounds import WORKER_TERM_GRACE_S

DEADLINE_S: Final = 0.15
PROCESSES: Final = 3


def fight(folder: str) -> None:
    """Ignore SIGTERM with a child and a daemon, for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not os.fork():
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            os.closerange(0, 256)
        _be_there(folder)
    _be_there(folder)


def _be_there(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    while True:
        time.sleep(60)


def _overrun_s(session: Session) -> tuple[float, int, int]:
    """Let one run pass its deadline; return its overrun in seconds, its processes, and how many of them live."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            session.run(fight, folder, timeout=DEADLINE_S)
        except ToolTimedOut:
            pass
        took = time.perf_counter() - began
        pids = [int(name) for name in os.listdir(folder)]
        survivors = sum(is_alive(pid) for pid in pids)
    return took - DEADLINE_S - WORKER_TERM_GRACE_S, len(pids), survivors


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P9."""
    count = effort.count(50, quick=20, soak=1000)
    overruns, survivors, whole = [], 0, 0
    with open_session() as (_, session):
        for _ in range(count):
            overrun, started, left = _overrun_s(session)
            overruns.append(overrun * 1e3)
            survivors += left
            whole += started == PROCESSES
    figure = Figure(tuple(overruns))
    p99 = figure.percentile(99)
    yield Measured("P9/overrun", f"overrun past deadline and grace, {count} runs", "free", "ms", figure)
    yield Measured("P9/overrun-p99", f"the same, p99 (max {figure.high:.1f} ms)", "free", "ms", Figure((p99,)))
    yield Measured(
        "P9/survivors",
        f"processes left of {count} runs",
        "free",
        "count",
        Figure((float(survivors),)),
        note=f"{whole} of {count} runs had all {PROCESSES} processes up at their deadline",
    )
