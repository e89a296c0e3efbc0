"""Room for one more process: when as many sessions run as may, the one that was used longest ago is put to sleep.

    act ──▶ done
     └─▶ SessionLimitReached ──▶ who is idle, the longest first ──▶ it sleeps ──▶ act again
                                   └─ nobody: the error            └─ it is busy: the next one

It is *not* where slots are counted (registry.py) nor what decides who goes first (core/idleness.py). Rules: the reactor's thread
only; a session that was told never to sleep by itself does not for another one either; who waits for a slot waits a bounded time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from procession.host.core.idleness import Candidate, longest_idle
from procession.ipc.core.bounds import RUN_TIMEOUT_S
from procession.ipc.core.errors import ProcessionError, SessionLimitReached
from procession.ipc.core.records import KillReceipt

if TYPE_CHECKING:
    from procession.host.engine import Engine
    from procession.host.session import SessionActor

Act = Callable[[], None]
Refused = Callable[[ProcessionError], None]


class Slots:
    """See the module's text."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def have(self, act: Act, refused: Refused, *, timeout_s: float | None = None, but_not: str = "") -> None:
        """Run `act`, which takes a slot; or tell `refused` why not.

        timeout_s: how long one is waited for; 0: nobody is put to sleep for it. but_not: a session that is not, either.
        """
        until = self._engine.reactor.now() + (RUN_TIMEOUT_S if timeout_s is None else timeout_s)
        self._try(act, refused, until, frozenset({but_not}))

    def _try(self, act: Act, refused: Refused, until: float, spared: frozenset[str]) -> None:
        try:
            act()
        except SessionLimitReached as full:
            self._make_room(full, act, refused, until, spared)
        except ProcessionError as error:
            refused(error)

    def _make_room(
        self, full: SessionLimitReached, act: Act, refused: Refused, until: float, spared: frozenset[str]
    ) -> None:
        engine = self._engine
        chosen = None
        if engine.reactor.now() < until and not engine.closed:
            chosen = longest_idle(_candidate(one) for one in engine.registry.all() if one.id not in spared)
        sleeper = None if chosen is None else engine.registry.get(chosen)
        if sleeper is None:
            refused(full)
            return
        name = sleeper.id

        def over(outcome: KillReceipt | ProcessionError) -> None:
            awake = isinstance(outcome, ProcessionError)
            self._try(act, refused, until, spared | {name} if awake else spared)

        sleeper.hibernate(over)


def _candidate(actor: SessionActor) -> Candidate:
    calls, process = actor.calls, actor.process
    page = process.page() if actor.phase == "ready" and process is not None else None
    idle = page is not None and not page.runs and calls.is_clear and not calls.waiting
    return Candidate(actor.id, idle and actor.hibernate_after_s is not None, max(actor.stable_since, calls.used_at))
