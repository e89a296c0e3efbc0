"""What a command came to: the state after it, the ops that lead there, the effects it asks for, and its answers.

It is *not* carried out by anyone yet: the server commits the ops, then carries out the directives. Rule: `ops`, applied to
the state that the command was given, make exactly `state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from procession.agent_proc.agent.directives import AnyDirective, CallAgent, Error, ErrorContext, RunInstruction
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

_NOTHING = Done(None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to: the state after it, the ops that lead there, and the effects it asks for, none carried out yet.

    replies: one for each instruction; of a refused command, the one error.
    """

    state: Mapping[str, Value]
    ops: tuple[AnyOp, ...] = ()
    directives: tuple[AnyDirective, ...] = ()
    replies: tuple[Answer, ...] = ()

    @property
    def answer(self) -> Answer:
        """What whoever asked is answered: the first reply, of a signal the most exact route's; None of a command without any."""
        return self.replies[0] if self.replies else _NOTHING

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


def answered(directive: CallAgent, data: Mapping[str, Value]) -> Instruction:
    """Return the instruction that tells the agent what another one answered. data: of the host's signal."""
    to = directive.to if isinstance(directive.to, str) else getattr(directive.to, directive.to.__struct_fields__[0])
    told: dict[str, Value] = {"call": {"to": to, "type": directive.type}, "meta": directive.meta}
    if "reason" in data:
        told |= {"status": "error", "reason": data["reason"]}
    else:
        told |= {"status": "ok", "result": data.get("result")}
    return Instruction(directive.result_action, told)


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
