"""An instruction: the name of an action and the parameters to run it with. Plain data, which crosses processes.

It is *not* a signal: that is what somebody says, and the router makes instructions of it. Rule: whatever way of writing
one down is allowed becomes an Instruction first (`normalized`), so that nobody else has to know the ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from procession.agent_proc.agent.texts import check_map, check_text, shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

INSTRUCTIONS_MAX: Final = 256
"""Of one command: as many as a mailbox holds commands."""
ACTION_CHARS_MAX: Final = 129
"""A name of a skill, a dot, and a name of an action."""


class Instruction(msgspec.Struct, frozen=True):
    """The name of an action and the parameters to run it with. Raises InvalidRequest, code invalid_instruction."""

    action: str
    parameters: dict[str, Value] = {}

    def __post_init__(self) -> None:
        check_text(self.action, "the name of an action", code="invalid_instruction", chars_max=ACTION_CHARS_MAX)
        check_map(self.parameters, f"the parameters of {self.action}", code="invalid_instruction")


One: TypeAlias = Instruction | str | tuple[str, Mapping[str, Value]]
"""`Instruction("grow", {"by": 2})`, `("grow", {"by": 2})`, or `"grow"` alone."""
Instructions: TypeAlias = One | Sequence[One]


def normalized(given: Instructions) -> tuple[Instruction, ...]:
    """Return what was given as instructions, in order. Raises InvalidRequest, code invalid_instruction."""
    if isinstance(given, Instruction):
        return (given,)
    if isinstance(given, str) or _is_pair(given):
        return (_one(given),)
    if isinstance(given, list | tuple):
        if len(given) > INSTRUCTIONS_MAX:
            raise InvalidRequest(
                f"{len(given)} instructions at once, at most {INSTRUCTIONS_MAX} are allowed", code="invalid_instruction"
            )
        return tuple(_one(item) for item in given)
    raise _no_instruction(given)


def _is_pair(given: object) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], Mapping)


def _one(given: object) -> Instruction:
    match given:
        case Instruction():
            return given
        case str():
            return Instruction(given)
        case (str(action), Mapping() as parameters) if isinstance(given, tuple):
            return Instruction(action, dict(parameters))
        case _:
            raise _no_instruction(given)


def _no_instruction(given: object) -> InvalidRequest:
    return InvalidRequest(
        f"{shown(given)} is no instruction",
        code="invalid_instruction",
        hint="give the name of an action, a pair (name, parameters), an Instruction, or a list of these",
    )
