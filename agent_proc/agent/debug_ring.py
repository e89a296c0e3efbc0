"""The last things that happened to an agent, for whoever debugs it: signals received, directives started, and the like.

It is *not* a log (nothing is written) and off unless asked for. Rules: a ring is a value, and recording makes another one;
it keeps its newest `capacity` events; what it shows is newest first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest

CAPACITY_DEFAULT: Final = 500
CAPACITY_MAX: Final = 10_000
"""Recording copies the ring: beyond this it would be felt."""


@dataclass(frozen=True, slots=True)
class DebugEvent:
    """kind: `signal_received`, `directive_started`, `error`, ... detail: one line about it. duration_ms: of what ended."""

    at: datetime
    kind: str
    detail: str = ""
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DebugRing:
    """See the module's text. capacity: 0 is off. events: the oldest first. Raises InvalidRequest, code invalid_capacity."""

    capacity: int = 0
    events: tuple[DebugEvent, ...] = ()

    def __post_init__(self) -> None:
        if type(self.capacity) is not int or not 0 <= self.capacity <= CAPACITY_MAX:
            raise InvalidRequest(
                f"a debug ring keeps 0 to {CAPACITY_MAX} events, not {shown(self.capacity)}", code="invalid_capacity"
            )

    def enabled(self, capacity: int = CAPACITY_DEFAULT) -> DebugRing:
        """Return this ring switched on, with what it has kept and there is room for."""
        return DebugRing(capacity, self.events[max(0, len(self.events) - capacity) :])

    def disabled(self) -> DebugRing:
        """Return a ring that is off; what was kept is gone."""
        return DebugRing()

    def recorded(self, at: datetime, kind: str, detail: str = "", duration_ms: float | None = None) -> DebugRing:
        """Return this ring with one event more; one that is off stays as it is."""
        if self.capacity == 0:
            return self
        keep = self.events[max(0, len(self.events) + 1 - self.capacity) :]
        return replace(self, events=(*keep, DebugEvent(at, kind, detail, duration_ms)))

    def recent(self, limit: int | None = None) -> list[DebugEvent]:
        """Return the newest events, newest first. Raises InvalidRequest, code debug_not_enabled, when it is off."""
        if self.capacity == 0:
            raise InvalidRequest(
                "debug events are not kept for this agent",
                code="debug_not_enabled",
                hint="debug_events(keep=100) keeps them from now on",
            )
        newest_first = list(reversed(self.events))
        return newest_first if limit is None else newest_first[: max(0, limit)]
