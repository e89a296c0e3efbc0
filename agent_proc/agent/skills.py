"""Skills: actions, routes and an isolated piece of state that several agents can have.

    class Audit(Skill[AuditState]):              # its state is kept under the key "audit", and it sees nothing else
        @action("order.**")
        def note(self, **data: Any) -> Change:
            return Change((AppendItems(("entries",), (data,), keep_last=100),))

    class Shop(Agent[ShopState]):
        skills = (Audit,)

It is *not* a way to reach into an agent: paths of its ops begin inside its own piece. Rules: its phases run around every
signal of the agent, skill by skill in the order of `skills`; a phase that raises fails the signal whole, with nothing kept
and nothing sent; a phase changes what is on its way, and only actions, mount, on_checkpoint and on_restore change state.

    handle_signal → prepare_signal → (routes) → prepare_action → (actions) → prepare_emit → transform_result
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, get_args

from procession.agent_proc.agent.actor import Actor, StateT
from procession.agent_proc.agent.change import Change
from procession.agent_proc.agent.directives import Cron, Emit, Schedule
from procession.agent_proc.agent.instructions import Instruction, Instructions
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.signals import Signal
from procession.ipc.core.state_ops import Value

Phase = Literal[
    "mount",
    "handle_signal",
    "prepare_signal",
    "prepare_action",
    "prepare_emit",
    "transform_result",
    "on_checkpoint",
    "on_restore",
]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Handled:
    """What handle_signal may answer. signal: to go on with. instructions: to run instead of what the routes say."""

    signal: Signal | None = None
    instructions: Instructions | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What prepare_signal may answer. signal: to go on with. context: what later phases and the actions are to know."""

    signal: Signal | None = None
    context: Mapping[str, Value] = field(default_factory=dict)


class Skill(Actor[StateT]):
    """What a skill inherits from: actions, routes, schedules and an isolated piece of state that several agents can have.

    name: snake case of the class name unless given; the key of its state, and what stands before its actions' names.
    patterns: of the signals that handle_signal sees. requires: names or capabilities of other skills that an agent with
    this one needs. singleton: it can be mounted once, under its own name.
    """

    name: ClassVar[str] = ""
    patterns: ClassVar[tuple[str, ...]] = ("**",)
    routes: ClassVar[tuple[Route, ...]] = ()
    schedules: ClassVar[tuple[Cron | Schedule, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[tuple[str, ...]] = ()
    singleton: ClassVar[bool] = False

    def mount(self) -> Change | None:
        """Complete the state that a new agent begins with."""

    def handle_signal(self, signal: Signal) -> Handled | None:
        """Look at a signal before it is routed; rewrite it, or say what to run instead. The first such instructions count."""

    def prepare_signal(self, signal: Signal) -> Prepared | None:
        """Verify or rewrite the signal that is about to be routed, and tell what it shows about its sender."""

    def prepare_action(self, instructions: Sequence[Instruction]) -> dict[str, Value] | None:
        """Authorize what is about to run by returning, with more context if there is any; refuse it by raising."""

    def prepare_emit(self, emit: Emit) -> Emit | None:
        """Rewrite a signal that is about to be sent, or where it goes."""

    def transform_result(self, instruction: Instruction, reply: Value) -> Value:
        """Return what the caller of a synchronous call is shown instead of `reply`."""
        del instruction
        return reply

    def on_checkpoint(self) -> Change | None:
        """Make the state fit to be kept while no process has it."""

    def on_restore(self) -> Change | None:
        """Make a state that was kept fit to go on with."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A skill with other than its usual beginnings: `skills = (Mount(Memory, state={"max_pending": 10}),)`.

    key: where its state is, its name unless given; its routes then begin with the key, so that two of one kind differ.
    """

    skill: type[Skill[Any]]
    key: str = ""
    state: Mapping[str, Value] = field(default_factory=dict)


Mountable = type[Skill[Any]] | Mount

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(class_name: str) -> str:
    """Return `FileSystem` as `file_system`."""
    return _WORD.sub("_", class_name).lower()


def overridden(skill: type[Skill[Any]], phase: Phase) -> bool:
    """Say whether the author of `skill` wrote this phase; one that was not written costs nothing."""
    return getattr(skill, phase) is not getattr(Skill, phase)
