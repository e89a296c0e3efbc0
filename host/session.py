"""One session of the host: the shell around its lifecycle, its calls and the process it has at the moment.

Every event goes through the pure lifecycle (core/lifecycle.py); what that decides is done here, one action a line. Events that
an action causes are queued behind it, so that a step is never inside another. The reactor's thread only, but for
what says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from procession.host import clock
from procession.host.core import lifecycle
from procession.host.core.lifecycle_values import (
    HOLDS_FOLDER,
    HOLDS_SLOT,
    Abandon,
    Action,
    Announce,
    AnswerWaiters,
    ArmTimer,
    BeginBackoff,
    CancelTimer,
    EventKind,
    FailPending,
    Flush,
    Forget,
    Fork,
    KillDomain,
    Lifecycle,
    LifecycleEvent,
    SendShutdown,
    SettleCalls,
)
from procession.host.core.recycling import RECYCLE_PATIENCE_S
from procession.host.core.session_record import SessionRecord
from procession.host.host_call import HostCall
from procession.host.incarnation import Incarnation, Owner, boot_message
from procession.host.options import with_tools
from procession.host.output_log import OutputLog
from procession.host.payload_arena import PayloadArena
from procession.host.session_calls import SessionCalls
from procession.host.session_casts import SessionCasts
from procession.host.session_ends import exit_of_record, report_of
from procession.host.session_fds import ARENA_BYTES
from procession.host.session_keeping import SessionKeeping
from procession.host.session_lull import why_awake
from procession.host.signal_log import SignalLog
from procession.ipc import kill_points
from procession.ipc.core.bounds import BOOT_EXIT, PAYLOAD_BYTES_MAX, STOP_GRACE_S, WIRE_VERSION
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import (
    HostLost,
    InvalidRequest,
    InvalidTransition,
    ProcessionError,
    SessionDied,
    SessionNotRunning,
    StartFailed,
)
from procession.ipc.core.limits import merge
from procession.ipc.core.messages import Effect, Ended, Notice, Ready
from procession.ipc.core.operations import QuietDone, StartBody, StoryDone
from procession.ipc.core.records import KillReceipt, RunReport, SessionStatus
from procession.ipc.core.restart_policy import Exit, ExitKind, RestartPolicy
from procession.ipc.transport.reactor import Timer, tell_surprise

if TYPE_CHECKING:
    from procession.host.engine import Engine

Up = Callable[["ProcessionError | None"], None]
Over = Callable[["KillReceipt | ProcessionError"], None]

#: Of its output, and of the signals it told: what is kept of a session that sleeps, and so costs its host next to nothing.
ASLEEP_BYTES_MAX: Final = 4 * 1024
#: Of its calls that are over.
CALLS_ASLEEP: Final = 8
#: What somebody can do who is told that there is no process, and why.
_HINTS: dict[str, str] = {
    "failed": "story() tells what happened; restart() tries again",
    "stopped": "resume_session() brings it back, with its data",
    "finished": "resume_session() brings it back, with its data",
}


class SessionActor:
    """See the module's text."""

    def __init__(
        self, engine: Engine, spec: StartBody, ident: str, name: str, record: SessionRecord | None = None
    ) -> None:
        self.id = ident
        self.name = name
        self.spec = spec
        self.created_at = clock.wall() if record is None else record.created_at
        self.folder: tuple[int, int] | None = None
        self.project = spec.project or str(engine.folder.session_folder(ident))
        self.limits = merge(spec.limits, engine.options.limits)
        self.output = OutputLog()
        self.signals = SignalLog(ident)
        self.statuses = SignalLog(ident, kept=0)
        self.last_report: RunReport | None = None if record is None else record.last_report
        self.health = ""
        self.owners = 0
        """Who is attached: it is not stopped for being idle."""
        given_s, options = spec.hibernate_after_s, engine.options
        self.hibernate_after_s = options.hibernate_after_s if given_s == 0 else given_s
        self.recycled_at: float | None = None
        self.recycle_above = options.recycle_above if spec.recycle_above == 0 else spec.recycle_above
        self._engine = engine
        self._reactor = engine.reactor
        self._made_at = self._reactor.now()
        self.calls = SessionCalls(
            engine.reactor,
            session=ident,
            overdue=self._overdue,
            other=self._other,
            output=self.output.add,
            wake=self._wanted,
            commit=self._commit,
            followed=lambda: (self.signals.is_followed, self.statuses.is_followed),
        )
        self.keeping = SessionKeeping(engine, self, record)
        self.casts = SessionCasts(engine, self)
        self.was_up = record is not None and record.was_up
        """Whether it had a process when the former host was closed, or lost."""
        self.calls.breach = self.keeping.broken
        self.calls.refused = self._not_kept
        self.calls.go_back = self.keeping.go_back
        self._state = Lifecycle(policy=RestartPolicy(type=spec.restart))
        if record is not None:
            self._state = lifecycle.recovered(
                self._state.policy,
                record.phase,
                incarnation=record.incarnation,
                restarts=record.restarts,
                reason=record.reason or "its host was lost",
            )
            for chunk in record.output:
                self.output.add(chunk)
        self._incarnation: Incarnation | None = None
        self._asked: Callable[[], None] | None = (
            None  # withdraws a start that waits at the gate; None: it waits for nobody
        )
        self._release: Callable[[], None] = _nothing
        self._ready_at = 0.0
        self._receipt = KillReceipt()
        self._start_error: ProcessionError | None = None
        self._up: list[Up] = []
        self._over: list[Over] = []
        self._timers: dict[str, Timer] = {}
        self._events: list[LifecycleEvent] = []
        self._stepping = False
        self._is_waking = False
        self._last_word = ""
        """Why it was asked to end, for good."""

    # --- what can be seen (any thread) ----------------------------------------------------------------------
    @property
    def phase(self) -> str:
        return self._state.phase

    @property
    def age_s(self) -> float:
        return self._reactor.now() - self._made_at

    @property
    def incarnation(self) -> int:
        return self._state.incarnation

    @property
    def restarts(self) -> int:
        return self._state.history.restarts

    @property
    def running(self) -> bool:
        return self._state.phase in ("starting", "ready", "backoff", "stopping")

    @property
    def is_at_rest(self) -> bool:
        """Whether it has no process, and gets none by itself."""
        return not self.running and self._state.phase not in ("new", "gone")

    def check_awake(self) -> None:
        """Refuse a question while it is at rest: its state answers that, and nothing is woken. Raises SessionNotRunning."""
        if self.is_at_rest:
            raise SessionNotRunning(
                f"the session has no process: it is {self._state.phase}", session=self.id, code="at_rest"
            )

    @property
    def is_ending(self) -> bool:
        """Whether it is at rest, or will be when its process is over; what sleeps is only asleep."""
        state = self._state
        if state.is_asleep:
            return False
        return not self.running or (state.phase == "stopping" and state.intent != "run")

    @property
    def is_asleep(self) -> bool:
        """Whether it is hibernated, or will be when its process is over."""
        return self._state.is_asleep

    @property
    def why_at_rest(self) -> str:
        """Why it has no process and gets none, or will have none when this one is over."""
        return (
            (self._last_word if self._state.phase in ("stopping", "stopped") else "") or self._state.reason or "normal"
        )

    @property
    def holds_slot(self) -> bool:
        """Whether it counts as one of the sessions that the host runs."""
        return self._state.phase in HOLDS_SLOT

    @property
    def holds_folder(self) -> bool:
        """Whether its folder and its name are its own: not when it is stopped or gone."""
        return self._state.phase in HOLDS_FOLDER

    @property
    def process(self) -> Incarnation | None:
        return self._incarnation

    @property
    def stable_since(self) -> float:
        return self._ready_at

    def status(self) -> SessionStatus:
        """Describe it now."""
        state, process = self._state, self._incarnation
        if process is not None and process.over:
            process = None  # whoever has its numbers now is somebody else
        ready = state.phase == "ready"
        family = self._engine.families.family
        return SessionStatus(
            id=self.id,
            name=self.name,
            phase=state.phase,
            pid=process.pid or None if process else None,
            keeper_pid=process.keeper_pid or None if process else None,
            incarnation=state.incarnation,
            restarts=self.restarts,
            calls=self.calls.open,
            queued=self.calls.waiting,
            uptime_s=round(self._reactor.now() - self._ready_at, 3) if ready else 0.0,
            created_at=self.created_at,
            project=self.project,
            restart=self.spec.restart,
            sandbox=self.spec.sandbox,
            reason=state.reason or (self._last_word if state.phase == "stopped" else ""),
            health=self.health,
            parent=family.parent_of(self.id),
            orphaned_from=family.former_parents.get(self.id),
            partition=self.spec.partition,
            number=self.keeping.number,
        )

    def tell(self) -> StoryDone:
        """Tell its story: how it came to be as it is."""
        return StoryDone(
            status=self.status(),
            story=self._state.story,
            report=self.last_report,
            output_tail=self.output.tail() or self.output.crash_text(),
        )

    # --- verbs ----------------------------------------------------------------------------------------------
    def start(self, done: Up) -> None:
        self._up.append(done)
        self._step(LifecycleEvent("start"))

    def resume(self, done: Up) -> None:
        self._up.append(done)
        self._step(LifecycleEvent("resume"))

    def restart(self, done: Up) -> None:
        self._up.append(done)
        self._step(LifecycleEvent("restart", grace_s=0.0))

    def stop(self, grace_s: float, done: Over, reason: str = "") -> None:
        if reason or self._state.phase != "stopped":
            self._last_word = reason
        self._over.append(done)
        self._step(LifecycleEvent("stop", grace_s=min(grace_s, STOP_GRACE_S)))

    def when_over(self, done: Over) -> None:
        """Tell `done` when the process that is being ended is over."""
        self._over.append(done)

    def kill(self, done: Over) -> None:
        self._over.append(done)
        self._step(LifecycleEvent("kill", grace_s=0.0))

    def hibernate(self, done: Over) -> None:
        """Give its process back, if it needs it for nothing; it wakes on the next call.

        `done` gets InvalidRequest (session_busy) when it needs it, SessionNotRunning when it is over.
        """
        if self._state.phase == "ready":
            self._engine.lulls.ask(self, partial(self._hibernate_if_quiet, done))
            return
        self._over.append(done)
        self._step(LifecycleEvent("hibernate"))

    def _hibernate_if_quiet(self, done: Over, said: QuietDone | None) -> None:
        if self._state.phase != "ready":  # something else became of it meanwhile
            self.hibernate(done)
        elif not self.sleep(said, done):
            done(self._is_busy(why_awake(said) or "calls came meanwhile"))

    def sleep(self, said: QuietDone | None, done: Over | None = None) -> bool:
        """Put it to sleep, while its calls are held; False, and nothing is done, when something keeps it awake."""
        if why_awake(said) or self.calls.waiting > 0:
            return False
        if done is not None:
            self._over.append(done)
        self._step(LifecycleEvent("hibernate"))
        if self.calls.waiting > 0:  # who called until it was not ready any more did not see that
            self._step(LifecycleEvent("call"))
        return True

    def recycle(self, rss_bytes: int) -> None:
        """Replace its process as soon as it is quiet, because it has grown; its calls wait for the next one."""

        def then(said: QuietDone | None) -> None:
            if self._state.phase == "ready" and said is not None and not said.busy and not said.holds:
                self.recycled_at = self._reactor.now()
                self._emit("session.recycled", rss_bytes=rss_bytes, above=self.recycle_above)
                self._step(LifecycleEvent("restart"))

        self._engine.lulls.ask(self, then, RECYCLE_PATIENCE_S)

    def _is_busy(self, why: str) -> InvalidRequest:
        return InvalidRequest(
            f"the session is not idle: {why}",
            code="session_busy",
            session=self.id,
            hint="end that first; stop() and kill() do not ask",
        )

    def close(self, done: Over) -> None:
        """End it because the host closes."""
        self.calls.close(SessionNotRunning("the host is closing", session=self.id, code="closed"))
        self._over.append(done)
        self._step(LifecycleEvent("close", grace_s=1.0))

    def kill_now(self) -> None:
        if self._incarnation is not None:
            self._incarnation.kill()

    def condemn(self, why: Exit) -> None:
        """The host itself ends this process: it is stuck, stopped, or broke the protocol."""
        if self._incarnation is not None:
            self._step(LifecycleEvent("condemned", exit=why, inc=self.incarnation))

    def wake(self) -> None:
        """Start it though nobody calls; the reactor's thread."""
        self._wake()

    def _wanted(self) -> None:
        """Somebody called while there is no process (any thread)."""
        if self._state.phase != "ready":
            self._reactor.call_soon(self._wake)

    def _wake(self) -> None:
        """Start again because somebody calls, if the host has a slot for it; else all who call are told."""
        if self._state.phase not in ("down", "hibernated"):
            self._step(LifecycleEvent("call"))
        elif not self._is_waking:
            self._is_waking = True
            wanted = self.calls.waiting or self.casts.pending or self.keeping.has_jobs
            self._engine.slots.have(self._wake_now, self._not_woken, timeout_s=None if wanted else 0.0)

    def _wake_now(self) -> None:
        """Take a slot and start. Raises SessionLimitReached, AlreadyExists."""
        if self._state.phase in ("down", "hibernated") and not self._state.closed:
            self._engine.registry.reclaim(self)
        self._is_waking = False
        self._step(LifecycleEvent("call"))

    def _not_woken(self, error: ProcessionError) -> None:
        self._is_waking = False
        self.calls.refuse_all(lambda: error)

    def _overdue(self, call: HostCall) -> None:
        self._emit("session.overrun", call=call.call_id, op=call.request.op.name)
        self.condemn(
            Exit(ExitKind.STUCK, f"{call.request.op.name} ({call.call_id}) ran past its deadline and its grace")
        )

    def _commit(self, ops: bytes) -> None:
        """Take a change of the agent's state; the calls' lock is held. Raises ProtocolBreach."""
        self.keeping.commit(ops)

    def broke(self, reason: str) -> None:
        """What its process said cannot be: it is ended for that."""
        self._breach(self.incarnation, reason)

    def _not_kept(self, error: ProcessionError) -> None:
        """A change of it could not be kept: its process knows more than was acknowledged, so it is ended."""
        self.condemn(Exit(ExitKind.NOT_KEPT, error.message))

    # --- the shell of the lifecycle -------------------------------------------------------------------------
    def _step(self, event: LifecycleEvent) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                self._one_step(self._events.pop(0))
        finally:
            self._stepping = False

    def _one_step(self, event: LifecycleEvent) -> None:
        before = self._state.phase
        try:
            self._state, actions = lifecycle.step(self._state, event, self._reactor.now(), clock.random)
        except InvalidTransition as error:
            error.session = self.id
            self._refuse(event.kind, error)
            return
        if self._state.phase != before:
            self._tell_phase()
            if self._state.phase not in ("new", "starting", "stopping", "gone"):
                self._note_phase()
        for action in actions:
            self._do(action)

    def _tell_phase(self) -> None:
        """Tell those who mind in which phase it is now; what goes wrong with them is not its own."""
        try:
            self._engine.families.moved(self, self._state.phase)
            self._engine.operations.follows.moved(self)
            if self._state.phase == "ready":
                self._engine.idle.watch(self)
            elif self._state.phase == "hibernated":
                self._engine.idle.asleep(self)
        except Exception as problem:  # noqa: BLE001 - a bug of ours: an event, and this session goes on
            tell_surprise(self._reactor, problem, self._tell_phase)

    def _note_phase(self) -> None:
        """Keep what became of it; at rest it needs no state in memory."""
        if not self._state.closed:
            self.was_up = self.running
        if self.running:
            self.keeping.save()
        else:
            self.calls.when_settled(self._let_go_of_state)

    def _let_go_of_state(self) -> None:
        if not self.running:
            self.keeping.drop()
        if self._state.phase == "hibernated":
            self._shrink()

    def _shrink(self) -> None:
        """Keep what people read of a session that sleeps, and no more: there may be thousands."""
        self.output.shrink(ASLEEP_BYTES_MAX)
        self.signals.shrink(ASLEEP_BYTES_MAX)
        self.calls.shrink(CALLS_ASLEEP)
        if not self.spec.agent and not self.spec.agent_code:
            self.spec = msgspec.structs.replace(self.spec, state=b"")  # what it began with: its state has gone on since

    def _refuse(self, kind: EventKind, error: InvalidTransition) -> None:
        """An event without a cell: whoever asked gets the story, everybody else an event in the log."""
        self._emit("session.invalid_transition", event=kind, text=str(error))
        if kind in ("start", "resume", "restart") and self._up:
            self._up.pop()(error)
        elif kind in ("stop", "kill", "hibernate", "close", "remove") and self._over:
            self._over.pop()(error)

    def _do(self, action: Action) -> None:
        match action:
            case Fork(incarnation=number, restart=restart):
                self._fork(number, restart)
            case SendShutdown(grace_s=grace_s, for_good=for_good):
                if self._incarnation is not None:
                    self._incarnation.shut_down(grace_s, for_good=for_good)
            case KillDomain(abort=abort):
                self._kill_domain(abort)
            case Abandon():
                self._abandon()
            case ArmTimer(name=name, after_s=after_s):
                self._arm(name, f"{name}_timeout", after_s)
            case BeginBackoff(after_s=after_s):
                self._arm("backoff", "backoff_over", after_s)
            case CancelTimer(name=name):
                timer = self._timers.pop(name, None)
                if timer is not None:
                    timer.cancel()
            case SettleCalls(keep=keep, kind=kind):
                self.calls.detach(self._death(), lambda: self._why_not(kind), keep=keep)
                if self._state.phase == "hibernated" and self.calls.waiting:
                    self._reactor.call_soon(self._wake)
            case FailPending(kind=kind):
                self.calls.refuse_all(lambda: self._why_not(kind))
            case Flush():
                self._flush()
            case Announce(type=type_, detail=detail):
                detail = detail or (self._last_word if type_ == "session.stopped" else "")
                self._emit(type_, **({"detail": detail} if detail else {}))
            case AnswerWaiters(group=group, kind=kind):
                self._answer(group, kind)
            case Forget():
                pass  # whoever asked for the removal deletes (host_operations.py)
            case _:
                assert_never(action)

    def _emit(self, kind: str, **data: str | float | bool | None) -> None:
        self._engine.events.emit(kind, self.id, self.incarnation, **data)

    def _arm(self, name: str, kind: EventKind | str, after_s: float) -> None:
        old = self._timers.pop(name, None)
        if old is not None:
            old.cancel()

        def fire() -> None:
            self._timers.pop(name, None)
            self._step(LifecycleEvent(kind, inc=0))  # type: ignore[arg-type]

        self._timers[name] = self._reactor.call_at(self._reactor.now() + after_s, fire)

    # --- the process ----------------------------------------------------------------------------------------
    def _fork(self, number: int, restart: bool) -> None:
        self.health = self._last_word = ""
        self.output.clear_crash()
        if self.keeping.journal is None:
            self._asked = self._engine.starts.ask(self.id, restart, lambda release: self._begin(number, release))
        else:
            self._begin_with_state(number, restart)

    def _begin_with_state(self, number: int, restart: bool) -> None:
        """Begin once all that was acknowledged is known: nothing waits for the journal, and the state is in memory."""
        kill_points.reach("mid_spawn")
        withdraw: list[Callable[[], None]] = []
        is_withdrawn = False

        def withdrawn() -> None:
            nonlocal is_withdrawn
            is_withdrawn = True
            for one in withdraw:
                one()

        def settled() -> None:
            if not is_withdrawn:
                self.keeping.load(loaded)

        def loaded(error: ProcessionError | None) -> None:
            if is_withdrawn:
                return
            if error is not None:
                self._asked = None
                failed = StartFailed(
                    f"the session's state cannot be restored: {error.message}",
                    phase="restore",
                    code=error.code,
                    hint=error.hint,
                )
                self._start_failed(number, failed, False)
                return
            asked = self._engine.starts.ask(self.id, restart, lambda release: self._begin(number, release))
            if asked is not None:
                withdraw.append(asked)

        self._asked = withdrawn
        self.calls.when_settled(settled)

    def _begin(self, number: int, release: Callable[[], None]) -> None:
        """The gate is open: take a spare, or have a process forked."""
        self._asked = None
        self._release = release
        options = self._engine.options
        preload = tuple(self.spec.preload) or options.preload
        if self.spec.tools:
            preload = with_tools(preload)
        owner = Owner(
            born=lambda: self._born(number),
            ready=lambda ready: self._is_ready(number, ready),
            start_failed=lambda error, zygote: self._start_failed(number, error, zygote),
            over=lambda record: self._ended(number, record),
            breach=lambda reason: self._breach(number, reason),
            crash_output=self.output.add_crash_output,
        )
        process = self._engine.starts.take_spare(preload) or Incarnation(self._reactor, self._engine.zygotes, preload)
        try:
            os.makedirs(self.project, mode=0o700, exist_ok=True)  # while the zygote forks
        except OSError as problem:
            process.discard()
            self._start_failed(
                number, StartFailed(f"the session's folder cannot be made: {problem}", phase="resources"), False
            )
            return
        try:
            state = self.keeping.boot_state()
        except ProtocolBreach as breach:
            process.discard()
            self.keeping.broken(breach.reason)
            self._start_failed(
                number, StartFailed(f"its last state cannot be: {breach.reason}", phase="restore"), False
            )
            return
        boot = boot_message(
            inc=number,
            session=self.id,
            name=self.name,
            cwd=self.project,
            env=self._engine.environment(),
            limits=self.limits,
            sandbox=self.spec.sandbox,
            parallel_runs=self.spec.parallel_runs,
            payload_bytes_max=PAYLOAD_BYTES_MAX,
            import_paths=(*options.import_paths, *self.spec.import_paths),
            agent=self.spec.agent,
            agent_code=self.spec.agent_code,
            fresh=state is None,
            state=self.spec.state if state is None else state,
            responder=self.spec.responder,
            tools=self.spec.tools,
        )
        self._incarnation = process
        process.adopt(owner, boot, self.calls.lock, self.calls.dispatch, self.calls.pending)
        if process.over:  # it failed while it was being made
            return

    def _born(self, number: int) -> None:
        self._step(LifecycleEvent("forked", inc=number))

    def _is_ready(self, number: int, ready: Ready) -> None:
        if ready.version != WIRE_VERSION:
            self._start_error = StartFailed(
                f"the session process speaks version {ready.version}, this host {WIRE_VERSION}",
                phase="handshake",
                code="version_skew",
                session=self.id,
            )
            self._step(LifecycleEvent("condemned", exit=Exit(ExitKind.START_FAILED, "version skew"), inc=number))
            return
        self._ready_at = self._reactor.now()
        self._let_go()
        self._step(LifecycleEvent("ready", inc=number))

    @property
    def _took_over(self) -> bool:
        """Whether its process had to take a state that an agent of the program's own had before."""
        spec = self.spec
        return bool(spec.agent or spec.agent_code) and not self.keeping.is_unknown

    def _let_go(self) -> None:
        release, self._release = self._release, _nothing
        release()

    def _start_failed(self, number: int, error: ProcessionError, zygote: bool) -> None:
        self._let_go()
        self._incarnation = None
        error.session = self.id
        self._start_error = error
        kind = ExitKind.ZYGOTE_LOST if zygote else ExitKind.START_FAILED
        if isinstance(error, StartFailed) and error.phase == "restore":
            kind = ExitKind.NOT_RESTORED
        self._step(LifecycleEvent("start_failed", exit=Exit(kind, error.message), inc=number))

    def _breach(self, number: int, reason: str) -> None:
        self._engine.breaches += 1
        self._emit("session.breach", reason=reason)
        self._step(LifecycleEvent("condemned", exit=Exit(ExitKind.BREACH, reason), inc=number))

    def _ended(self, number: int, record: Ended | None) -> None:
        """The keeper's record of the end, or None when the keeper was lost."""
        process = self._incarnation
        self._let_go()
        self.calls.hand_on()  # its last words come before its end
        self.keeping.settle()
        ended = exit_of_record(
            record, pending=self.calls.started_open > 0
        )  # what it had not begun makes no end abnormal
        restored_to = self.keeping.number if not self.keeping.is_unknown else None
        elapsed_s = self._reactor.now() - process.asked_at if process is not None else 0.0
        pid = process.pid or None if process is not None else None
        self.last_report = report_of(record, ended, pid, elapsed_s, self.output.crash_text(), restored_to)
        self._receipt = self.last_report.receipt
        if self._state.ready_at is None and (self._start_error is None or self._start_error.code != "version_skew"):
            doomed = self._state.doomed  # a start that was too slow was ended by us
            tail = self.output.crash_text()
            how = doomed.detail if doomed else ended
            if record is not None and record.cause == "fork":
                self._start_error = StartFailed(ended.detail, phase="resources", code="fork_failed", session=self.id)
            else:
                why = f"the session process ended before it was ready: {how}" + (f"\n{tail}" if tail else "")
                if tail and record is not None and os.waitstatus_to_exitcode(record.raw_status) == BOOT_EXIT:
                    why = tail.rstrip()  # which says it all
                self._start_error = StartFailed(
                    why,
                    phase="ready" if doomed else "restore" if self._took_over else "boot",
                    session=self.id,
                    report=self.last_report,
                )
        self._emit("session.ended", how=str(ended), found=self._receipt.found, left=self._receipt.left)
        self._step(LifecycleEvent("ended", exit=ended, inc=number))
        if self._incarnation is process:
            self._incarnation = None

    def _kill_domain(self, abort: bool) -> None:
        if self._asked is not None:  # it still waits at the gate: there is nothing to end
            withdraw, self._asked = self._asked, None
            withdraw()
            error = StartFailed("withdrawn before it was started", phase="fork", code="withdrawn", session=self.id)
            self._start_error = error
            self._step(LifecycleEvent("start_failed", exit=Exit(ExitKind.ASKED, "withdrawn"), inc=self.incarnation))
        elif self._incarnation is not None and abort:
            self._incarnation.abort()
        elif self._incarnation is not None:
            self._incarnation.kill()

    def _abandon(self) -> None:
        if self._incarnation is not None:
            self._incarnation.end_keeper()

    def _flush(self) -> None:
        process = self._incarnation
        assert process is not None
        assert process.channel is not None
        self._start_error = None
        fds = process.fds
        arena = PayloadArena(fds.arena_in, fds.arena_out, ARENA_BYTES)
        self.calls.attach(process.channel, process.number, fds.page, arena)

    # --- answers --------------------------------------------------------------------------------------------
    def _answer(self, group: str, kind: str) -> None:
        if group == "up":
            waiting, self._up = self._up, []
            error = None if kind == "ready" else self._why_not(kind)
            self._tell_kept(lambda: [done(error) for done in waiting])
        else:
            kill_points.reach("mid_stop")
            ended, self._over = self._over, []
            receipt, self._receipt = self._receipt, KillReceipt()
            outcome = receipt if kind == "over" else self._why_not(kind)
            self._tell_kept(lambda: [over(outcome) for over in ended])

    def _tell_kept(self, tell: Callable[[], object]) -> None:
        """Tell those who asked, once it is on record; at once where nothing is kept, or nothing can be just now."""

        def saved(_: ProcessionError | None) -> None:
            tell()

        if self.keeping.journal is None or self._state.phase == "gone":
            tell()
        else:
            self.keeping.save(saved)

    def _death(self) -> SessionDied:
        """Make the error of the calls that were with the process when it ended."""
        report = self.last_report
        how = report.how() if report is not None else "unknown"
        return SessionDied(
            f"the session process ended ({how}) while the call was with it", session=self.id, report=report
        )

    def _why_not(self, kind: str) -> ProcessionError:
        reason = self._state.reason
        if kind == "start_failed" and self._start_error is not None:
            return self._start_error
        if kind == "busy":
            return self._is_busy(
                f"it is {'being started' if self._state.phase == 'starting' else 'to be started again'}"
            )
        text = {
            "failed": f"the session has failed: {reason}",
            "stopped": f"the session has finished: {reason}" if reason else "the session was stopped",
            "finished": f"the session has finished: {reason}",
            "killed": "the session was killed",
            "hibernated": "the session was put to sleep",
            "closed": "the host is closing",
            "removed": "the session was removed",
            "start_failed": f"the session could not be started: {reason}",
        }.get(kind, f"the session is not running ({kind}) {reason}")
        hint = _HINTS.get(kind, "")
        code = kind if kind != "finished" else ""
        return SessionNotRunning(text, session=self.id, hint=hint, code=code, report=self.last_report)

    # --- messages that are no call's ------------------------------------------------------------------------
    def _other(self, message: Any) -> None:
        if isinstance(message, Notice):
            dropped = self.calls.notices.take_refused()
            more = {"dropped": dropped} if dropped else {}
            self._emit("session.notice", about=message.kind[:100], text=message.text[:500], **more)
        elif isinstance(message, Effect):
            self._engine.families.take(self, message)

    def forget(self) -> None:
        """Let go of everything; the session is off the list, and out of the journal or never in it."""
        for timer in self._timers.values():
            timer.cancel()
        self.calls.close(SessionNotRunning("the session was removed", session=self.id, code="removed"))

    def forget_after_fork(self, error: HostLost) -> None:
        """In a forked child of the application."""
        self.calls.forget_after_fork(error)
        if self._incarnation is not None:
            self._incarnation.forget_after_fork()


def _nothing() -> None:
    """Release nothing."""
