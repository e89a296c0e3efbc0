"""Names whoever blocks the host's loop: a watcher thread that looks at the loop's stack when a turn takes too long.

R-37: a loop that is blocked for 100 ms is reported with the place it is in, while it is still there. In an AsyncHost that place
is usually the application's own code. The watcher only reads; it wakes ten times a second and costs a microsecond.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Final

from procession.ipc.transport.reactor import Reactor

LAG_WARN_S: Final = 0.1
_PERIOD_S: Final = 0.05


class LagMonitor:
    """`on_lag(seconds, place)` is called in the watcher's thread, once for each blocked turn."""

    def __init__(self, reactor: Reactor, on_lag: Callable[[float, str], None]) -> None:
        self._reactor = reactor
        self._on_lag = on_lag
        self._stop = threading.Event()
        self.lag_s_max = 0.0
        self.warnings = 0
        self.culprit = ""
        self._thread = threading.Thread(target=self._watch, name="procession-lag", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        reported: float | None = None
        while not self._stop.wait(_PERIOD_S):
            since = self._reactor.busy_since()
            if since is None:
                continue
            lag = self._reactor.now() - since
            self.lag_s_max = max(self.lag_s_max, lag)
            if lag >= LAG_WARN_S and since != reported:
                reported = since
                self.warnings += 1
                self.culprit = self._place()
                self._on_lag(lag, self.culprit)

    def _place(self) -> str:
        """Say where the loop's thread is: its innermost frame, and the first one outside the standard library."""
        thread_id = self._reactor.thread_id()
        frame = sys._current_frames().get(thread_id) if thread_id is not None else None
        if frame is None:
            return "unknown"
        code = frame.f_code
        return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)
