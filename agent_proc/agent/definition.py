"""An agent put together: what its class, its plain actions and its skills say, checked against each other once.

It is *not* written by anyone (`agent.py` is what authors inherit from) and runs nothing. Rule: whatever does not fit
together is told when the class is made, by the names its author gave: InvalidRequest, code invalid_agent or invalid_skill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.agent_proc.agent.actions import Action, Mark, PlainAction, mark_of
from procession.agent_proc.agent.actor import RESERVED, Actor, declared_state
from procession.agent_proc.agent.completion import Completion
from procession.agent_proc.agent.directives import Cron, Schedule
from procession.agent_proc.agent.error_policy import POLICIES
from procession.agent_proc.agent.parameters import plain_parameters, typed_parameters
from procession.agent_proc.agent.parts import Part
from procession.agent_proc.agent.patterns import Pattern, parse_pattern
from procession.agent_proc.agent.router import DEFAULT_PRIORITIES, Owner, Route, Router
from procession.agent_proc.agent.skills import PHASES, Mount, Mountable, Phase, Skill, overridden, snake_case
from procession.agent_proc.agent.state_model import StateModel, state_model
from procession.agent_proc.agent.texts import check_name, is_name, near, shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import Value

if TYPE_CHECKING:
    from procession.agent_proc.agent.agent import Agent

SKILLS_MAX: Final = 64
"""Each of them is asked about every signal."""


@dataclass(frozen=True, slots=True)
class MountedSkill:
    """A skill in its place. begins: what its state begins with. patterns: of what its handle_signal sees."""

    part: Part
    skill: type[Skill[Any]]
    begins: Mapping[str, Value]
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """See the module's text. phases: the skills that wrote one, in order."""

    name: str
    part: Part
    parts: Mapping[str, Part]
    actions: Mapping[str, Action]
    router: Router
    skills: tuple[MountedSkill, ...]
    phases: Mapping[Phase, tuple[MountedSkill, ...]]
    schedules: tuple[Cron | Schedule, ...]
    has_before: bool
    has_after: bool

    @property
    def is_bare(self) -> bool:
        """Whether an instruction is its action and nothing else: no skill and no hook has a word in it."""
        return not (self.skills or self.has_before or self.has_after)


def define(agent: type[Agent[Any]], base: type[Agent[Any]]) -> AgentDefinition:
    """Return `agent` put together. base: Agent itself, whose hooks do nothing."""
    _check_attributes(agent, base)
    if len(agent.skills) > SKILLS_MAX:
        raise _invalid(agent, f"has {len(agent.skills)} skills", f"at most {SKILLS_MAX} are allowed")
    skills = tuple(_mounted(agent, mountable) for mountable in agent.skills)
    part = Part(agent, _model_of(agent), others=frozenset(skill.part.key for skill in skills))
    _check_keys(agent, part, skills)
    _check_needs(agent, skills)

    _check_names(agent, base)
    for skill in skills:
        _check_names(skill.skill, Skill)
    own = [*_plain_actions(agent), *_actions(agent, key="")]
    actions = {action.name: action for action in own}
    if len(actions) < len(own):
        twice = Counter(action.name for action in own).most_common(1)[0][0]
        raise _invalid(agent, f"has two actions named {twice}", "a method and a plain action: rename one")
    routes = [
        *_owned(agent.strategy_routes, "strategy"),
        *_owned([*_marked_routes(agent), *agent.routes], "agent"),
    ]
    schedules: list[Cron | Schedule] = list(agent.schedules)
    for skill in skills:
        actions |= {action.name: action for action in _actions(skill.skill, key=skill.part.key)}
        routes += _skill_routes(skill)
        schedules += [_keyed(job, skill.part.key) for job in skill.skill.schedules]
    _check_routes(agent, routes, actions)
    _check_schedules(agent, schedules)
    return AgentDefinition(
        name=agent.name or agent.__name__,
        part=part,
        parts={"": part, **{skill.part.key: skill.part for skill in skills}},
        actions=actions,
        router=Router(routes),
        skills=skills,
        phases={phase: tuple(skill for skill in skills if overridden(skill.skill, phase)) for phase in PHASES},
        schedules=tuple(schedules),
        has_before=agent.on_before_cmd is not base.on_before_cmd,
        has_after=agent.on_after_cmd is not base.on_after_cmd,
    )


def _check_attributes(agent: type[Agent[Any]], base: type[Agent[Any]]) -> None:
    """Refuse what a class says of itself that is of another kind than it must be."""
    for name in ("skills", "routes", "strategy_routes", "schedules", "children"):
        given = getattr(agent, name)
        if not isinstance(given, tuple | list):
            raise _invalid(agent, f"has {shown(given)} as its {name}", f"write them in brackets: {name} = (...,)")
    for route in (*agent.routes, *agent.strategy_routes):
        if not isinstance(route, Route):
            raise _invalid(agent, f"has {shown(route)} among its routes", "give Route(pattern, action)")
    children: Sequence[object] = agent.children
    for child in children:
        if not (isinstance(child, type) and issubclass(child, base)):
            raise _invalid(agent, f"has {shown(child)} among its children", "give classes that inherit from Agent")
    policy: object = agent.error_policy
    if not isinstance(policy, POLICIES):
        hint = "write it with brackets: StopOnError()" if isinstance(policy, type) else "LogOnly(), StopOnError(), ..."
        raise _invalid(agent, f"has {shown(policy)} as its error_policy", hint)
    for name, kind, wanted in (
        ("name", str, "a text"), ("completion", Completion, "Completion(...)"), ("queue_max", int, "a whole number"),
    ):  # fmt: skip
        given = getattr(agent, name)
        if not isinstance(given, kind) or isinstance(given, bool):
            raise _invalid(agent, f"has {shown(given)} as its {name}", f"give {wanted}")
    if agent.queue_max < 1:
        raise _invalid(agent, f"has a queue_max of {agent.queue_max}", "at least one effect has to find room")


def _invalid(actor: type[Actor[Any]], what: str, hint: str) -> InvalidRequest:
    kind = "invalid_skill" if issubclass(actor, Skill) else "invalid_agent"
    return InvalidRequest(f"{actor.__name__} {what}", code=kind, hint=hint)


# -- state -----------------------------------------------------------------------------------------------------------


def _model_of(actor: type[Actor[Any]]) -> StateModel | None:
    if actor.__init__ is not Actor.__init__:
        raise _invalid(actor, "has an __init__ of its own", "it keeps nothing: declare fields of its state instead")
    model = declared_state(actor)
    return None if model is None else state_model(model, actor.__name__)


def _mounted(agent: type[Agent[Any]], mountable: Mountable) -> MountedSkill:
    mount = mountable if isinstance(mountable, Mount) else Mount(mountable)
    skill: Any = mount.skill
    if not (isinstance(skill, type) and issubclass(skill, Skill) and skill is not Skill):
        raise _invalid(
            agent, f"has {shown(skill)} among its skills", "give classes that inherit from Skill, or Mount(...)"
        )
    name = skill.name or snake_case(skill.__name__)
    check_name(name, f"the name of the skill {skill.__name__}", code="invalid_skill")
    key = mount.key or name
    check_name(key, f"the key of the skill {skill.__name__}", code="invalid_skill")
    if skill.singleton and key != name:
        raise _invalid(skill, f"is a singleton and cannot be mounted as {key}", f"its key is {name}")
    return MountedSkill(
        part=Part(skill, _model_of(skill), key),
        skill=skill,
        begins=mount.state,
        patterns=tuple(parse_pattern(pattern) for pattern in skill.patterns),
    )


def _check_keys(agent: type[Agent[Any]], part: Part, skills: Sequence[MountedSkill]) -> None:
    keys = Counter(skill.part.key for skill in skills)
    for key, count in keys.items():
        if count > 1:
            names = ", ".join(skill.skill.__name__ for skill in skills if skill.part.key == key)
            raise _invalid(
                agent, f"has {count} skills with the key {key}: {names}", f"mount one as Mount(..., key='{key}_2')"
            )
        if part.model is not None and key in part.model.fields:
            raise _invalid(
                agent,
                f"has a field {key} in its state, and a skill of that key",
                f"rename the field, or mount the skill as Mount(..., key='{key}_skill')",
            )


def _check_needs(agent: type[Agent[Any]], skills: Sequence[MountedSkill]) -> None:
    there = {_name(skill.skill) for skill in skills} | {word for skill in skills for word in skill.skill.capabilities}
    for skill in skills:
        missing = [need for need in skill.skill.requires if need not in there]
        if missing:
            raise _invalid(
                agent,
                f"has the skill {skill.skill.__name__}, which requires {', '.join(missing)}",
                "add a skill of that name or capability",
            )


def _name(skill: type[Skill[Any]]) -> str:
    return skill.name or snake_case(skill.__name__)


# -- actions ---------------------------------------------------------------------------------------------------------


def _plain_actions(agent: type[Agent[Any]]) -> list[Action]:
    functions: Mapping[str, PlainAction] = agent.plain_actions
    for name in functions:
        check_name(name, f"the name of a plain action of {agent.__name__}", code="invalid_action")
    return [
        Action(name, function, plain_parameters(function, f"{agent.__name__}.{name}"), plain=True)
        for name, function in functions.items()
    ]


def _check_names(actor: type[Actor[Any]], base: type[Actor[Any]]) -> None:
    """Refuse actions whose names mean something else in `base`, Agent or Skill."""
    taken = RESERVED | {name for kind in base.__mro__ for name in vars(kind)}
    for name in _methods(actor):
        if name in taken or name.startswith("_") or not is_name(name):
            raise _invalid(actor, f"cannot have an action named {name}", "give it another, public, name")


def _methods(actor: type[Actor[Any]]) -> dict[str, Mark]:
    """Return the actions of a class, those of the classes it inherits from first, each in the order it was written in."""
    names = dict.fromkeys(name for kind in reversed(actor.__mro__) for name in vars(kind) if mark_of(vars(kind)[name]))
    marks = {}
    for name in names:
        mark = mark_of(getattr(actor, name))
        if mark is None:
            raise _invalid(actor, f"overrides the action {name} by what is none", "put @action above it as well")
        marks[name] = mark
    return marks


def _actions(actor: type[Actor[Any]], key: str) -> list[Action]:
    return [
        Action(
            _qualified(name, key),
            getattr(actor, name),
            typed_parameters(mark.signature, f"{actor.__name__}.{name}"),
            owner=key,
        )
        for name, mark in _methods(actor).items()
    ]


def _qualified(action: str, key: str) -> str:
    return f"{key}.{action}" if key else action


# -- routes and schedules --------------------------------------------------------------------------------------------


def _marked_routes(actor: type[Actor[Any]]) -> list[Route]:
    return [route for name, mark in _methods(actor).items() for route in mark.routes(name)]


def _skill_routes(skill: MountedSkill) -> list[Route]:
    key = skill.part.key
    before = "" if key == _name(skill.skill) else f"{key}."
    return [
        replace(route, pattern=before + route.pattern, action=_qualified(route.action, key))
        for route in _owned([*_marked_routes(skill.skill), *skill.skill.routes], "skill")
    ]


def _owned(routes: Sequence[Route], owner: Owner) -> list[Route]:
    """Give routes without a priority that of their owner."""
    return [
        route if route.priority is not None else replace(route, priority=DEFAULT_PRIORITIES[owner]) for route in routes
    ]


def _check_routes(agent: type[Agent[Any]], routes: Sequence[Route], actions: Mapping[str, Action]) -> None:
    for route in routes:
        if route.action not in actions:
            raise _invalid(
                agent, f"has a route {route.pattern} to {route.action}, which is no action", near(route.action, actions)
            )


def _keyed(job: Cron | Schedule, key: str) -> Cron | Schedule:
    return msgspec.structs.replace(job, job_id=f"{key}.{job.job_id}") if isinstance(job, Cron) and job.job_id else job


def _check_schedules(agent: type[Agent[Any]], schedules: Sequence[object]) -> None:
    ids = set()
    for job in schedules:
        if isinstance(job, Schedule):
            continue
        if not isinstance(job, Cron):
            raise _invalid(agent, f"has {shown(job)} among its schedules", "give Cron(...) or Schedule(...)")
        if not job.job_id:
            raise _invalid(
                agent, f"has a Cron {job.cron!r} without a job_id", "name it, so that a restart keeps it one job"
            )
        if job.job_id in ids:
            raise _invalid(agent, f"has two jobs named {job.job_id}", "rename one")
        ids.add(job.job_id)
