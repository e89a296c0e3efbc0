"""Two threads that read and fold what was kept of sessions, so that neither the host's loop nor a caller waits for a disk.

Rules: made when the first job comes; as many jobs wait as sessions may be there, more are refused; a job never raises.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

THREADS: Final = 2
"""One that waits for a disk, or folds a large state, does not hold up a small one."""
JOBS_MAX: Final = 10_000
"""More sessions than a host restores at once."""


class ReadPool:
    """See the module's text."""

    def __init__(self) -> None:
        self._wake = threading.Condition(threading.Lock())
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, job: Callable[[], None]) -> bool:
        """Have a job done in one of the threads, in their order; say whether it was taken."""
        with self._wake:
            if self._closed or len(self._jobs) >= JOBS_MAX:
                return False
            self._jobs.append(job)
            self._wake.notify()
            if len(self._threads) < min(THREADS, len(self._jobs)):
                thread = threading.Thread(target=self._run, name="procession-reader", daemon=True)
                self._threads.append(thread)
                thread.start()
            return True

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs:
                    if self._closed:
                        return
                    self._wake.wait()
                job = self._jobs.popleft()
            job()

    def close(self, timeout_s: float) -> bool:
        """Do what is waiting, and end; say whether all threads have."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)
