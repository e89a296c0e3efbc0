"""When an agent is finished, as its state tells it, and when several are: what awaiting waits for.

It is *not* the waiting. Rules: an agent says that it is finished by its state (`status` is "completed" or "failed"); where
that stands can be told; a result is looked at, never taken, so any number may await it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from procession.ipc.core.agent_records import Finished
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.state_ops import Path, Value

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Completion:
    """Where an agent's state says that it is finished, with what answer, or with what error: paths of keys.

    At `status` it has to say "completed" or "failed", in these words, when it is; anything else is that it goes on.
    """

    status: Path = ("status",)
    answer: Path = ("last_answer",)
    error: Path = ("error",)


USUAL: Final = Completion()


@dataclass(frozen=True, slots=True)
class Lost:
    """That one of several agents can no longer finish: it is not there, or dead. The error names its session."""

    error: ProcessionError


Awaited: TypeAlias = Finished | ProcessionError | None
"""What is known of an awaited agent; None while it is at work."""


def finished(state: Mapping[str, Value], where: Completion = USUAL) -> Finished | None:
    """Return how the agent with this state finished, None while it has not."""
    match _at(state, where.status):
        case "completed":
            return Finished("completed", _at(state, where.answer))
        case "failed":
            return Finished("failed", _at(state, where.error))
        case _:
            return None


def all_of(agents: Mapping[A, Awaited]) -> dict[A, Finished] | Lost | None:
    """Return how all of them finished, the first that is lost, or None while some are at work. Of none, all have."""
    done: dict[A, Finished] = {}
    for agent, seen in agents.items():
        if isinstance(seen, ProcessionError):
            return Lost(seen)
        if seen is not None:
            done[agent] = seen
    return done if len(done) == len(agents) else None


def any_of(agents: Mapping[A, Awaited]) -> tuple[A, Finished] | Lost | None:
    """Return the first that finished, or is lost; None while all are at work, and for no agents at all."""
    for agent, seen in agents.items():
        if isinstance(seen, ProcessionError):
            return Lost(seen)
        if seen is not None:
            return agent, seen
    return None


def _at(state: Mapping[str, Value], path: Path) -> Value:
    here: Value = state
    for key in path:
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here
