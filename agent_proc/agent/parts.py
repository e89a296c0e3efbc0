"""An actor's piece of the whole state: a skill's is what lies under its key, the agent's own is all the rest.

It is *not* a check of what a piece holds (`state_model.py`). Rule: an actor's ops are written as if its piece were the whole
state; here they become ops on the whole, and none can reach into the piece of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from procession.agent_proc.agent.actor import Actor
from procession.agent_proc.agent.state_model import StateModel
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.agent_keys import SERVER_KEYS
from procession.ipc.core.errors import AgentError
from procession.ipc.core.state_ops import AnyOp, DeleteKeys, DeletePath, ReplaceState, SetPath, SetState, Value


@dataclass(frozen=True, slots=True)
class Part:
    """key: of a skill, empty for the agent. others: the keys that are not the agent's own. model: None for a mapping."""

    actor: type[Actor[Any]]
    model: StateModel | None
    key: str = ""
    others: frozenset[str] = frozenset()

    def own(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """Return this part's piece of `state`. Raises AgentError, code invalid_state, when something else is there."""
        if not self.key:
            return {key: value for key, value in state.items() if key not in self.others}
        own = state.get(self.key, {})
        if type(own) is not dict:
            raise AgentError(f"the state of {self.key} is {shown(own)}, not a mapping", code="invalid_state")
        return own

    def on_whole(self, ops: tuple[AnyOp, ...], state: Mapping[str, Value], what: str) -> tuple[AnyOp, ...]:
        """Return ops on this part's piece, well formed, as ops on the whole `state`: the same ones where it is the whole.

        Raises AgentError, code foreign_state, for one on a skill's key or the server's. what: who asked for them.
        """
        if self.key:
            return tuple(op for own in ops for op in self._inside(own))
        if self.model is None and (taken := SERVER_KEYS & changed_fields(ops)):
            raise AgentError(
                f"{what} would change {', '.join(sorted(taken))}, which is the server's",
                code="foreign_state",
                hint="use another name",
            )
        if not self.others:
            return ops
        if strange := self.others & changed_fields(ops):
            raise AgentError(
                f"{what} would change {', '.join(sorted(strange))}, the state of a skill",
                code="foreign_state",
                hint="let an action of the skill do it",
            )
        return tuple(self._beside(op, state) for op in ops)

    def _inside(self, op: AnyOp) -> list[AnyOp]:
        match op:
            case SetState(attrs):
                return [SetState({self.key: attrs})]
            case ReplaceState(own):
                return [SetPath((self.key,), own)]
            case DeleteKeys(keys):
                return [DeletePath((self.key, key)) for key in keys]
            case _:
                return [msgspec.structs.replace(op, path=(self.key, *op.path))]

    def _beside(self, op: AnyOp, state: Mapping[str, Value]) -> AnyOp:
        """Let a replaced state keep the skills' pieces, which no op of the agent's can have changed before."""
        if not isinstance(op, ReplaceState):
            return op
        return ReplaceState({**op.state, **{key: state[key] for key in self.others if key in state}})


def changed_fields(ops: tuple[AnyOp, ...]) -> set[str]:
    """Return the first keys of all that `ops` may change; of a ReplaceState, what it holds."""
    found: set[str] = set()
    for op in ops:
        match op:
            case SetState(attrs):
                found.update(attrs)
            case ReplaceState(state):
                found.update(state)
            case DeleteKeys(keys):
                found.update(keys)
            case _:
                found.add(op.path[0])
    return found
