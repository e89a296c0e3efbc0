"""What a command came to: the state after it, the ops that lead there, the effects it asks for, and its answers.

It is *not* carried out by anyone yet: the server commits the ops, then carries out the directives. Rule: `ops`, applied to
the state that the command was given, make exactly `state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from procession.agent_proc.agent.directives import AnyDirective, Error, ErrorContext, RunInstruction
from procession.agent_proc.agent.instructions import Instruction
from procession.ipc.core.errors import ProcessionError, to_data
from procession.ipc.core.state_ops import AnyOp, Value


@dataclass(frozen=True, slots=True)
class Done:
    """An instruction's answer."""

    value: Value


@dataclass(frozen=True, slots=True)
class Failed:
    """An instruction that changed nothing, and why."""

    error: ProcessionError


Answer: TypeAlias = Done | Failed


@dataclass(frozen=True, slots=True)
class Outcome:
    """See the module's text. replies: one for each instruction; of a refused command, the one error."""

    state: Mapping[str, Value]
    ops: tuple[AnyOp, ...] = ()
    directives: tuple[AnyDirective, ...] = ()
    replies: tuple[Answer, ...] = ()

    def result(self, at: int = 0) -> Value:
        """Return what instruction number `at` answered; of a signal, the first is the most exact route's. Raises its error."""
        if not self.replies:
            return None
        match self.replies[at]:
            case Done(value):
                return value
            case Failed(error):
                raise error


def refused(state: Mapping[str, Value], error: ProcessionError, context: ErrorContext, action: str = "") -> Outcome:
    """Return the outcome of a command of which nothing is kept: the state as it was, one error."""
    return Outcome(state, directives=(Error(to_data(error), context, action),), replies=(Failed(error),))


def fed_back(directive: RunInstruction, outcome: Outcome) -> Instruction:
    """Return the instruction that tells the agent what came of one it asked for."""
    told: dict[str, Value] = {
        "status": "ok",
        "instruction": {"action": directive.action, "parameters": directive.parameters},
        "meta": directive.meta,
    }
    match outcome.replies[0]:
        case Done(value):
            told["result"] = value
        case Failed(error):
            told |= {"status": "error", "reason": {"code": error.code, "message": str(error)}}
    return Instruction(directive.result_action, told)
