"""Around `cmd`: how an agent begins, what a signal goes through, and what is done with the state while nobody has it.

    handle_signal → prepare_signal → (routes) → prepare_action → (cmd) → prepare_emit → transform_result

It is *not* the carrying out of directives. Rules: skills are asked in the order in which the agent names them; a phase that
raises, or returns what it may not, fails the whole signal: the state is as it was, nothing is sent, one Error directive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from procession.agent_proc.agent.acting import Seen, act, observe
from procession.agent_proc.agent.actor import NO_CONTEXT, RESERVED
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.change import LATER, Moment
from procession.agent_proc.agent.cmd import cmd
from procession.agent_proc.agent.definition import AgentDefinition, MountedSkill
from procession.agent_proc.agent.directives import DATA_FIELDS, AnyDirective, Emit, Stop, completed
from procession.agent_proc.agent.instructions import Instruction, Instructions, normalized
from procession.agent_proc.agent.outcome import Done, Outcome, refused
from procession.agent_proc.agent.signal_types import ADVISORY, AGENT_STOP, translated
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.skills import Handled, Phase, Prepared
from procession.agent_proc.agent.state_model import Unfit, plain, with_plain_data
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.agent_keys import SERVER_KEYS
from procession.ipc.core.errors import AgentError, InvalidRequest, ProcessionError
from procession.ipc.core.state_ops import AnyOp, ReplaceState, Value
from procession.ipc.core.values import UnsupportedValue

T = TypeVar("T")


def begin(agent: type[Agent[Any]], given: Mapping[str, Value], moment: Moment) -> Outcome:
    """Return what a new agent begins with: its model's defaults under `given`, its skills' pieces, each mounted.

    Raises InvalidRequest, code invalid_state, for what the models do not take, and AgentError for a mount that fails.
    """
    definition = agent.definition
    if not isinstance(given, Mapping):
        raise InvalidRequest(
            f"{definition.name} begins with a mapping of its fields, not with a {type(given).__name__}",
            code="invalid_state",
            hint="of a model, give its .model_dump()",
        )
    state: dict[str, Value] = {}
    try:
        own = {key: value for key, value in given.items() if key not in definition.part.others}
        model = definition.part.model
        if model is None and (taken := SERVER_KEYS & own.keys()):
            raise Unfit(f"{', '.join(sorted(taken))} is the server's")
        state |= plain(own) if model is None else model.dump(model.load(own))
        for skill in definition.skills:
            piece = {**skill.begins, **given.get(skill.part.key, {})}
            state[skill.part.key] = (
                plain(piece) if skill.part.model is None else skill.part.model.dump(skill.part.model.load(piece))
            )
    except (Unfit, UnsupportedValue, TypeError) as error:
        raise InvalidRequest(f"{definition.name} cannot begin so: {error}", code="invalid_state") from None
    mounted = _changed(definition, "mount", state, moment)
    return Outcome(mounted.state, (ReplaceState(dict(mounted.state)),), mounted.directives)


def on_checkpoint(agent: type[Agent[Any]], state: Mapping[str, Value], moment: Moment) -> Outcome:
    """Return the state as skills want it kept. Raises AgentError when one fails: then there is no checkpoint."""
    return _changed(agent.definition, "on_checkpoint", state, moment)


def on_restore(agent: type[Agent[Any]], state: Mapping[str, Value], moment: Moment) -> Outcome:
    """Return a kept state as skills want to go on with it. Raises AgentError when one fails."""
    return _changed(agent.definition, "on_restore", state, moment)


def on_signal(
    agent: type[Agent[Any]], state: Mapping[str, Value], signal: Signal, moment: Moment, *, is_call: bool = False
) -> Outcome:
    """Return what `signal` comes to. is_call: somebody waits for the answer, so that skills may transform it."""
    signal = translated(signal)
    definition = agent.definition
    phases = _Phases(definition, state, moment, signal)
    try:
        instructions = phases.handled()
        phases.prepare_signal()
    except ProcessionError as error:
        return refused(state, error, "skill")
    try:
        if instructions is None:
            instructions = definition.router.instructions(phases.signal)
    except ProcessionError as error:
        return _unrouted(definition, state, phases.signal, error)
    return _perform(agent, phases, instructions, is_call)


def on_instructions(
    agent: type[Agent[Any]],
    state: Mapping[str, Value],
    instructions: Instructions,
    moment: Moment,
    *,
    is_call: bool = False,
) -> Outcome:
    """Return what `instructions` that no signal brought come to, with the phases that come after the routes."""
    definition = agent.definition
    if definition.is_bare and type(instructions) is Instruction:
        return cmd(agent, state, instructions, moment)
    return _perform(agent, _Phases(agent.definition, state, moment, None), instructions, is_call)


def _unrouted(
    definition: AgentDefinition, state: Mapping[str, Value], signal: Signal, error: ProcessionError
) -> Outcome:
    if error.code == "no_route" and signal.type == AGENT_STOP:
        return Outcome(state, directives=(Stop(_reason(signal)),))
    if error.code == "no_route" and signal.type in ADVISORY:
        return Outcome(state)
    if error.code == "no_route" and signal.type in definition.actions:
        error.hint = _what_runs(definition, signal.type)
    return refused(state, error, "routing")


def _what_runs(definition: AgentDefinition, action: str) -> str:
    """Return how an action is run that was called by its name, as if that were a type of signal."""
    types = [route.pattern for route in definition.router.routes if route.action == action]
    if types:
        return f"signals of type {' or '.join(types)} run the action {action}"
    return f"""the action {action} has no type that runs it: give it one, as in @action("my.{action}")"""


def _reason(signal: Signal) -> str:
    reason = signal.data.get("reason") if isinstance(signal.data, dict) else None
    try:
        return Stop(reason).reason if reason else Stop().reason
    except InvalidRequest:  # to end matters more than to say nicely why
        return Stop().reason


def _perform(agent: type[Agent[Any]], phases: _Phases, instructions: Instructions, is_call: bool) -> Outcome:
    state = phases.state
    try:
        todo = normalized(instructions)
    except InvalidRequest as error:
        return refused(state, error, "normalize")
    try:
        phases.prepare_action(todo)
        seen = phases.seen
        outcome = cmd(agent, state, todo, seen.moment, signal=seen.signal, context=seen.context)
        phases.state = outcome.state
        outcome = phases.prepare_emits(outcome)
        return phases.transform_results(outcome, todo) if is_call else outcome
    except ProcessionError as error:
        return refused(state, error, "skill")


class _Phases:
    """One signal, or one list of instructions, on its way through the skills."""

    def __init__(
        self, definition: AgentDefinition, state: Mapping[str, Value], moment: Moment, signal: Signal | None
    ) -> None:
        self._definition = definition
        self.state = state
        self.seen = Seen(moment, signal, NO_CONTEXT)

    @property
    def signal(self) -> Signal:
        assert self.seen.signal is not None, "only a signal has these phases"
        return self.seen.signal

    def handled(self) -> Instructions | None:
        """Run handle_signal up to the first that says what to run instead of the routes."""
        for skill in self._definition.phases["handle_signal"]:
            if not any(pattern.matches(self.signal.type) for pattern in skill.patterns):
                continue
            answer = self._ask(skill, "handle_signal", Handled, self.signal)
            if answer is not None:
                self._rewrite(answer.signal)
                if answer.instructions is not None:
                    return answer.instructions
        return None

    def prepare_signal(self) -> None:
        for skill in self._definition.phases["prepare_signal"]:
            answer = self._ask(skill, "prepare_signal", Prepared, self.signal)
            if answer is not None:
                self._rewrite(answer.signal)
                self._learn(skill, "prepare_signal", answer.context)

    def prepare_action(self, instructions: tuple[Instruction, ...]) -> None:
        for skill in self._definition.phases["prepare_action"]:
            answer = self._ask(skill, "prepare_action", dict, instructions)
            if answer is not None:
                self._learn(skill, "prepare_action", answer)

    def prepare_emits(self, outcome: Outcome) -> Outcome:
        skills = self._definition.phases["prepare_emit"]
        if not skills:
            return outcome
        return replace(
            outcome,
            directives=tuple(
                self._prepared(directive, skills) if isinstance(directive, Emit) else directive
                for directive in outcome.directives
            ),
        )

    def _prepared(self, emit: Emit, skills: tuple[MountedSkill, ...]) -> Emit:
        for skill in skills:
            given = self._ask(skill, "prepare_emit", Emit, emit)
            if given is not None:
                emit = _plain_emit(given, skill)
        return completed(emit, self.seen.moment)

    def transform_results(self, outcome: Outcome, instructions: tuple[Instruction, ...]) -> Outcome:
        skills = self._definition.phases["transform_result"]
        if not skills:
            return outcome
        replies = list(outcome.replies)
        for skill in skills:
            for at, (instruction, reply) in enumerate(zip(instructions, replies, strict=False)):
                if isinstance(reply, Done) and reply.value is not LATER:
                    shows = self._observe(skill, "transform_result", instruction, reply.value)
                    replies[at] = Done(_plain_reply(shows, skill))
        return replace(outcome, replies=tuple(replies))

    def _observe(self, skill: MountedSkill, phase: Phase, *arguments: object) -> Any:
        return observe(
            skill.part,
            self.state,
            self.seen,
            f"{skill.part.key}.{phase}",
            lambda actor: getattr(actor, phase)(*arguments),
        )

    def _ask(self, skill: MountedSkill, phase: Phase, kind: type[T], *arguments: object) -> T | None:
        """Run a phase that returns None or a `kind`. Raises AgentError for anything else."""
        answer = self._observe(skill, phase, *arguments)
        if answer is None or isinstance(answer, kind):
            return answer
        raise AgentError(
            f"{skill.part.key}.{phase} returned {shown(answer)}, not None or a {kind.__name__}", code="invalid_answer"
        )

    def _rewrite(self, signal: object) -> None:
        if signal is None:
            return
        if not isinstance(signal, Signal):
            raise AgentError(f"a skill rewrote a signal as {shown(signal)}", code="invalid_answer")
        self.seen = replace(self.seen, signal=signal)

    def _learn(self, skill: MountedSkill, phase: Phase, context: object) -> None:
        if not isinstance(context, Mapping) or not all(type(name) is str for name in context):
            raise AgentError(
                f"{skill.part.key}.{phase} gave {shown(context)} as context, not a map", code="invalid_answer"
            )
        for name in context:
            if name in RESERVED or name in self.seen.context:
                why = "is reserved" if name in RESERVED else "is there already"
                raise AgentError(
                    f"{skill.part.key}.{phase} adds {shown(name)} to the context, which {why}", code="context_conflict"
                )
        if context:
            self.seen = replace(self.seen, context={**self.seen.context, **context})


def _plain_emit(emit: Emit, skill: MountedSkill) -> Emit:
    try:
        return with_plain_data(emit, DATA_FIELDS)
    except UnsupportedValue as error:
        raise AgentError(
            f"{skill.part.key}.prepare_emit returned what is no plain data: {error}", code="invalid_answer"
        ) from None


def _plain_reply(value: Value, skill: MountedSkill) -> Value:
    try:
        return plain(value)
    except UnsupportedValue as error:
        raise AgentError(
            f"{skill.part.key}.transform_result returned no plain data: {error}", code="invalid_answer"
        ) from None


def _changed(definition: AgentDefinition, phase: Phase, state: Mapping[str, Value], moment: Moment) -> Outcome:
    """Run a phase that changes the state, for every skill that has it. Raises AgentError, and then nothing happened."""
    after = dict(state)
    ops: list[AnyOp] = []
    directives: list[AnyDirective] = []
    for skill in definition.phases[phase]:
        acted = act(
            skill.part,
            after,
            Seen(moment, None, NO_CONTEXT),
            f"{skill.part.key}.{phase}",
            lambda actor: getattr(actor, phase)(),
        )
        after = acted.state
        ops += acted.ops
        directives += acted.directives
    return Outcome(after, tuple(ops), tuple(directives))
