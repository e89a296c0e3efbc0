"""Names whoever blocks the host's loop: a watcher thread that looks at the loop's stack when a turn takes too long.

R-37: a loop that is blocked for 100 ms is reported with the place it is in, while it is still there. In an AsyncHost that place
is usually the application's own code. The watcher only reads; it wakes ten times a second and costs a microsecond.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from procession.ipc.core import gap
from procession.ipc.transport.reactor import Reactor

LAG_WARN_S: Final = 0.1
_PERIOD_S: Final = 0.05
_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_INSTALLED: Final = ("site-packages", "dist-packages")


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
        looked_at = self._reactor.now()
        while not self._stop.wait(_PERIOD_S):
            since, before = self._reactor.busy_since(), looked_at
            looked_at = self._reactor.now()
            if since is None or gap.lost_s(
                looked_at - before, gap.HOST_GAP_S
            ):  # we were gone ourselves: nobody blocked anything
                continue
            lag = self._reactor.now() - since
            self.lag_s_max = max(self.lag_s_max, lag)
            if lag >= LAG_WARN_S and since != reported:
                reported = since
                self.warnings += 1
                place = self._place()
                # A turn that ended meanwhile was not where the thread is now.
                self.culprit = place if self._reactor.busy_since() == since else "unknown"
                self._on_lag(lag, self.culprit)

    def _place(self) -> str:
        """Say where the loop's thread is: the first frame outside the standard library, and what of that it is in."""
        thread_id = self._reactor.thread_id()
        innermost = sys._current_frames().get(thread_id) if thread_id is not None else None
        if innermost is None:
            return "unknown"
        frame: FrameType | None = innermost
        while frame is not None and _is_standard(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is None or frame is innermost:
            return _told(innermost)
        return f"{_told(frame)} in {_told(innermost)}"

    def close(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2.0)


def _is_standard(path: str) -> bool:
    inside = path.startswith(_STANDARD_LIBRARY) and not path.startswith(_INSTALLED, len(_STANDARD_LIBRARY))
    return inside or path.startswith("<frozen ")


def _told(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})"
