"""Who may start when: the start gate's shell, and the hot spares.

A **hot spare** is a forked session process that has not been told who it is: a start takes it and only sends the Boot. It is
replaced a moment later, so that a burst of starts is not slowed by the forks of its own spares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from procession.host.core.start_gate import StartGate
from procession.host.incarnation import Incarnation
from procession.ipc.transport.reactor import Timer

if TYPE_CHECKING:
    from procession.host.engine import Engine

#: A taken spare is replaced this long after, when the start that took it is over.
_REFILL_S: Final = 0.02
#: Spares of one host.
SPARES_MAX: Final = 16

Begin = Callable[[Callable[[], None]], None]


class Starts:
    """See the module's text; the reactor's thread only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reactor = engine.reactor
        self._gate = StartGate()
        self._waiting: dict[str, Begin] = {}
        self._timer: Timer | None = None
        self._spares: list[Incarnation] = []
        self._refill: Timer | None = None
        self._closed = False

    # --- the gate -------------------------------------------------------------------------------------------
    def ask(self, session: str, restart: bool, begin: Begin) -> Callable[[], None] | None:
        """Have `begin(release)` called when a start is allowed; returns what withdraws the wish, None when it has begun."""
        self._waiting[session] = begin
        self._gate.offer(session, self._reactor.now(), restart=restart)
        self._pump()
        if session not in self._waiting:
            return None

        def withdraw() -> None:
            if self._waiting.pop(session, None) is not None:
                self._gate.withdraw(session)

        return withdraw

    def _pump(self) -> None:
        now = self._reactor.now()
        for session in self._gate.admit(now):
            begin = self._waiting.pop(session, None)
            if begin is None:
                self._gate.release(session, now)
            else:
                begin(self._releaser(session))
        due = self._gate.next_due(now)
        if (
            due is not None
            and due > now
            and (self._timer is None or self._timer.callback is None or self._timer.when > due)
        ):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._reactor.call_at(due, self._pump)

    def _releaser(self, session: str) -> Callable[[], None]:
        def release() -> None:
            self._gate.release(session, self._reactor.now())
            self._reactor.call_soon(self._pump)

        return release

    # --- spares ---------------------------------------------------------------------------------------------
    def fill_spares(self) -> None:
        """Fork what is missing of the spares."""
        self._refill = None
        wanted = min(self._engine.options.spares, SPARES_MAX)
        while not self._closed and not self._engine.closed and len(self._spares) < wanted:
            spare = Incarnation(self._reactor, self._engine.zygotes, self._engine.options.preload)
            if spare.over:
                return
            self._spares.append(spare)

    def take_spare(self, preload: tuple[str, ...]) -> Incarnation | None:
        """Return a spare of this preload set, if there is a live one."""
        if preload != self._engine.options.preload:
            return None
        while self._spares:
            spare = self._spares.pop(0)
            if self._refill is None and not self._closed:
                self._refill = self._reactor.call_at(self._reactor.now() + _REFILL_S, self.fill_spares)
            if spare.over:
                continue
            if spare.forked:
                return spare
            spare.discard()
        return None

    def drop_spares(self) -> None:
        """End them all (their zygote is gone, or the host closes)."""
        self._closed = self._closed or self._engine.closed
        spares, self._spares = self._spares, []
        for spare in spares:
            if not spare.over:
                spare.discard()
        if not self._closed and self._engine.options.spares and self._refill is None:
            self._refill = self._reactor.call_at(self._reactor.now() + 1.0, self.fill_spares)

    def forget_after_fork(self) -> None:
        for spare in self._spares:
            spare.forget_after_fork()
