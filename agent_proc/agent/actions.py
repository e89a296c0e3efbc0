"""Actions: the functions that decide. `@action` on a method of an agent or a skill makes one of it.

    @action("counter.increment")
    def increment(self, by: int = 1) -> Change:
        return Change.set(count=self.state.count + by)

It is *not* a wrapper: the method stays what it was. Rules: an action reads `self.state` and its parameters, changes
neither, and returns a Change (or None for none); it may raise InvalidRequest to refuse what it was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from procession.agent_proc.agent.change import Change
from procession.agent_proc.agent.parameters import Parameters, Signature, invalid_action, read_signature
from procession.agent_proc.agent.router import Condition, Route
from procession.ipc.core.state_ops import Value

PlainAction = Callable[..., Change]
"""(state, moment, **parameters) -> Change: the state is the plain mapping, and the function checks its own values."""

PlainQuery = Callable[..., Value]
"""(state, **parameters) -> value: it checks its own values too, and keeps nothing of the state."""

Method = TypeVar("Method", bound=Callable[..., Change | None])

ATTRIBUTE: Final = "__procession_action__"


@dataclass(frozen=True, slots=True)
class Mark:
    """What `@action` leaves on a method: its signature, and the signals that run it."""

    signature: Signature
    types: tuple[str, ...]
    priority: int | None
    when: Condition | None

    def routes(self, action: str) -> list[Route]:
        """Return the routes of the method that is called `action`."""
        return [Route(pattern, action, self.priority, self.when) for pattern in self.types]


@dataclass(frozen=True, slots=True)
class Action:
    """One action of an agent. owner: the key of the skill it belongs to, empty for the agent's own. plain: a PlainAction."""

    name: str
    function: Callable[..., Any]
    parameters: Parameters
    owner: str = ""
    plain: bool = False


def action(*types: str, priority: int | None = None, when: Condition | None = None) -> Callable[[Method], Method]:
    """Make a method an action, called by its name, and by signals of these types (patterns, as in Route).

    Raises InvalidRequest, code invalid_action or as Route.
    """
    if types and not isinstance(types[0], str):
        raise invalid_action(
            getattr(types[0], "__name__", "this"), "@action needs its brackets", 'write @action("my.type") or @action()'
        )

    def decorate(method: Method) -> Method:
        name = getattr(method, "__qualname__", "this").rpartition("<locals>.")[2]
        mark = Mark(read_signature(method, name), types, priority, when)
        mark.routes("action")  # so that a wrong pattern is told here
        setattr(method, ATTRIBUTE, mark)
        return method

    return decorate


def mark_of(method: object) -> Mark | None:
    """Return what `@action` left on `method`; None for what is no action."""
    found = getattr(method, ATTRIBUTE, None)
    return found if isinstance(found, Mark) else None
