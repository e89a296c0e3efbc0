"""The shell of the idle timeout: it looks at the sessions that have one, asks those that seem idle, and ends those that are.

It is *not* hibernation: a session that is ended for this is stopped, as by `stop_session`, with idle_timeout as its reason.
Rules: the reactor's thread only; what has children, an owner, a call, a run or a command is not idle; nothing but a ready
session is judged.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from procession.host.core.idleness import Idleness, Look
from procession.ipc.core.backend import Outcome, Request, Response
from procession.ipc.core.bounds import STOP_GRACE_S
from procession.ipc.core.operations import OPERATIONS, Nothing, ProcessList

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

REASON: Final = "idle_timeout"
_PROCESSES: Final = OPERATIONS["processes"]
_read_processes = msgspec.msgpack.Decoder(ProcessList).decode


class IdleWatch:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reactor = engine.reactor
        self._watched: dict[str, Idleness] = {}

    def watch(self, actor: SessionActor) -> None:
        """Look at a session that is ready, if it has an idle timeout, until it is at rest."""
        timeout_s = actor.spec.idle_timeout_s
        if actor.id in self._watched:
            self.touch(actor)
        elif timeout_s is not None:
            self._watched[actor.id] = Idleness(timeout_s, self._reactor.now())
            self._later(actor)

    def touch(self, actor: SessionActor) -> None:
        """Somebody says that it is not idle."""
        idleness = self._watched.get(actor.id)
        if idleness is not None:
            idleness.touch(self._reactor.now())

    def forget(self, session: str) -> None:
        """Look at it no more."""
        self._watched.pop(session, None)

    def _later(self, actor: SessionActor) -> None:
        period_s = self._watched[actor.id].period_s
        self._reactor.call_at(self._reactor.now() + period_s, partial(self._look, actor))

    def _look(self, actor: SessionActor) -> None:
        idleness = self._watched.get(actor.id)
        if idleness is None or self._engine.closed:
            return
        if not actor.running:
            self.forget(actor.id)
            return
        if idleness.look(self._seen(actor), self._reactor.now()) == "wait":
            self._later(actor)
            return
        request = Request(_PROCESSES, actor.id, Nothing(), None, _PROCESSES.timeout_s)
        actor.calls.submit(request, lambda outcome: self._reactor.call_soon(partial(self._answered, actor, outcome)))

    def _seen(self, actor: SessionActor) -> Look:
        calls, process = actor.calls, actor.process
        page = process.page() if actor.phase == "ready" and process is not None else None
        busy = (
            page is None
            or page.runs > 0
            or actor.owners > 0
            or calls.open > 0
            or calls.waiting > 0
            or bool(self._engine.families.family.children_of(actor.id))
        )
        return Look(calls.made, busy)

    def _answered(self, actor: SessionActor, outcome: Outcome) -> None:
        idleness = self._watched.get(actor.id)
        if idleness is None or self._engine.closed:
            return
        seen = self._seen(actor)
        if idleness.answered(Look(seen.calls, seen.busy or _has_commands(outcome)), self._reactor.now()) == "end":
            self._engine.operations.end(actor, STOP_GRACE_S, _ignore, REASON)
        self._later(actor)


def _has_commands(outcome: Outcome) -> bool:
    """Say whether commands run in the session; one that did not say is taken to be busy."""
    if not isinstance(outcome, Response):
        return True
    try:
        return any(one.running for one in _read_processes(outcome.body).processes)
    except msgspec.MsgspecError:
        return True


def _ignore(_: object) -> None:
    """Nobody waits for it."""
