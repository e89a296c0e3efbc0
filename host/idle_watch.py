"""The shell of idleness: it looks at sessions that may not be idle for ever, asks those that seem so, and acts on what follows.

One that has an idle timeout is stopped, as by `stop_session`, with idle_timeout as its reason; any other is put to sleep after
a while, and wakes on the next call. It is *not* where that is judged (core/idleness.py). Rules: the reactor's thread only; what
has a call, a run, a command, or anything to come is not idle; who is attached, and children, keep a session from being stopped
but not from sleeping, which they do not notice; who follows it does neither.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from procession.host.core.idleness import Idleness, Look, Said
from procession.ipc.core.bounds import STOP_GRACE_S
from procession.ipc.core.operations import QuietDone
from procession.ipc.transport.reactor import Timer

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

REASON: Final = "idle_timeout"


class IdleWatch:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reactor = engine.reactor
        self._watched: dict[str, Idleness] = {}
        self._timers: dict[str, Timer] = {}

    def watch(self, actor: SessionActor) -> None:
        """Look at a session that is ready, if it may not be idle for ever, until it is at rest for good."""
        end_after_s, sleep_after_s = actor.spec.idle_timeout_s, actor.hibernate_after_s
        if actor.id in self._watched:
            self.touch(actor)
        elif end_after_s is not None or sleep_after_s is not None:
            self._watched[actor.id] = Idleness(end_after_s, sleep_after_s, self._reactor.now())
            self._later(actor)

    def touch(self, actor: SessionActor) -> None:
        """Somebody says that it is not idle."""
        idleness = self._watched.get(actor.id)
        if idleness is not None:
            idleness.touch(self._reactor.now())

    def start_afresh(self) -> None:
        """Nobody was idle while the host was gone."""
        for idleness in self._watched.values():
            idleness.touch(self._reactor.now())

    def asleep(self, actor: SessionActor) -> None:
        """Look no more at a session that sleeps, unless it may not do so for ever."""
        if actor.spec.idle_timeout_s is None:
            self.forget(actor.id)

    def forget(self, session: str) -> None:
        """Look at it no more."""
        self._watched.pop(session, None)
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def _later(self, actor: SessionActor) -> None:
        idleness = self._watched.get(actor.id)
        if idleness is not None:
            due = self._reactor.now() + idleness.period_s
            self._timers[actor.id] = self._reactor.call_at(due, partial(self._look, actor))

    def _look(self, actor: SessionActor) -> None:
        idleness = self._watched.get(actor.id)
        if idleness is None or self._engine.closed:
            return
        if not actor.running and not (actor.is_asleep and idleness.end_after_s is not None):
            self.forget(actor.id)
            return
        match idleness.look(self._seen(actor), self._reactor.now()):
            case "ask":
                self._engine.lulls.ask(actor, partial(self._answered, actor))
            case "end":
                self._end(actor)
                self._later(actor)
            case _:
                self._later(actor)

    def _seen(self, actor: SessionActor) -> Look:
        calls, process = actor.calls, actor.process
        page = process.page() if actor.phase == "ready" and process is not None else None
        asleep = actor.phase == "hibernated"
        return Look(
            calls.made,
            busy=not asleep and (page is None or page.runs > 0 or not calls.is_clear or calls.waiting > 0),
            wanted=actor.owners > 0 or bool(self._engine.families.family.children_of(actor.id)),
            asleep=asleep,
        )

    def _answered(self, actor: SessionActor, quiet: QuietDone | None) -> None:
        idleness = self._watched.get(actor.id)
        if idleness is None or self._engine.closed:
            return
        said = Said(busy=True) if quiet is None else Said(bool(quiet.busy or quiet.due), bool(quiet.holds))
        match idleness.answered(said, self._seen(actor), self._reactor.now()):
            case "end":
                self._end(actor)
            case "sleep":
                actor.sleep(quiet)
            case _:
                pass
        self._later(actor)

    def _end(self, actor: SessionActor) -> None:
        self._engine.operations.end(actor, STOP_GRACE_S, _ignore, REASON)


def _ignore(_: object) -> None:
    """Nobody waits for it."""
