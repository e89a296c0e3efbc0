"""P3 and P4: calls per second to one session with many under way, beside multiprocessing's Pipe and a process pool.

Procession's side hands echo requests to the host's backend (what `submit` of the face stands on) and keeps the window
full from the completions themselves: one session, one caller, 64 under way, each a typed call with a deadline.
The Pipe's side sends (number, 64 bytes) tuples with as many under way; a pool of one worker gets calls of a function.
P4 makes the same calls without a deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

from bench.goals import Measured
from bench.ours import ECHO_TIMEOUT_S, SMALL, backend_of, echo_request, open_session
from bench.peers.standard import PipeEcho, PoolEcho
from bench.timing import Effort, take_turns
from procession import Host, ProcessionError, Session
from procession.ipc.core.backend import Outcome

#: Calls under way at once: well below the mailbox's 256, so that nobody is refused.
WINDOW: Final = 64
ROUND_TIMEOUT_S: Final = 60.0


class Pipeline:
    """Echo calls, `WINDOW` of them under way; each completion makes the next call."""

    def __init__(self, host: Host, session: Session, timeout_s: float | None) -> None:
        self._submit = backend_of(host).submit
        self._request = echo_request(session, SMALL, timeout_s)
        self._unsent = self._unanswered = 0
        self._over = threading.Event()
        self._failed: ProcessionError | None = None

    def calls_per_s(self, count: int) -> float:
        """Make `count` calls; return the rate."""
        self._over.clear()
        self._unsent, self._unanswered = count - WINDOW, count
        began = time.perf_counter()
        for _ in range(WINDOW):
            self._submit(self._request, self._done)
        if not self._over.wait(ROUND_TIMEOUT_S):
            raise TimeoutError("the pipelined calls did not all end")
        took = time.perf_counter() - began
        if self._failed is not None:
            raise self._failed
        return count / took

    def _done(self, outcome: Outcome) -> None:
        """In the reactor's thread, one at a time."""
        if isinstance(outcome, ProcessionError):
            self._failed = outcome
            self._over.set()
            return
        self._unanswered -= 1
        if self._unsent > 0:
            self._unsent -= 1
            self._submit(self._request, self._done)
        elif not self._unanswered:
            self._over.set()


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P3 and P4."""
    count = effort.count(8000, quick=2000)
    pool_count = effort.count(1000, quick=400)
    pipe, pool = PipeEcho(), PoolEcho()
    with open_session() as (host, session):
        dated, undated = Pipeline(host, session, ECHO_TIMEOUT_S), Pipeline(host, session, None)
        rate = take_turns(
            {
                "ours": lambda: dated.calls_per_s(count),
                "undated": lambda: undated.calls_per_s(count),
                "pipe": lambda: pipe.calls_per_s(SMALL, count, WINDOW),
                "pool": lambda: pool.calls_per_s(SMALL, pool_count, WINDOW),
            },
            effort.rounds,
        )
    pipe.close()
    pool.close()
    what = f"pipelined echo, {WINDOW} under way"
    yield Measured("P3/pipe", what, "free", "calls/s", rate["ours"], "multiprocessing Pipe", rate["pipe"])
    yield Measured("P3/pool", what, "free", "calls/s", rate["ours"], "ProcessPoolExecutor(1)", rate["pool"])
    yield Measured(
        "P4/deadline",
        "the same, a deadline on each",
        "free",
        "calls/s",
        rate["ours"],
        "without a deadline",
        rate["undated"],
    )
