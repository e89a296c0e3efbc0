"""The agent of a session process and the mailbox around it: the pure agent decides, this adopts, answers and hands on.

    call ──▶ phases (pure) ──▶ Outcome(state, ops, directives, replies) ──▶ ops leave with the answer ──▶ directives, in order

It is *not* where anything about an agent is decided (`agent/`), nor where its effects are carried out (agent_effects.py).
Rules: a state is adopted only once its ops are encoded and its effects have room; ops leave before, or with, whatever could
have seen them; one signal at a time, to its end; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.asking import answer, check_ours
from procession.agent_proc.agent.change import LATER
from procession.agent_proc.agent.cmd import run_plain
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.instructions import Instruction, Instructions
from procession.agent_proc.agent.outcome import Done, Failed, Outcome, refused
from procession.agent_proc.agent.phases import begin, on_instructions, on_restore, on_signal
from procession.agent_proc.agent.signal_types import AGENT_ERROR, CALL_ANSWERED
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent_effects import Effects
from procession.agent_proc.agent_results import Results
from procession.agent_proc.agent_values import decoded, decoded_map, now, signal_from
from procession.agent_proc.context import Context
from procession.agent_proc.loop import monotonic
from procession.agent_proc.state_budget import StateBudget, check_change
from procession.ipc import kill_points
from procession.ipc.core.agent_keys import ANSWER_KEY, FINISHED_KEY, JOBS_KEY, TOOLS_KEY
from procession.ipc.core.agent_records import AgentStatus
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import AgentError, InvalidRequest, ProcessionError, cut
from procession.ipc.core.messages import EMPTY, Call, Commit, Deliver, Reply, Subscribers, encode
from procession.ipc.core.operations import ActBody, AskBody, AwaitBody, DebugBody, Nothing, SignalBody
from procession.ipc.core.state_ops import AnyOp, DeletePath, InvalidOp, ReplaceState, SetPath, Value, encode_ops
from procession.ipc.core.values import UnsupportedValue, encode_value

if TYPE_CHECKING:
    from procession.agent_proc.agent_memory import Memories
    from procession.agent_proc.status_teller import StatusTeller

_NOTHING: Final = msgspec.Raw(encode(Nothing()))
_OUR_SOURCES: Final = ("/procession/host", "/procession/session/")
"""How the source of a signal begins that the host or an agent gave."""


class AgentServer:
    """See the module's text. The agent's state is decoded when something first needs it: most starts never do."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.agent: type[Agent[Any]] = CodeSessionAgent
        self.results = Results(context, self._standing)
        self.effects = Effects(self)
        self._state: dict[str, Value] | None = None
        self._budget: StateBudget | None = None  # of an agent of one's own; a code session counts what it holds
        self._memory: Memories | None = None
        self._is_followed = False
        self._teller: StatusTeller | None = None

    # --- beginning ------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Take what Boot says of the agent; one of the program's own is loaded, and begins or is restored, now.

        Raises whatever its module, its models or its skills do: then there is no session.
        """
        boot = self.context.booted
        if not boot.agent and not boot.agent_code:
            return
        from procession.agent_proc.agent_loading import load_agent

        self.agent = load_agent(boot.agent, boot.agent_code, boot.import_paths)
        given = self.state
        self._keep(begin(self.agent, given, now()) if boot.fresh else on_restore(self.agent, given, now()))
        self.effects.arm(self.agent.definition.schedules)

    @property
    def state(self) -> dict[str, Value]:
        """The agent's state; to be read only."""
        if self._state is None:
            encoded = self.context.read_payload(self.context.booted.state)
            state = decoded(encoded)
            if self.agent is not CodeSessionAgent:
                self._budget = StateBudget(len(encoded))
            assert type(state) is dict, "the host sends a map"
            self._state = state
            if self.context.booted.fresh:  # what an agent of one's own is given: nothing of ours is in it
                return state
            self.effects.restore(state.pop(JOBS_KEY, {}))
            answer, tools = state.pop(ANSWER_KEY, None), state.pop(TOOLS_KEY, None)
            if state.pop(FINISHED_KEY, None) is not None:
                self.commit(DeletePath((FINISHED_KEY,)))  # it was stopped, and goes on
            if answer is not None and state.get("streaming_message_id") == answer:
                self.do("end_streaming")  # who gave it went with the last process
            if tools:
                from procession.agent_proc.tool_life import close_left  # only after a death in the middle of a tool

                close_left(self, tools)
            if self.agent is CodeSessionAgent and _has_what_may_wait(self._state):
                self.memory.look()
        return self._state

    # --- calls ----------------------------------------------------------------------------------------------
    def act(self, call: Call, body: ActBody) -> None:
        """Run one action, and answer with what it replies."""
        parameters = decoded_map(self._payload(call), f"the parameters of {body.action}")
        definition = self.agent.definition
        action = definition.actions.get(body.action)
        if action is None:
            check_ours(definition.name, body.action, CodeSessionAgent.plain_actions, "unknown_action")
        if action is not None and action.plain and definition.is_bare:
            outcome = run_plain(action, self.state, parameters, now())
        elif body.action == "recall" and self.agent is CodeSessionAgent:  # it needs the index, which no action has
            self._reply(call, self.recall(parameters), EMPTY)
            return
        else:
            outcome = on_instructions(self.agent, self.state, Instruction(body.action, parameters), now(), is_call=True)
        self._conclude(call, outcome)

    def ask(self, call: Call, body: AskBody) -> None:
        """Answer a query."""
        agent = self.agent
        parameters = decoded_map(self._payload(call), f"the parameters of {body.query}")
        self._reply(call, answer(agent.definition.name, agent.plain_queries, self.state, body.query, parameters), EMPTY)

    def signal(self, call: Call, body: SignalBody) -> None:
        """Handle a signal, and answer with what came of it; or answer first, when nobody waits."""
        signal = signal_from(self._payload(call))
        if not body.wait:
            try:
                self.handle(signal)
            except Exception as bug:  # nobody waits to be told
                self.effects.failed(AgentError(cut(f"{signal.type}: {bug!r}"), code="session_bug"))
            self._reply(call, signal.id, EMPTY)  # last: what it led to is kept before it counts as handled
            return
        outcome = self._decide(signal, is_call=True)
        comes_later = self.results.comes_later(outcome)
        chain = call.chain if comes_later else ()  # who has its answer does not wait for what follows from it
        with self.effects.caused_by(self.effects.cause_of(signal, chain)):
            if comes_later:
                self._keep(outcome, call.seq)
                self.results.wait(call, signal.id, self.state, self.agent.completion)
            else:
                self._conclude(call, outcome)

    def await_result(self, call: Call, body: AwaitBody) -> None:
        """Answer once there is a result of the signal with this id, or, without one, once the agent is finished."""
        self.results.wait(call, body.id, self.state, self.agent.completion)

    def debug_events(self, call: Call, body: DebugBody) -> None:
        """Switch the ring of events on or off, and answer with what it holds, newest first."""
        if body.keep is not None:
            self.effects.keep_events(body.keep)
        found = [] if body.keep == 0 else self.effects.events(body.limit)
        self._reply(call, [{name: getattr(one, name) for name in one.__slots__} for one in found], EMPTY)

    @property
    def status(self) -> AgentStatus:
        """How the agent is doing."""
        state, effects = self.state, self.effects
        is_busy = effects.pending > 0 or (self.agent is CodeSessionAgent and state["is_streaming"])
        finished = self.results.finished(state, self.agent.completion)
        return AgentStatus(
            agent=self.agent.definition.name,
            status="stopping" if self.context.stopping else "processing" if is_busy else "idle",
            finished=finished.status if finished is not None else "",
            queued=effects.pending,
            errors=effects.errors,
            last_error=effects.last_error,
            schedules=effects.schedules,
            jobs=effects.jobs,
        )

    def _standing(self) -> str:
        effects = self.effects
        doing = f"is at work, effects to carry out: {effects.pending}" if effects.pending else "is idle"
        said = f"it {doing}; signals to come later: {effects.schedules}; errors so far: {effects.errors}"
        return f"{said}, the last: {effects.last_error}" if effects.errors else said

    # --- what our own parts do ------------------------------------------------------------------------------
    def check_code_session(self, verb: str) -> None:
        """Refuse what only a code session has."""
        if self.agent is not CodeSessionAgent:
            raise InvalidRequest(f"{verb} is for code sessions, and this agent is another", code="not_a_code_session")

    def do(self, action: str, **parameters: Value) -> Any:
        """Run an action of the code session that a part of ours asks for; return its reply. Raises what it refuses with."""
        outcome = on_instructions(self.agent, self.state, Instruction(action, parameters), now())
        value = outcome.result()
        self._keep(outcome)
        return value

    @property
    def is_to_promote(self) -> bool:
        """Whether its memory has a promotion to come."""
        return self._memory is not None and self._memory.is_armed

    @property
    def memory(self) -> Memories:
        """What a code session's memory needs in its process; made when something first does."""
        if self._memory is None:
            from procession.agent_proc.agent_memory import Memories

            self._memory = Memories(self)
        return self._memory

    def recall(self, parameters: dict[str, Value]) -> list[dict[str, Any]]:
        """Find memories. Parameters and answer as of Memories.recall; raises as that does, and for other agents."""
        self.check_code_session("recall")
        return self.memory.recall(parameters)

    def close(self) -> None:
        """Do what is to be done when the session is stopped, before anything else of it ends."""
        if self.agent is CodeSessionAgent and (self._memory is not None or _has_what_may_wait(self.state)):
            self.memory.close()
        self.keep_finished()

    def keep_finished(self) -> None:
        """Have the host know how the agent finished, if it has: it is about to be stopped, and can be asked no more."""
        done = None if self.agent is CodeSessionAgent else self.results.finished(self.state, self.agent.completion)
        if done is not None:
            self.commit(SetPath((FINISHED_KEY,), {"status": done.status, "value": done.value}))

    # --- who follows the session ----------------------------------------------------------------------------
    def followed_by(self, subscribers: Subscribers) -> None:
        """Take note of whether anybody follows the signals of this session, or how its agent is doing."""
        self._is_followed = subscribers.signals
        if not subscribers.status:
            if self._teller is not None:
                self._teller.close()
                self._teller = None
            return
        if self._teller is None:
            from procession.agent_proc.status_teller import StatusTeller

            self._teller = StatusTeller(self.context.loop, lambda: self.status, self._tell_status)
        self._teller.tell()

    def tell_subscribers(self, type_: str, data: Value) -> None:
        """Tell whoever follows this session's signals; nobody else would ever hear of it."""
        if self._is_followed:
            self.effects.tell(type_, data)

    def status_may_have_changed(self, *, is_last: bool = False) -> None:
        """Tell whoever follows how the agent is doing, if that is new. is_last: there is no time to tell it later."""
        if self._teller is not None:
            if is_last:
                self._teller.tell()
            else:
                self._teller.changed()

    def _tell_status(self, status: AgentStatus) -> None:
        self.context.send(Deliver(self.context.incarnation, "status", "", encode(status)))

    def _changed(self, before: Mapping[str, Value] | None, ops: tuple[AnyOp, ...]) -> None:
        """See to what follows from a change, whose ops have left: who awaits the agent, and who follows a code session."""
        if ops and self.results.waits_for_completion:
            self.results.state_changed(self.state, self.agent.completion)
        if before is None or not ops or self.agent is not CodeSessionAgent:
            return
        if self._is_followed:
            from procession.agent_proc.agent.code_session.news import news

            for type_, data in news(before, self.state, ops, self.context.booted.session):
                self.effects.tell(type_, data)
        if _concerns_memory(before, self.state):
            self.memory.changed(ops)

    # --- outcomes -------------------------------------------------------------------------------------------
    def handle(self, signal: Signal) -> None:
        """Handle a signal that nobody waits for; its result is kept for whoever asks for it by its id."""
        if signal.type == CALL_ANSWERED and self.effects.answered(signal):
            return
        with self.effects.caused_by(self.effects.cause_of(signal)):
            outcome = self.take(self._decide(signal))
        if signal.type == AGENT_ERROR and not outcome.replies:
            self.effects.unheard(signal)
        self.results.of_signal(signal.id, outcome, is_ours=signal.source.startswith(_OUR_SOURCES))

    def perform(self, instructions: Instructions) -> Outcome:
        """Run instructions that the agent asked for itself."""
        return self.take(on_instructions(self.agent, self.state, instructions, now()))

    def take(self, outcome: Outcome) -> Outcome:
        """Adopt an outcome that nobody waits for. Return it, or, when nothing of it could be adopted, that instead."""
        try:
            self._keep(outcome)
        except ProcessionError as error:
            self.effects.failed(error)
            return refused(self.state, error, "instruction")
        return outcome

    def _decide(self, signal: Signal, *, is_call: bool = False) -> Outcome:
        """Have the agent decide about a signal."""
        what, began = f"{signal.type} {signal.id}", monotonic()
        self.effects.note("signal_received", what)
        outcome = on_signal(self.agent, self.state, signal, now(), is_call=is_call)
        has_failed = any(isinstance(reply, Failed) for reply in outcome.replies)
        self.effects.note("signal_failed" if has_failed else "signal_finished", what, began)
        return outcome

    def _keep(self, outcome: Outcome, seq: int = 0) -> None:
        """Adopt an outcome and send its ops. seq: of the call that they are of. Raises as _adopt."""
        before = self._state
        self.send_ops(self._adopt(outcome), seq)
        self._changed(before, outcome.ops)

    def commit(self, *ops: AnyOp) -> None:
        """Keep something of our own beside the agent's state."""
        self.send_ops(msgspec.Raw(encode_ops(ops)))

    def send_ops(self, ops: msgspec.Raw, seq: int = 0) -> None:
        """Send the ops of a commit, if there are any. seq: of the call that they are of, whose answer does not bring them."""
        if ops != EMPTY:
            self.context.send(Commit(self.context.incarnation, ops, seq))

    def _conclude(self, call: Call, outcome: Outcome) -> None:
        """Adopt an outcome and answer with what it answers; its ops leave with the answer."""
        before = self._state
        ops = self._adopt(outcome)
        answer = outcome.answer
        try:
            if isinstance(answer, Done):
                self._reply(call, None if answer.value is LATER else answer.value, ops)
            else:
                self.send_ops(ops, call.seq)
                raise answer.error
        finally:
            self._changed(before, outcome.ops)

    def _adopt(self, outcome: Outcome) -> msgspec.Raw:
        """Make an outcome's state the agent's, queue its effects, and return its ops for the host.

        Raises AgentError (invalid_op, queue_overflow), MessageTooLarge (change_too_large, state_too_large); then nothing changed.
        """
        kill_points.reach("mid_step")
        if outcome.directives:
            self.effects.check_room(len(outcome.directives))
        ops = EMPTY
        if outcome.ops:
            try:
                ops = msgspec.Raw(encode_ops(self._with_jobs(outcome.ops)))
            except InvalidOp as error:
                raise AgentError(f"a change that cannot be kept: {error}", code="invalid_op") from None
            check_change(len(ops))
            if self._budget is not None:
                self._budget.check(len(ops), outcome.state)
            self._state = outcome.state if type(outcome.state) is dict else dict(outcome.state)
        if outcome.directives:
            self.effects.add(outcome.directives)
        elif outcome.ops:
            self.status_may_have_changed()
        return ops

    def _with_jobs(self, ops: tuple[AnyOp, ...]) -> tuple[AnyOp, ...]:
        """Add what is kept beside the state to ops that replace the whole of it."""
        jobs = self.effects.manifest
        if jobs and any(type(op) is ReplaceState for op in ops):
            return (*ops, SetPath((JOBS_KEY,), jobs))
        return ops

    def _reply(self, call: Call, value: Value, ops: msgspec.Raw) -> None:
        context = self.context
        try:
            data = encode_value(value, nodes_max=RESULT_NODES_MAX)
        except UnsupportedValue as error:
            self.send_ops(ops, call.seq)
            raise AgentError(f"an answer that cannot be sent: {error}", code="invalid_answer", applied=True) from None
        payload = context.pack_payload(data)
        context.page.finished = max(context.page.finished, call.seq)
        context.send(Reply(call.inc, call.seq, _NOTHING, payload, ops))

    def _payload(self, call: Call) -> bytes:
        return self.context.read_payload(call.payload)


def _has_what_may_wait(state: Mapping[str, Value]) -> bool:
    """Say whether there is anything in the state of a code session that a promotion could keep; seldom, and quickly said."""
    pending = state["pending_memories"]
    return bool(pending["items"] or pending["agent_decisions"] or state["working_context"]["items"])


def _concerns_memory(before: Mapping[str, Value], after: Mapping[str, Value]) -> bool:
    """Say whether anything changed that promotion depends on, or that is told of memories: what did not is the same object."""
    return (
        before["pending_memories"] is not after["pending_memories"]
        or before["working_context"] is not after["working_context"]
        or before["memories"] is not after["memories"]
        or before["promotion_enabled"] is not after["promotion_enabled"]
        or before["promotion_interval_ms"] is not after["promotion_interval_ms"]
    )
