"""The shell of the watchdog: once a second it looks at every session process and acts on what the pure core says.

It reads /proc/PID/stat, the status page (pread) and the fill of a pipe, and signals nobody: a verdict goes to the session's
lifecycle, which has the keeper end the process. What has grown too large is replaced when it is quiet (core/recycling.py).
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING, Final, NamedTuple

from procession.host.core.recycling import is_due
from procession.host.core.watchdog import Sample, Verdict, Watchdog
from procession.host.incarnation import Incarnation
from procession.ipc.core.bounds import FRAME_COMPLETE_S
from procession.ipc.core.restart_policy import Exit, ExitKind
from procession.ipc.core.status_page import StatusPage

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

PERIOD_S: Final = 1.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
_NO_PAGE: Final = StatusPage(0, 0, 0, 0, 0)


class _Stat(NamedTuple):
    state: str
    cpu_ticks: int
    start_ticks: int
    rss_bytes: int


class _Watched:
    """What is remembered of one incarnation between two looks."""

    __slots__ = ("dog", "partial", "partial_since")

    def __init__(self) -> None:
        self.dog = Watchdog(PERIOD_S)
        self.partial: int | None = None
        self.partial_since = 0.0


class SessionWatch:
    """See the module's text; the reactor's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reactor = engine.reactor
        self._watched: dict[tuple[str, int], _Watched] = {}
        self._closed = False
        self._timer = self._reactor.call_at(self._reactor.now() + PERIOD_S, self._tick)

    def _tick(self) -> None:
        if self._closed:
            return
        now = self._reactor.now()
        self._timer = self._reactor.call_at(now + PERIOD_S, self._tick)
        seen = set()
        for actor in self._engine.registry.all():
            process = actor.process
            if actor.phase == "ready" and process is not None and process.pid:
                key = (actor.id, actor.incarnation)
                seen.add(key)
                self._look(actor, process, self._watched.setdefault(key, _Watched()), now)
        for key in self._watched.keys() - seen:
            del self._watched[key]

    def _look(self, actor: SessionActor, process: Incarnation, watched: _Watched, now: float) -> None:
        stat = _read_stat(process.pid)
        if stat is None or stat.start_ticks != process.start_ticks:
            return  # it is over; its keeper tells
        page = process.page() or _NO_PAGE
        due = actor.calls.patience_of(page.running) if page.running else None
        verdict = watched.dog.observe(
            Sample(
                now=now,
                tick=page.tick,
                running=page.running,
                last_started=page.last_started,
                state=stat.state,
                cpu_ticks=stat.cpu_ticks,
                unread_bytes=_unread_bytes(process),
                running_due=due,
            )
        )
        actor.health = verdict.health
        self._act(actor, verdict)
        if is_due(stat.rss_bytes, actor.recycle_above, now, actor.recycled_at):
            actor.recycle(stat.rss_bytes)
        self._check_frame(actor, process, watched, now)

    def _act(self, actor: SessionActor, verdict: Verdict) -> None:
        if verdict.act == "warn":
            self._engine.events.emit("session.stuck", actor.id, actor.incarnation, seconds=round(verdict.for_s, 1))
        elif verdict.act == "end":
            actor.condemn(Exit(ExitKind.STUCK, f"{verdict.kind} for {verdict.for_s:.0f} s"))

    def _check_frame(self, actor: SessionActor, process: Incarnation, watched: _Watched, now: float) -> None:
        """A frame that has begun has to be complete in 10 s; a session that dribbles holds our buffers."""
        channel = process.channel
        serial = channel.connection.partial_serial if channel is not None else None
        if serial is None or serial != watched.partial:
            watched.partial, watched.partial_since = serial, now
        elif now - watched.partial_since > FRAME_COMPLETE_S:
            self._engine.breaches += 1
            self._engine.events.emit(
                "session.breach", actor.id, actor.incarnation, reason="a frame was not completed in time"
            )
            actor.condemn(Exit(ExitKind.BREACH, f"a frame was not complete after {FRAME_COMPLETE_S:g} s"))

    def put_back(self, by_s: float) -> None:
        """Count no time in which the host was gone; the watchdogs see that by themselves."""
        for watched in self._watched.values():
            watched.partial_since += by_s

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._timer.cancel()


def _read_stat(pid: int) -> _Stat | None:
    """Read a process's state letter, CPU ticks, start and resident memory; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            data = file.read(1024)
    except OSError:
        return None
    fields = data[data.rfind(b")") + 2 :].split()
    return _Stat(fields[0].decode(), int(fields[11]) + int(fields[12]), int(fields[19]), int(fields[21]) * _PAGE_BYTES)


def _unread_bytes(process: Incarnation) -> int:
    """Return how much of what we wrote to the session still lies in its pipe."""
    try:
        count: int = struct.unpack("i", fcntl.ioctl(process.fds.mail_w, termios.FIONREAD, b"\0\0\0\0"))[0]
    except OSError:
        return 0
    return count
