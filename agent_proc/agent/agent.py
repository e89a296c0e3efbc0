"""An agent, as its author writes it: a state, and actions that say what becomes of it. Nothing here starts a process.

    class CounterState(BaseModel):
        count: int = 0

    class Counter(Agent[CounterState]):
        @action("counter.increment")
        def increment(self, by: int = 1) -> Change:
            count = self.state.count + by
            return Change.set(count=count).replying(count)

It is *not* what runs them: `cmd.cmd` does, and `phases.on_signal` for signals. Rules: a class is put together and checked
when it is made; it holds no state itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from procession.agent_proc.agent.actions import PlainAction, PlainQuery
from procession.agent_proc.agent.actor import Actor, StateT
from procession.agent_proc.agent.change import Change
from procession.agent_proc.agent.completion import USUAL, Completion
from procession.agent_proc.agent.definition import AgentDefinition, define
from procession.agent_proc.agent.directives import AnyDirective, Cron, Schedule
from procession.agent_proc.agent.error_policy import ErrorPolicy, LogOnly
from procession.agent_proc.agent.instructions import Instruction
from procession.agent_proc.agent.references import Reference
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.skills import Mountable
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest

QUEUE_MAX: Final = 10_000
"""Effects of one agent that wait: many times what one command may ask for."""


class _PutTogether:
    """The definition of a class, made on first use, and anew in a process that got the class by value."""

    __slots__ = ("_definition",)

    def __init__(self) -> None:
        self._definition: AgentDefinition | None = None

    def of(self, kind: type[Agent[Any]]) -> AgentDefinition:
        if self._definition is None:
            self._definition = define(kind, Agent)
        return self._definition

    def __get__(self, _agent: object, kind: type[Agent[Any]]) -> AgentDefinition:
        return self.of(kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return _PutTogether, ()


class Agent(Actor[StateT]):
    """What an agent of one's own inherits from: a declared state, actions that return Changes, routes, skills, schedules.

    name: of the kind of agent, the class's unless given. plain_actions: functions (state, moment, **parameters) -> Change that
    take the plain mapping and check their own values; their ops are taken as they are. plain_queries: functions (state,
    **parameters) -> value, which change nothing. strategy_routes: like routes, with
    the priority of a strategy. schedules: jobs that every agent of this kind has. error_policy: what its errors lead to.
    completion: where its state says that it is finished. children: kinds of agents it may spawn that travel with it, where
    their module cannot be imported. queue_max: effects that may wait to be carried out.
    """

    name: ClassVar[str] = ""
    skills: ClassVar[tuple[Mountable, ...]] = ()
    routes: ClassVar[tuple[Route, ...]] = ()
    strategy_routes: ClassVar[tuple[Route, ...]] = ()
    schedules: ClassVar[tuple[Cron | Schedule, ...]] = ()
    error_policy: ClassVar[ErrorPolicy] = LogOnly()
    completion: ClassVar[Completion] = USUAL
    children: ClassVar[tuple[type[Agent[Any]], ...]] = ()
    queue_max: ClassVar[int] = QUEUE_MAX
    plain_actions: ClassVar[Mapping[str, PlainAction]] = {}
    plain_queries: ClassVar[Mapping[str, PlainQuery]] = {}
    definition: ClassVar[_PutTogether]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "definition" in vars(cls):
            raise InvalidRequest(
                f"{cls.__name__} cannot have a member named definition",
                code="invalid_agent",
                hint="give it another name",
            )
        together = _PutTogether()
        cls.definition = together
        together.of(cls)  # now, so that whatever is wrong with a class is told where it is written

    def on_before_cmd(self, instructions: Sequence[Instruction]) -> Change | None:
        """Change the state, or ask for effects, before a command's instructions run."""

    def on_after_cmd(self, instructions: Sequence[Instruction], directives: Sequence[AnyDirective]) -> Change | None:
        """Change the state, or ask for more effects, after they ran and asked for `directives`."""


def check_agent(found: object, reference: Reference | None = None) -> type[Agent[Any]]:
    """Return `found` if it is an agent that can be started. Raises InvalidRequest, code not_an_agent."""
    if isinstance(found, type) and issubclass(found, Agent) and found is not Agent:
        return found
    if isinstance(found, Agent):
        what, hint = f"an object of class {type(found).__name__}", "give the class itself, without brackets"
    elif found is Agent:
        what, hint = "Agent itself, which does nothing", "give a class of yours that inherits from it"
    elif isinstance(found, type):
        what, hint = f"the class {found.__name__}, which is no agent", "let it inherit from Agent[...]"
    else:
        what, hint = shown(found), "give a class that inherits from Agent[...]"
    raise InvalidRequest(f"{reference or 'what was given'} is {what}", code="not_an_agent", hint=hint)
