"""A lull in a session: its calls are held for a moment, and it is asked what it still needs its process for.

    hold ──▶ nothing is open ──▶ ask it ──▶ whoever wanted to know: ends the process (held calls go to the next one)
      │                                              └─ or does not: what was held goes on, a millisecond later
      └─▶ something stays open: not quiet

It is *not* what decides whether that is reason enough (core/idleness.py, session.py). Rules: the reactor's thread only; whoever
asks is told once; no call is refused or lost by it; without patience nothing is held that would have to wait for a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from procession.ipc.core.backend import Outcome, Request, Response
from procession.ipc.core.operations import OPERATIONS, Nothing, QuietDone
from procession.ipc.transport.reactor import Reactor

if TYPE_CHECKING:
    from procession.host.session import SessionActor

LOOK_S: Final = 0.002
"""How often it is looked whether the calls that are open have ended: about as long as a short one takes."""
_QUIET: Final = OPERATIONS["quiet"]
_read = msgspec.msgpack.Decoder(QuietDone).decode

Then = Callable[[QuietDone | None], None]


class Lulls:
    """See the module's text."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._under_way: dict[str, list[Then]] = {}

    def ask(self, actor: SessionActor, then: Then, patience_s: float = 0.0) -> None:
        """Tell `then` what a session says, None for one that is not quiet: it may end the process before it returns.

        patience_s: how long calls are held for those that are open to end.
        """
        asked = self._under_way.get(actor.id)
        if asked is not None:
            asked.append(then)
        elif actor.phase != "ready":
            then(None)
        else:
            self._under_way[actor.id] = [then]
            actor.calls.hold()
            self._look(actor, actor.incarnation, self._reactor.now() + patience_s)

    def _look(self, actor: SessionActor, inc: int, until: float) -> None:
        calls, now = actor.calls, self._reactor.now()
        if actor.phase != "ready" or actor.incarnation != inc:
            self._tell(actor, inc, None)
        elif calls.is_clear:
            request = Request(_QUIET, actor.id, Nothing(), None, _QUIET.timeout_s)
            calls.ask(request, lambda outcome: self._reactor.call_soon(lambda: self._answered(actor, inc, outcome)))
        elif now < until:
            self._reactor.call_at(now + LOOK_S, lambda: self._look(actor, inc, until))
        else:
            self._tell(actor, inc, None)

    def _answered(self, actor: SessionActor, inc: int, outcome: Outcome) -> None:
        self._tell(actor, inc, _said(outcome) if actor.incarnation == inc and actor.calls.is_clear else None)

    def _tell(self, actor: SessionActor, inc: int, said: QuietDone | None) -> None:
        for then in self._under_way.pop(actor.id, ()):
            then(said if actor.phase == "ready" and actor.incarnation == inc else None)
        if actor.phase == "ready" and actor.incarnation == inc:
            actor.calls.release()


def why_awake(said: QuietDone | None) -> str:
    """Return what keeps a session awake, empty when nothing does."""
    return "calls are open in it" if said is None else said.busy or said.holds or said.due


def _said(outcome: Outcome) -> QuietDone | None:
    """Read an answer; a session that did not give one, or one that is none, is taken to be busy."""
    if not isinstance(outcome, Response):
        return None
    try:
        return _read(outcome.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
