"""What an agent and a skill have in common: a declared state, and methods that read it and say what is to become of it.

    class CounterState(BaseModel):
        count: int = 0

    class Counter(Agent[CounterState]):          # self.state is a CounterState, for the type checker too

It is *not* a thing that lives: an object of it is made for one call and holds what that call sees. Rules: nothing is kept
in attributes (setting one raises); `state` is a copy, and to change it in place is an error; with `Mapping[str, Any]` as
the type, `state` is the plain mapping itself, unchecked.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeGuard, TypeVar, get_args, get_origin

from procession.agent_proc.agent.change import Moment
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

if TYPE_CHECKING:
    from pydantic import BaseModel

StateT = TypeVar("StateT")

NO_CONTEXT: Final[Mapping[str, Value]] = types.MappingProxyType({})

RESERVED: Final = frozenset({"state", "moment", "signal", "context", "definition"})
"""What every actor has: no action and no key of a context may be called so."""


class Actor(Generic[StateT]):
    """See the module's text.

    moment: when this is, and new ids. signal: the one that led here, if one did. context: what skills know of the signal.
    """

    __slots__ = ("context", "moment", "signal", "state")

    state: StateT
    moment: Moment
    signal: Signal | None
    context: Mapping[str, Value]

    def __init__(
        self,
        state: StateT,
        moment: Moment,
        signal: Signal | None = None,
        context: Mapping[str, Value] = NO_CONTEXT,
    ) -> None:
        put = object.__setattr__
        put(self, "state", state)
        put(self, "moment", moment)
        put(self, "signal", signal)
        put(self, "context", context)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__} keeps nothing in attributes, so {name} cannot be set: return a Change of the state"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shown(self.state)} at {self.moment.at:%Y-%m-%dT%H:%M:%S}>"


def declared_state(actor: type[Actor[Any]]) -> type[BaseModel] | None:
    """Return the model between the brackets of `Agent[...]`, None for a mapping.

    Raises InvalidRequest, code invalid_agent, for anything else.
    """
    for kind in actor.__mro__:
        for base in kind.__dict__.get("__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Actor):
                (argument,) = get_args(base)
                return _model(argument, actor.__name__)
    raise AssertionError("Agent and Skill are Actor[...]")


def _model(argument: Any, name: str) -> type[BaseModel] | None:
    if _is_model(argument):
        if argument.__name__ == "BaseModel" and argument.__module__.startswith("pydantic."):
            raise InvalidRequest(
                f"the state of {name} cannot be BaseModel itself",
                code="invalid_agent",
                hint="declare a class that inherits from it; it may be empty",
            )
        return argument
    if isinstance(argument, TypeVar):  # a class that leaves its state to those that inherit from it
        return None
    origin = get_origin(argument) or argument
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return None
    raise InvalidRequest(
        f"the state of {name} cannot be {shown(argument)}",
        code="invalid_agent",
        hint="declare a pydantic model and write it between the brackets, or Mapping[str, Any] for a plain mapping",
    )


def _is_model(argument: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(argument, type) and hasattr(argument, "model_validate") and hasattr(argument, "model_fields")
