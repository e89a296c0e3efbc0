"""`cmd`: run instructions on a state. A pure function; an agent can be tested with nothing else.

    outcome = cmd(Counter, {"count": 1}, ("increment", {"by": 2}), moment)
    outcome.state == {"count": 3}

It is *not* what a signal goes through before it becomes instructions (`phases.py`). Rules: instructions run in order, each
on the state that the one before it left; one that fails changes nothing, becomes an Error directive, and the rest still
run; a command that cannot be read, or whose hook fails, changes nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from procession.agent_proc.agent.acting import Acted, Seen, act, checked_change, finished, guarded
from procession.agent_proc.agent.actions import Action
from procession.agent_proc.agent.actor import NO_CONTEXT
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.definition import AgentDefinition
from procession.agent_proc.agent.directives import DIRECTIVES_MAX, AnyDirective, Error
from procession.agent_proc.agent.instructions import Instruction, Instructions, normalized
from procession.agent_proc.agent.outcome import Answer, Done, Failed, Outcome, refused
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.texts import near
from procession.ipc.core.errors import AgentError, InvalidRequest, ProcessionError, to_data
from procession.ipc.core.state_ops import OPS_MAX, AnyOp, InvalidOp, Value, apply


def cmd(
    agent: type[Agent[Any]],
    state: Mapping[str, Value],
    instructions: Instructions,
    moment: Moment,
    *,
    signal: Signal | None = None,
    context: Mapping[str, Value] = NO_CONTEXT,
) -> Outcome:
    """Return what `instructions` come to; nothing that was given is changed. Raises nothing that an action can cause."""
    definition = agent.definition
    if type(instructions) is Instruction and definition.is_bare:
        action = definition.actions.get(instructions.action)
        if action is not None and action.plain:
            return run_plain(action, state, instructions.parameters, moment)
    seen = Seen(moment, signal, context)
    try:
        todo = normalized(instructions)
    except InvalidRequest as error:
        return refused(state, error, "normalize")
    command = _Command(definition, state, seen)
    try:
        if definition.has_before:
            command.hook("on_before_cmd", lambda agent: agent.on_before_cmd(todo))
        for instruction in todo:
            command.run(instruction)
        if definition.has_after:
            directives = tuple(command.directives)
            command.hook("on_after_cmd", lambda agent: agent.on_after_cmd(todo, directives))
    except ProcessionError as error:
        return refused(state, error, "hook")
    return Outcome(command.state, tuple(command.ops), tuple(command.directives), tuple(command.replies))


def run_plain(action: Action, state: Mapping[str, Value], parameters: dict[str, Value], moment: Moment) -> Outcome:
    """Run a command that is one plain action which no skill and no hook sees (`is_bare`): the usual one, in fewer steps."""
    whole: dict[str, Value] = state if type(state) is dict else dict(state)
    try:
        acted = guarded(action.name, lambda: _run_plain(action, whole, parameters, moment))
    except ProcessionError as error:
        return Outcome(whole, (), (Error(to_data(error), "instruction", action.name),), (Failed(error),))
    return Outcome(acted.state, acted.ops, acted.directives, (Done(acted.reply),))


class _Command:
    """One command under way: what it has come to so far."""

    __slots__ = ("_definition", "_seen", "directives", "ops", "replies", "state")

    def __init__(self, definition: AgentDefinition, state: Mapping[str, Value], seen: Seen) -> None:
        self._definition = definition
        self._seen = seen
        self.state: dict[str, Value] = state if type(state) is dict else dict(state)
        self.ops: list[AnyOp] = []
        self.directives: list[AnyDirective] = []
        self.replies: list[Answer] = []

    def run(self, instruction: Instruction) -> None:
        """Run one instruction; a failure is its answer and an Error directive."""
        try:
            acted = guarded(instruction.action, lambda: _run(self._definition, self.state, instruction, self._seen))
            self._keep(acted, instruction.action)
        except ProcessionError as error:
            self.replies.append(Failed(error))
            self.directives.append(Error(to_data(error), "instruction", instruction.action))
        else:
            self.replies.append(Done(acted.reply))

    def hook(self, name: str, call: Callable[[Any], Change | None]) -> None:
        """Run a hook. Raises what it raises, as an error of the one tree."""
        self._keep(act(self._definition.part, self.state, self._seen, f"the hook {name}", call), name)

    def _keep(self, acted: Acted, what: str) -> None:
        if len(self.ops) + len(acted.ops) > OPS_MAX:
            raise AgentError(
                f"{what} would make more than {OPS_MAX} ops of one command",
                code="too_many_ops",
                hint="replace the whole value in one op, or split the command",
            )
        if len(self.directives) + len(acted.directives) > DIRECTIVES_MAX:
            raise AgentError(
                f"{what} would make more than {DIRECTIVES_MAX} directives of one command", code="too_many_directives"
            )
        self.state = acted.state
        self.ops += acted.ops
        self.directives += acted.directives


def _run(definition: AgentDefinition, state: dict[str, Value], instruction: Instruction, seen: Seen) -> Acted:
    """Run one instruction. Raises InvalidRequest for one that is refused, AgentError for one that fails."""
    name = instruction.action
    action = definition.actions.get(name)
    if action is None:
        raise InvalidRequest(
            f"{definition.name} has no action {name}", code="unknown_action", hint=near(name, definition.actions)
        )
    if action.plain:
        return _run_plain(action, state, instruction.parameters, seen.moment)
    bound = action.parameters.bind(name, instruction.parameters)
    return act(definition.parts[action.owner], state, seen, name, lambda actor: action.function(actor, **bound))


def _run_plain(action: Action, state: dict[str, Value], parameters: dict[str, Value], moment: Moment) -> Acted:
    """Run a function that checks its own values; its ops are looked at when they are encoded for the journal."""
    action.parameters.check_names(action.name, parameters)
    change = checked_change(action.function(state, moment, **parameters), action.name)
    try:
        after = apply(state, change.ops, checked=True) if change.ops else state
    except InvalidOp as error:
        raise AgentError(f"{action.name} asked for an impossible change: {error}", code="invalid_op") from None
    return Acted(after, change.ops, change.reply, finished(change.directives, moment))
