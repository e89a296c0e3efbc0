"""What an action comes to, and what it is given besides the state: two values, shared by every part of the agent.

    (state, moment, parameters) -> Change(ops, reply, directives)

Rules: an action reads no clock and draws no number: time and ids are in its Moment, so the same call makes the same change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Final

from procession.agent_proc.agent.directives import Directive
from procession.ipc.core.state_ops import AnyOp, SetPath, Value


@dataclass(frozen=True, slots=True)
class Moment:
    """When an action runs (`at`, in UTC), and where it gets new ids from (UUIDs of version 4, as text)."""

    at: datetime
    new_id: Callable[[], str]


class _Later(Enum):
    """The one answer that is none yet."""

    LATER = "later"


LATER: Final = _Later.LATER
"""What `Change.later()` answers with."""


@dataclass(frozen=True, slots=True)
class Change:
    """The state ops an action makes, its answer to the caller, and the effects it asks for, each in order.

    `Change.set(count=3).replying(3).asking(Emit("counter.changed"))` writes down the usual ones.
    """

    ops: tuple[AnyOp, ...] = ()
    reply: Value = None
    directives: tuple[Directive, ...] = ()

    @classmethod
    def set(cls, /, **fields: Value) -> Change:
        """Return the change that gives these fields of the state these values. For a part of one, use an op."""
        return cls(tuple(SetPath((name,), value) for name, value in fields.items()))

    def replying(self, reply: Value) -> Change:
        """Return this change with another answer."""
        return replace(self, reply=reply)

    def later(self) -> Change:
        """Return this change without an answer yet: a `Reply` to the id of the signal brings it, and the caller waits."""
        return replace(self, reply=LATER)

    def asking(self, *directives: Directive) -> Change:
        """Return this change with more effects."""
        return replace(self, directives=(*self.directives, *directives))
