"""Waiting for an agent that may have been stopped since: then what it said of itself at its end is the answer.

It is *not* the waiting itself, which the agent does while it runs (agent_proc/agent_results.py). Rule: only how it finished is
answered from here, and only where it cannot be asked any more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from procession.ipc.core.backend import Done, Outcome, Request, Response
from procession.ipc.core.errors import SessionNotRunning
from procession.ipc.core.messages import encode
from procession.ipc.core.operations import AwaitBody, AwaitDone

if TYPE_CHECKING:
    from procession.host.session import SessionActor


def awaited(actor: SessionActor, request: Request) -> Response:
    """Wait for a result in this thread. Raises as any call."""
    try:
        return actor.calls.call(request)
    except SessionNotRunning:
        found = None if _names_a_signal(request) else _finished(actor)
        if found is None:
            raise
        return found


def looked_up(actor: SessionActor, request: Request, done: Done) -> Done:
    """Return what is to be told the outcome of a wait in the place of `done`."""
    return done if _names_a_signal(request) else partial(_tell, actor, done)


def _tell(actor: SessionActor, done: Done, outcome: Outcome) -> None:
    done((_finished(actor) if isinstance(outcome, SessionNotRunning) else None) or outcome)


def _names_a_signal(request: Request) -> bool:
    return isinstance(request.body, AwaitBody) and bool(request.body.id)


def _finished(actor: SessionActor) -> Response | None:
    """Return how its agent finished, as it said when it was stopped; None when it did not, or runs."""
    found = actor.keeping.finished() if actor.phase in ("stopping", "stopped") else None
    if found is None:
        return None
    status, value = found
    return Response(encode(AwaitDone(status=status)), value)
