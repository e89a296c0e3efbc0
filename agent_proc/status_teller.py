"""Tells those who follow it how the agent is doing, whenever that changes: at once, and what changes soon after a moment later.

    changed ──▶ told ──▶ changed again, and again ──▶ [a moment after the last telling] ──▶ told as it is then

It is *not* there while nobody follows. Rules: what was told last is how it is, sooner or later; of an agent that changes a
thousand times a second is told twenty times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from procession.agent_proc.loop import Loop, Timer, monotonic
from procession.ipc.core.agent_records import AgentStatus

PAUSE_S: Final = 0.05
"""Between two tellings: what goes by quicker is seen by nobody, and twenty a second cost a session nothing."""


class StatusTeller:
    """See the module's text. look: says how the agent is doing; tell: tells it."""

    def __init__(self, loop: Loop, look: Callable[[], AgentStatus], tell: Callable[[AgentStatus], None]) -> None:
        self._loop = loop
        self._look = look
        self._tell_followers = tell
        self._told: AgentStatus | None = None
        self._told_at = 0.0
        self._timer: Timer | None = None

    def tell(self) -> None:
        """Tell how it is now, to somebody who does not know."""
        self.close()
        self._told = self._look()
        self._told_at = monotonic()
        self._tell_followers(self._told)

    def changed(self) -> None:
        """Something happened: tell what is new, now or in a moment."""
        if self._timer is not None:
            return
        next_at = self._told_at + PAUSE_S
        if monotonic() >= next_at:
            self._due()
        else:
            self._timer = self._loop.at(next_at, self._due)

    def close(self) -> None:
        """Tell nothing that is still to come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._look() != self._told:
            self.tell()
