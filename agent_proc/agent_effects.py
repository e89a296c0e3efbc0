"""The effects an agent asked for, carried out one after the other: what is for itself here, the rest by the host.

    queue ── a turn's worth ──▶ self, timers, results, own instructions        here
                            └─▶ Deliver Spawn Adopt StopChild Leave            messages to the host

It is *not* where they are decided. Rules: the queue has a bound that is checked before anything of a command is adopted; a
turn carries out a bounded number, so that the mailbox is read between; an effect that fails is the agent's error, which its
policy decides about, and the rest goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, assert_never

from procession.agent_proc.agent.debug_ring import DebugEvent, DebugRing
from procession.agent_proc.agent.directives import (
    AdoptChild,
    AnyDirective,
    CallAgent,
    Cron,
    CronCancel,
    Emit,
    Error,
    Reply,
    RunInstruction,
    RunTool,
    Schedule,
    SpawnAgent,
    Stop,
    StopChild,
    ToChild,
    ToSession,
)
from procession.agent_proc.agent.error_policy import Custom, EmitErrors, End, GoOn, LogOnly, Tell, counts, decide
from procession.agent_proc.agent.outcome import Done, answered, fed_back
from procession.agent_proc.agent.signals import Signal, trace_of, traced
from procession.agent_proc.agent_jobs import Jobs
from procession.agent_proc.agent_values import decoded, new_id, now, signal_bytes
from procession.agent_proc.loop import monotonic
from procession.ipc.core import messages
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import AgentError, ProcessionError, cut, to_data
from procession.ipc.core.state_ops import AnyOp, Value
from procession.ipc.core.values import encode_value

if TYPE_CHECKING:
    from procession.agent_proc.agent_server import AgentServer

CALLS_MAX: Final = 256
"""Calls of other agents under way: as many as a mailbox holds."""
TURN_MAX: Final = 64
"""Effects carried out before the mailbox is looked at again."""
_TEXT_CHARS_MAX: Final = 500


class Cause(NamedTuple):
    """What an effect comes from. chain: the sessions that wait for it. trace: the trace context of the signal that led to it."""

    chain: tuple[str, ...] = ()
    trace: str = ""


_NOTHING_KNOWN: Final = Cause()


class Effects:
    """See the module's text."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._context = server.context
        self._queue: deque[tuple[AnyDirective, Cause]] = deque()
        self._cause = _NOTHING_KNOWN
        self._calls: dict[str, tuple[CallAgent, Cause]] = {}
        self._jobs = Jobs(server.context.loop, self._tell_self)
        self._ring = DebugRing()
        self._scheduled = False
        self._telling_self = False
        self.errors = 0
        """How many errors counted for the error policy."""
        self.last_error = ""
        """What the last of them said."""

    # --- the queue ------------------------------------------------------------------------------------------
    @property
    def pending(self) -> int:
        """How many effects wait."""
        return len(self._queue)

    @property
    def schedules(self) -> int:
        """How many delayed signals are under way."""
        return self._jobs.delayed

    @property
    def awaited(self) -> int:
        """How many calls of other agents have not been answered."""
        return len(self._calls)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of the cron jobs."""
        return self._jobs.ids

    @property
    def manifest(self) -> dict[str, Value]:
        """The cron jobs as the journal keeps them."""
        return self._jobs.manifest

    def check_room(self, count: int) -> None:
        """Refuse a command whose effects have no room. Raises AgentError, code queue_overflow; nothing is adopted then."""
        most = self._server.agent.queue_max
        if len(self._queue) + count > most:
            self.note("queue_overflow", f"{count} more than {most}")
            self._tell_log("queue_overflow", f"{count} effects more than there is room for: at most {most} wait")
            raise AgentError(
                f"{len(self._queue)} effects of this agent wait, and with {count} more they would be over {most}",
                code="queue_overflow",
                applied=False,
                hint="ask for fewer effects at once, or raise the agent's queue_max",
            )

    def add(self, directives: Sequence[AnyDirective]) -> None:
        """Take effects in, to be carried out after what is answered in this turn."""
        self._queue.extend((directive, self._cause) for directive in directives)
        self._go_on()

    def cause_of(self, signal: Signal, chain: tuple[str, ...] | None = None) -> Cause:
        """Return the cause of whatever `signal` leads to. chain: of the call that brought it; None for the present one."""
        return Cause(self._cause.chain if chain is None else chain, trace_of(signal))

    @contextmanager
    def caused_by(self, cause: Cause) -> Iterator[None]:
        """Take what is added or told meanwhile for caused by this."""
        before, self._cause = self._cause, cause
        try:
            yield
        finally:
            self._cause = before

    def arm(self, schedules: Sequence[Cron | Schedule]) -> None:
        """Begin the schedules that every agent of this kind has; they go before those of the same id that were kept."""
        self._queue.extendleft((schedule, _NOTHING_KNOWN) for schedule in reversed(schedules))
        self._go_on()

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Begin the cron jobs that the journal kept."""
        if kept:
            self._jobs.restore(kept)

    def _go_on(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._context.loop.after(0.0, self._drain)
        self._server.status_may_have_changed()

    def _drain(self) -> None:
        self._scheduled = False
        for _ in range(min(TURN_MAX, len(self._queue))):
            directive, cause = self._queue.popleft()
            what, began = type(directive).__name__, monotonic()
            self.note("directive_started", what)
            with self.caused_by(cause):
                try:
                    self._carry_out(directive)
                except Exception as problem:  # a ProcessionError, or whatever cannot be encoded or sent
                    self.note("directive_failed", what, began)
                    self.failed(_as_error(what, problem))
                else:
                    self.note("directive_finished", what, began)
        self._go_on()

    # --- one effect -----------------------------------------------------------------------------------------
    def _carry_out(self, directive: AnyDirective) -> None:
        match directive:
            case Emit():
                self._emit(directive)
            case Error():
                self._decide(directive)
            case Reply(to=to, value=value):
                self._server.results.put(to, Done(value))
            case RunTool(tool=tool, arguments=arguments, call_id=call_id, timeout_s=timeout_s):
                self._send(messages.AskTool(self._inc, call_id, tool, _encoded(arguments), timeout_s))
            case RunInstruction(action=action, parameters=parameters):
                outcome = self._server.perform((action, parameters))
                self._server.perform(fed_back(directive, outcome))
            case CallAgent():
                self._call(directive)
            case Schedule(delay_ms=delay_ms, type=type_, data=data):
                self._jobs.later(delay_ms / 1000.0, type_, data)
            case Cron(job_id=job_id, cron=cron, timezone=timezone):
                self._keep(self._jobs.put(directive))
                self._tell_log("cron_registered", f"{job_id}: {cron} {timezone}")
            case CronCancel(job_id=job_id):
                self._keep(op := self._jobs.cancel(job_id))
                if op is not None:
                    self._tell_log("cron_cancelled", job_id)
            case SpawnAgent():
                self._spawn(directive)
            case AdoptChild(child=child, tag=tag, meta=meta):
                self._send(messages.Adopt(self._inc, tag, child, _encoded(meta)))
            case StopChild(tag=tag, reason=reason):
                self._send(messages.StopChild(self._inc, tag, reason))
            case Stop(reason=reason):
                self._server.keep_finished()
                self._send(messages.Leave(self._inc, cut(reason, _TEXT_CHARS_MAX)))
            case _:
                assert_never(directive)

    def _emit(self, emit: Emit) -> None:
        signal = traced(emit.signal(self._source, now().at), self._cause.trace)
        match emit.to:
            case "self":
                self._server.handle(signal)
            case "log":
                self._tell_log("signal", f"{signal.type} {signal.data!r}")
            case ToChild(tag=tag):
                self._deliver("child", tag, signal)
            case ToSession(session=session):
                self._deliver("session", session, signal)
            case None:
                self._deliver("subscribers", "", signal)
            case everyone:
                self._deliver(everyone, "", signal)

    def _deliver(self, to: str, who: str, signal: Signal) -> None:
        self._send(messages.Deliver(self._inc, to, who, signal_bytes(signal)))

    def _call(self, call: CallAgent) -> None:
        if len(self._calls) >= CALLS_MAX:
            raise AgentError(f"{CALLS_MAX} calls of this agent are under way already", code="too_many_calls")
        made = Signal(id=call.call_id, source=self._source, type=call.type, time=now().at, data=call.data)
        signal = traced(made, self._cause.trace)
        match call.to:
            case ToChild(tag=who):
                to = "child"
            case ToSession(session=who):
                to = "session"
            case _:
                to, who = "parent", ""
        self._calls[call.call_id] = call, self._cause
        chain = (*self._cause.chain, self._context.booted.session)
        self._send(messages.CallAgent(self._inc, call.call_id, to, who, signal_bytes(signal), call.timeout_s, chain))

    def answered(self, signal: Signal) -> bool:
        """Take the answer to a call of this agent; False for one that it did not make."""
        data = signal.data if isinstance(signal.data, dict) else {}
        found = self._calls.pop(str(data.get("call_id", "")), None)
        if found is None:
            return False
        call, cause = found
        with self.caused_by(cause):
            self._server.perform(answered(call, data))
        return True

    def _spawn(self, spawn: SpawnAgent) -> None:
        code = b""
        for kind in self._server.agent.children:
            if spawn.agent == f"{kind.__module__}:{kind.__qualname__}":
                from procession.agent_proc.agent_loading import packed

                code = packed(kind)
        self._send(
            messages.Spawn(
                self._inc, spawn.tag, "" if code else spawn.agent, code, spawn.name, _encoded(spawn.state),
                _encoded(spawn.meta), spawn.restart, spawn.on_parent_death,
            )
        )  # fmt: skip

    def _keep(self, op: AnyOp | None) -> None:
        if op is not None:
            self._server.commit(op)

    def _tell_self(self, type_: str, data: Value) -> None:
        self._server.handle(Signal(id=new_id(), source=self._source, type=type_, time=now().at, data=data))
        self._server.status_may_have_changed()

    def tell(self, type_: str, data: Value) -> None:
        """Tell the subscribers, now: what is told of a change goes right behind it, and waits in no queue."""
        self._emit(Emit(type_, data, "subscribers", id=new_id()))

    def _tell_log(self, kind: str, text: str) -> None:
        """Have the host write an event."""
        self._send(messages.Notice(self._inc, kind, cut(text, _TEXT_CHARS_MAX)))

    def _send(self, message: messages.Message) -> None:
        self._context.send(message)

    @property
    def _inc(self) -> int:
        return self._context.incarnation

    @property
    def _source(self) -> str:
        return f"/procession/session/{self._context.booted.session}"

    # --- errors ---------------------------------------------------------------------------------------------
    def failed(self, error: ProcessionError) -> None:
        """Let the policy decide about an effect, or a signal nobody waits for, that failed."""
        self._decide(Error(to_data(error), "directive"))

    def unheard(self, signal: Signal) -> None:
        """Note an error that this agent was told of, as what the host could not do for it, and has no action for."""
        if signal.source == self._source:
            return  # it was noted when it was told
        data = signal.data if isinstance(signal.data, dict) else {}
        self.errors += 1
        self.last_error = cut(f"{data.get('code', 'error')}: {data.get('message', '')}", _TEXT_CHARS_MAX)
        self.note("error", self.last_error)
        self._tell_log("agent_error", self.last_error)

    def _decide(self, error: Error) -> None:
        policy = self._server.agent.error_policy
        if self._telling_self and isinstance(policy, EmitErrors):
            policy = LogOnly()  # an agent that fails at hearing of its errors would hear of that, and so on
        seen = decoded(_encoded(self._server.state)) if isinstance(policy, Custom) else self._server.state
        decision = decide(policy, error, self.errors, seen)
        if counts(error):
            self.errors += 1
            self.last_error = cut(f"{error.error.code}: {error.error.message}", _TEXT_CHARS_MAX)
        self.note("error", f"{error.error.code}: {error.error.message}")
        match decision:
            case GoOn(note=text):
                what = cut(f"{error.error.code}: {error.error.message}", _TEXT_CHARS_MAX)
                self._tell_log("agent_error", f"{what} ({text})" if text else what)
            case Tell(emit=emit):
                self._tell_error(
                    Emit(emit.type, emit.data, emit.to, emit.subject, emit.extensions, emit.id or new_id())
                )
            case End(reason=reason):
                self._send(messages.Leave(self._inc, cut(reason, _TEXT_CHARS_MAX)))
            case _:
                assert_never(decision)

    def _tell_error(self, emit: Emit) -> None:
        self._telling_self = emit.to == "self"
        try:
            self._emit(emit)
        finally:
            self._telling_self = False

    # --- debugging ------------------------------------------------------------------------------------------
    def note(self, kind: str, detail: str, began: float | None = None) -> None:
        """Record something that happened, while that is switched on. began: when (monotonic) what ends by it began."""
        if self._ring.capacity:
            duration_ms = None if began is None else (monotonic() - began) * 1000.0
            self._ring = self._ring.recorded(now().at, kind, detail[:_TEXT_CHARS_MAX], duration_ms)

    def keep_events(self, count: int) -> None:
        """Keep that many events from now on, none for 0. Raises InvalidRequest, code invalid_capacity."""
        self._ring = self._ring.enabled(count) if count else self._ring.disabled()

    def events(self, limit: int | None) -> list[DebugEvent]:
        """Return what was recorded, newest first. Raises InvalidRequest, code debug_not_enabled."""
        return self._ring.recent(limit)


def _as_error(what: str, problem: Exception) -> ProcessionError:
    """Return why an effect failed as an error of the agent's: what it holds is its author's, and may not fit a message."""
    if isinstance(problem, ProcessionError):
        return problem
    return AgentError(
        cut(f"the effect {what} cannot be carried out: {problem}"),
        code="invalid_effect",
        exception_type=type(problem).__name__,
    )


def _encoded(value: Value) -> bytes:
    return encode_value(value, nodes_max=RESULT_NODES_MAX)
