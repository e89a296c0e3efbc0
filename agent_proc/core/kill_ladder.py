"""The kill ladder: what a keeper does next, as a table of (phase, event).

Pure: signals nothing, waits for nothing, reads no clock. The keeper tells it what happened and does what it answers.

    RUNNING --T--> TERMINATING --grace over, main exited--> KILLING --empty, or not proved in time--> OVER
       |  `---A--> ABORTING ------1 s over, main exited-------^
       `--main exited, K, owner or host gone, over a limit----^

Rules: the first cause is the one recorded; once an end has begun it only ever gets harder; the strays' chance to clean
up ends with the main process (nobody is left to wait for them). A cell that is not in the table is a bug of the keeper
and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from procession.ipc.core.bounds import PROOF_TIMEOUT_S

#: Time for a process to write its core story (faulthandler's stacks) between SIGABRT and SIGKILL.
ABORT_GRACE_S: Final = 1.0


class Phase(Enum):
    """How far the end of a domain has come."""

    RUNNING = "running"
    TERMINATING = "terminating"
    ABORTING = "aborting"
    KILLING = "killing"
    OVER = "over"


class Event(Enum):
    """What a keeper can see happen."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    ABORT = "abort"
    KILL = "kill"
    OWNER_CLOSED = "owner closed"
    PARENT_GONE = "parent gone"
    HOST_GONE = "host gone"
    OVER_MEMORY = "over memory"
    OVER_CPU = "over cpu"
    OVER_PROCESSES = "over processes"
    MAIN_EXITED = "main exited"
    EMPTY = "empty"
    DEADLINE = "deadline"


class Action(Enum):
    """What a keeper has to do."""

    NOTHING = "nothing"
    INTERRUPT_MAIN = "SIGINT to the main process"
    TERMINATE_TREE = "SIGTERM to the domain"
    ABORT_MAIN = "SIGABRT to the main process"
    KILL_TREE = "SIGKILL to the domain"
    RECORD = "write the record"


_CAUSES: Final = {
    Event.MAIN_EXITED: "exit",
    Event.TERMINATE: "asked",
    Event.ABORT: "asked",
    Event.KILL: "asked",
    Event.OWNER_CLOSED: "asked",
    Event.PARENT_GONE: "parent_gone",
    Event.HOST_GONE: "host_gone",
    Event.OVER_MEMORY: "memory",
    Event.OVER_CPU: "cpu",
    Event.OVER_PROCESSES: "processes",
}
_AT_ONCE: Final = (
    Event.KILL,
    Event.OWNER_CLOSED,
    Event.PARENT_GONE,
    Event.HOST_GONE,
    Event.OVER_MEMORY,
    Event.OVER_CPU,
    Event.OVER_PROCESSES,
    Event.MAIN_EXITED,
)
_Cell = tuple[Phase, Action]
_KILL: Final[_Cell] = (Phase.KILLING, Action.KILL_TREE)


def _stay(phase: Phase, *events: Event) -> dict[tuple[Phase, Event], _Cell]:
    return {(phase, event): (phase, Action.NOTHING) for event in events}


_TABLE: Final[dict[tuple[Phase, Event], _Cell]] = {
    (Phase.RUNNING, Event.INTERRUPT): (Phase.RUNNING, Action.INTERRUPT_MAIN),
    (Phase.RUNNING, Event.TERMINATE): (Phase.TERMINATING, Action.TERMINATE_TREE),
    (Phase.RUNNING, Event.ABORT): (Phase.ABORTING, Action.ABORT_MAIN),
    **{(Phase.RUNNING, event): _KILL for event in _AT_ONCE},
    **{(Phase.TERMINATING, event): _KILL for event in (*_AT_ONCE, Event.DEADLINE)},
    (Phase.TERMINATING, Event.ABORT): (Phase.ABORTING, Action.ABORT_MAIN),
    **_stay(Phase.TERMINATING, Event.INTERRUPT, Event.TERMINATE),
    **{(Phase.ABORTING, event): _KILL for event in (*_AT_ONCE, Event.DEADLINE)},
    **_stay(Phase.ABORTING, Event.INTERRUPT, Event.TERMINATE, Event.ABORT),
    (Phase.KILLING, Event.EMPTY): (Phase.OVER, Action.RECORD),
    (Phase.KILLING, Event.DEADLINE): (Phase.OVER, Action.RECORD),
    **_stay(Phase.KILLING, Event.INTERRUPT, Event.TERMINATE, Event.ABORT, *_AT_ONCE),
    **_stay(Phase.OVER, *(event for event in Event if event not in (Event.EMPTY, Event.DEADLINE))),
}


class NoSuchStep(AssertionError):
    """An event that cannot happen in this phase: a bug of the keeper."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where an end stands. deadline: monotonic seconds at which DEADLINE is to be told, None while nothing presses."""

    term_grace_s: float
    phase: Phase = Phase.RUNNING
    cause: str = ""
    began: float | None = None
    deadline: float | None = None

    def step(self, event: Event, now: float) -> tuple[Ladder, Action]:
        """Take an event; return the ladder after it and what is to be done. Raises NoSuchStep."""
        cell = _TABLE.get((self.phase, event))
        if cell is None:
            raise NoSuchStep(f"{event.value} while {self.phase.value}")
        phase, action = cell
        if phase is self.phase:
            return self, action
        grace_s = {
            Phase.TERMINATING: self.term_grace_s,
            Phase.ABORTING: ABORT_GRACE_S,
            Phase.KILLING: PROOF_TIMEOUT_S,
        }.get(phase)
        after = replace(
            self,
            phase=phase,
            cause=self.cause or _CAUSES.get(event, ""),
            began=now if self.began is None else self.began,
            deadline=None if grace_s is None else now + grace_s,
        )
        return after, action

    def wait_s(self, now: float) -> float | None:
        """Return how long to wait for the next event: 0 when the deadline has come, None for as long as it takes."""
        return None if self.deadline is None else max(0.0, self.deadline - now)
