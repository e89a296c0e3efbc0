"""The life of a session as a table: (phase, event) -> what follows. A missing cell is the error, and tells its story.

Pure: `step(state, event, now, rng)` gives the next state and the actions for the shell, in order. It is *not* the policy
(restart_policy.py decides about a crash, the table asks it) and knows no process, descriptor or clock.

Rules: the last accepted verb says what is to be, whenever it comes. Where it all ends depends on the order of the verbs,
never on how fast a process happened to end. Only an end that nobody asked for counts. Whoever waits is answered exactly
once. There is never more than one process: `Fork` comes only when the one before is proved over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple, assert_never

from procession.host.core.lifecycle_values import (
    EVENT_KINDS,
    FACTS,
    PHASES,
    WAITS_OVER,
    WAITS_UP,
    Abandon,
    Action,
    Announce,
    Answer,
    AnswerWaiters,
    ArmTimer,
    BeginBackoff,
    CancelTimer,
    EventKind,
    FailPending,
    Flush,
    Forget,
    Fork,
    Group,
    Intent,
    KillDomain,
    Lifecycle,
    LifecycleEvent,
    Phase,
    SendShutdown,
    SettleCalls,
)
from procession.host.core.restart_policy import Exit, ExitKind, GiveUp, Leave, Restart, RestartHistory, decide
from procession.ipc.core.bounds import READY_TIMEOUT_S, REAP_TIMEOUT_S
from procession.ipc.core.errors import InvalidTransition
from procession.ipc.core.records import Transition

#: Steps a session remembers: enough for several whole lives, small enough for an error message.
STORY_LENGTH: Final = 64
#: A start survives this many zygotes that die under it: one is chance, four is what is being started.
ZYGOTES_PER_START: Final = 3

#: How a verb that ends a session is answered to those who wanted it up.
_ANSWERS: Final[dict[Intent, Answer]] = {"stop": "stopped", "kill": "killed", "close": "closed", "remove": "removed"}
_RESTS: Final[dict[Intent, Phase]] = {"stop": "stopped", "kill": "down", "close": "down"}
_INTENTS: Final[dict[EventKind, Intent]] = {"stop": "stop", "kill": "kill", "close": "close", "remove": "remove"}


class _Step:
    """One step while it is made: the state so far, and the actions so far."""

    __slots__ = ("actions", "event", "now", "rng", "state")

    def __init__(self, state: Lifecycle, event: LifecycleEvent, now: float, rng: Callable[[], float]) -> None:
        self.state = state
        self.event = event
        self.now = now
        self.rng = rng
        self.actions: list[Action] = []

    def do(self, *actions: Action) -> None:
        self.actions += actions

    def answer(self, group: Group, kind: Answer) -> None:
        """Answer those who wait in a group, when there are any."""
        if group == "up" and self.state.up_waiting:
            self.state = replace(self.state, up_waiting=False)
            self.do(AnswerWaiters("up", kind))
        elif group == "over" and self.state.over_waiting:
            self.state = replace(self.state, over_waiting=False)
            self.do(AnswerWaiters("over", kind))

    # --- what several cells do ------------------------------------------------------------------------------
    def begin(self, *, explicit: bool, restart: bool = False) -> None:
        """Have a process made, unless the host is closing."""
        if self.state.closed:
            self.rest("down", "closed")
            return
        incarnation = self.state.incarnation + 1
        self.state = replace(
            self.state, phase="starting", intent="run", process="asked", incarnation=incarnation, explicit=explicit,
            killing=False, doomed=None, ready_at=None, reason="",
        )
        self.do(Fork(incarnation, restart), Announce("session.starting"))

    def rest(self, phase: Phase, kind: Answer, reason: str = "") -> None:
        """Come to rest without a process: answer everybody who waits for one."""
        self.state = replace(
            self.state, phase=phase, intent="run", process="none", explicit=False, killing=False, doomed=None,
            ready_at=None, zygotes_lost=0, reason=reason or ("" if kind == "stopped" else kind),
        )
        self.do(FailPending(kind))
        self.answer("up", kind)
        self.answer("over", "over")
        self.do(Announce(f"session.{phase}", self.state.reason))

    def forget(self) -> None:
        self.rest("gone", "removed")
        self.do(Forget())

    def kill(self) -> None:
        """End the process now, once; while it is only being forked, that is repeated when there is one."""
        if self.state.killing:
            return
        doomed = self.state.doomed
        self.state = replace(self.state, phase="stopping", killing=True)
        abort = doomed is not None and doomed.kind is ExitKind.STUCK
        self.do(CancelTimer("ready"), CancelTimer("stop"), KillDomain(abort))
        if self.state.process == "live":
            self.do(ArmTimer("reap", REAP_TIMEOUT_S))

    def ask_to_end(self, grace_s: float) -> None:
        """Ask the process to end, and see to it after the grace."""
        if grace_s <= 0:
            self.kill()
            return
        self.state = replace(self.state, phase="stopping")
        self.do(SendShutdown(grace_s), ArmTimer("stop", grace_s))

    def doom(self, exit: Exit) -> None:
        """End the process for the host's own reason, which then is its exit."""
        self.state = replace(self.state, doomed=exit, intent="run")
        self.kill()

    def intend(self, intent: Intent) -> None:
        """Take over a verb that ends the session: those who wanted it up hear so at once."""
        self.state = replace(self.state, intent=intent, explicit=False, doomed=None)
        self.do(FailPending(_ANSWERS[intent]))
        self.answer("up", _ANSWERS[intent])

    def unasked_end(self, exit: Exit) -> None:
        """The process is over and nobody asked for it: policy decides."""
        state = self.state
        if state.ready_at is None:
            if exit.kind is ExitKind.ZYGOTE_LOST and state.zygotes_lost < ZYGOTES_PER_START:
                self.do(SettleCalls(keep=True, kind="start_failed"))
                self.state = replace(state, zygotes_lost=state.zygotes_lost + 1)
                self.begin(explicit=state.explicit)
                return
            if exit.kind is not ExitKind.START_FAILED:
                exit = Exit(ExitKind.START_FAILED, str(exit), exit.pending)
            self.answer("up", "start_failed")
            if state.explicit:
                self.do(SettleCalls(keep=False, kind="start_failed"))
                self.rest("failed", "start_failed", str(exit))
                return
        self.do(Announce("session.crashed" if exit.is_crash else "session.exited", str(exit)))
        history, decision = decide(state.policy, state.history, exit, self.now, state.uptime_s(self.now), self.rng)
        self.state = replace(self.state, history=history)
        match decision:
            case Restart(after_s):
                self.do(SettleCalls(keep=True, kind="failed"))
                self.state = replace(
                    self.state, phase="backoff", intent="run", process="none", explicit=False, killing=False, doomed=None,
                    ready_at=None, reason=str(exit),
                )
                self.do(BeginBackoff(after_s))
            case GiveUp(reason):
                self.do(SettleCalls(keep=False, kind="failed"))
                self.rest("failed", "failed", reason)
            case Leave(reason, crash):
                kind: Answer = "failed" if crash else "finished"
                self.do(SettleCalls(keep=False, kind=kind))
                self.rest("failed" if crash else "stopped", kind, reason)
            case _:
                assert_never(decision)


Handler = Callable[[_Step], None]


# --- handlers: at rest --------------------------------------------------------------------------------------
def _start(step: _Step) -> None:
    step.state = replace(step.state, history=RestartHistory())
    step.begin(explicit=True)


def _wake(step: _Step) -> None:
    step.begin(explicit=False)


def _refuse_call(step: _Step) -> None:
    answers: dict[Phase, Answer] = {"stopped": "stopped", "failed": "failed", "gone": "removed"}
    step.do(FailPending(answers[step.state.phase]))


def _refuse_gone(step: _Step) -> None:
    step.answer("up", "removed")


def _rest_stopped(step: _Step) -> None:
    step.rest("stopped", "stopped")


def _rest_closed(step: _Step) -> None:
    step.state = replace(step.state, closed=True)
    step.rest("down", "closed")


def _close_at_rest(step: _Step) -> None:
    step.state = replace(step.state, closed=True)
    step.answer("over", "over")


def _over_already(step: _Step) -> None:
    step.answer("over", "over")


def _forget(step: _Step) -> None:
    step.forget()


# --- handlers: starting -------------------------------------------------------------------------------------
def _forked(step: _Step) -> None:
    step.state = replace(step.state, process="live")
    step.do(ArmTimer("ready", READY_TIMEOUT_S))


def _ready(step: _Step) -> None:
    step.state = replace(step.state, phase="ready", process="live", ready_at=step.now, explicit=False, zygotes_lost=0)
    step.do(CancelTimer("ready"), Flush(), Announce("session.ready"))
    step.answer("up", "ready")


def _not_ready_in_time(step: _Step) -> None:
    step.doom(Exit(ExitKind.START_FAILED, f"not ready in {READY_TIMEOUT_S:g} s"))


def _end_now(step: _Step) -> None:
    """A verb that ends a process which cannot, or is not to, be asked."""
    intent = _INTENTS[step.event.kind]
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.intend(intent)
    step.kill()


# --- handlers: ready ----------------------------------------------------------------------------------------
def _is_ready(step: _Step) -> None:
    step.answer("up", "ready")


def _restart(step: _Step) -> None:
    step.state = replace(step.state, intent="run")
    step.ask_to_end(step.event.grace_s)


def _end_gently(step: _Step) -> None:
    intent = _INTENTS[step.event.kind]
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.intend(intent)
    step.ask_to_end(step.event.grace_s)


def _condemned(step: _Step) -> None:
    step.doom(step.event.exit or Exit(ExitKind.STUCK))


def _zygote_lost(step: _Step) -> None:
    step.doom(Exit(ExitKind.ZYGOTE_LOST))


def _ended_unasked(step: _Step) -> None:
    step.do(CancelTimer("ready"))
    step.unasked_end(step.event.exit or Exit(ExitKind.KEEPER_LOST))


def _start_failed(step: _Step) -> None:
    step.do(CancelTimer("ready"))
    step.unasked_end(step.event.exit or Exit(ExitKind.START_FAILED))


# --- handlers: backoff --------------------------------------------------------------------------------------
def _backoff_over(step: _Step) -> None:
    step.begin(explicit=False, restart=True)


def _restart_now(step: _Step) -> None:
    step.do(CancelTimer("backoff"))
    step.begin(explicit=False)


def _leave_backoff(step: _Step) -> None:
    step.do(CancelTimer("backoff"))
    intent = _INTENTS[step.event.kind]
    if intent == "remove":
        step.forget()
        return
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.rest(_RESTS[intent], _ANSWERS[intent])


# --- handlers: stopping -------------------------------------------------------------------------------------
def _start_after(step: _Step) -> None:
    state = step.state
    if state.closed or state.intent == "remove":
        step.answer("up", "removed" if state.intent == "remove" else "closed")
    elif state.intent != "run":
        history = state.history if state.intent == "kill" else RestartHistory()
        step.state = replace(state, intent="run", explicit=True, doomed=None, history=history)


def _stop_after(step: _Step) -> None:
    if step.state.intent != "remove":
        step.intend("stop")


def _kill_after(step: _Step) -> None:
    if step.state.intent == "run":
        step.intend("kill")
    step.kill()


def _close_after(step: _Step) -> None:
    step.state = replace(step.state, closed=True)
    if step.state.intent in {"run", "kill"}:
        step.intend("close")


def _remove_after(step: _Step) -> None:
    step.intend("remove")
    step.kill()


def _call_after(step: _Step) -> None:
    intent = step.state.intent
    if intent == "kill" and not step.state.closed:
        step.state = replace(step.state, intent="run")
    elif intent != "run":
        step.do(FailPending(_ANSWERS[intent]))


def _forked_late(step: _Step) -> None:
    step.state = replace(step.state, process="live")
    if step.state.killing:
        step.do(KillDomain(), ArmTimer("reap", REAP_TIMEOUT_S))


def _hasten(step: _Step) -> None:
    step.kill()


def _abandon(step: _Step) -> None:
    step.do(Abandon())


def _ended_asked(step: _Step) -> None:
    state = step.state
    step.do(CancelTimer("stop"), CancelTimer("reap"), CancelTimer("ready"))
    if state.intent == "run" and state.doomed is not None:
        step.answer("over", "over")
        step.unasked_end(state.doomed)
    elif state.intent == "run":
        step.do(SettleCalls(keep=True, kind="stopped"))
        step.answer("over", "over")
        step.begin(explicit=state.explicit)
    else:
        step.do(SettleCalls(keep=False, kind=_ANSWERS[state.intent]))
        if state.intent == "remove":
            step.forget()
        else:
            step.rest(_RESTS[state.intent], _ANSWERS[state.intent])


# --- the table ----------------------------------------------------------------------------------------------
class Cell(NamedTuple):
    """What follows: a handler (None: nothing, on purpose), the phases it may lead to, and why, for the docs."""

    handler: Handler | None
    to: tuple[Phase, ...]
    note: str


Table = dict[tuple[Phase, EventKind], Cell]
_AT_REST: Final[tuple[Phase, ...]] = ("stopped", "down", "failed")
_AFTER_UNASKED: Final[tuple[Phase, ...]] = ("starting", "backoff", "failed", "stopped")


def _nothing(phase: Phase, note: str) -> Cell:
    return Cell(None, (phase,), note)


def _build() -> Table:
    table: Table = {}
    for phase in PHASES:
        _late_words(table, phase)
    for phase in ("new", *_AT_REST):
        for verb in ("start", "resume", "restart"):
            table[phase, verb] = Cell(_start, ("starting", "down"), "a process is made; its failure is told, not retried")
        table[phase, "stop"] = Cell(_rest_stopped, ("stopped",), "over")
        table[phase, "kill"] = Cell(_over_already, (phase,), "there is nothing to kill")
        table[phase, "close"] = Cell(_close_at_rest, (phase,), "nothing to end; nothing starts any more")
        table[phase, "remove"] = Cell(_forget, ("gone",), "its data is deleted")
    table["new", "close"] = Cell(_rest_closed, ("down",), "nothing to end; nothing starts any more")
    table["stopped", "stop"] = Cell(_over_already, ("stopped",), "stopping twice is stopping")
    for phase in ("new", "down"):
        table[phase, "call"] = Cell(_wake, ("starting", "down"), "it wakes; the call waits")
    for phase in ("stopped", "failed", "gone"):
        table[phase, "call"] = Cell(_refuse_call, (phase,), "refused at once")
    _add_starting(table)
    _add_ready(table)
    _add_backoff(table)
    _add_stopping(table)
    for kind in ("start", "resume", "restart"):
        table["gone", kind] = Cell(_refuse_gone, ("gone",), "refused: removed")
    for kind in ("stop", "kill", "close", "remove"):
        table["gone", kind] = Cell(_over_already, ("gone",), "it is over already")
    return table


def _late_words(table: Table, phase: Phase) -> None:
    """Write down what races with an end or with a cancelled timer, and then means nothing."""
    for kind in ("backoff_over", "ready_timeout", "stop_timeout", "reap_timeout"):
        table[phase, kind] = _nothing(phase, "the timer fired while it was being cancelled")
    table[phase, "zygote_lost"] = _nothing(phase, "it has no process of that zygote")
    if phase != "new":
        for kind in ("forked", "ready"):
            table[phase, kind] = _nothing(phase, "the word came after the end")
        table[phase, "condemned"] = _nothing(phase, "the verdict came after the end")


def _add_starting(table: Table) -> None:
    for verb in ("start", "resume", "restart"):
        table["starting", verb] = _nothing("starting", "joins the start under way")
    for verb in ("stop", "kill", "close", "remove"):
        table["starting", verb] = Cell(_end_now, ("stopping",), "what is being made is ended")
    table["starting", "call"] = _nothing("starting", "the call waits")
    table["starting", "forked"] = Cell(_forked, ("starting",), "it has 20 s to say that it is ready")
    table["starting", "ready"] = Cell(_ready, ("ready",), "what waits is delivered, in order")
    table["starting", "start_failed"] = Cell(_start_failed, _AFTER_UNASKED, "told, or counted and tried again")
    table["starting", "ended"] = Cell(_ended_unasked, _AFTER_UNASKED, "a failed start: told, or counted and tried again")
    table["starting", "condemned"] = Cell(_condemned, ("stopping",), "its handshake was wrong: ended, a failed start")
    table["starting", "zygote_lost"] = Cell(_zygote_lost, ("stopping",), "ended; the fork is asked for again")
    table["starting", "ready_timeout"] = Cell(_not_ready_in_time, ("stopping",), "ended; a failed start")


def _add_ready(table: Table) -> None:
    for verb in ("start", "resume"):
        table["ready", verb] = Cell(_is_ready, ("ready",), "it is up already")
    table["ready", "restart"] = Cell(_restart, ("stopping",), "asked to end, then started at once, not counted")
    for verb in ("stop", "close"):
        table["ready", verb] = Cell(_end_gently, ("stopping",), "asked to end, ended after the grace")
    for verb in ("kill", "remove"):
        table["ready", verb] = Cell(_end_now, ("stopping",), "ended now")
    table["ready", "call"] = _nothing("ready", "the call goes straight to the process")
    table["ready", "forked"] = _nothing("ready", "the zygote's word came after the session's own")
    del table["ready", "ready"]
    table["ready", "ended"] = Cell(_ended_unasked, ("backoff", "failed", "stopped"), "policy decides")
    table["ready", "condemned"] = Cell(_condemned, ("stopping",), "ended; policy decides as for a crash")
    table["ready", "zygote_lost"] = Cell(_zygote_lost, ("stopping",), "ended; started again at once, not counted")


def _add_backoff(table: Table) -> None:
    for verb in ("start", "resume"):
        table["backoff", verb] = _nothing("backoff", "joins the restart that is due")
    table["backoff", "restart"] = Cell(_restart_now, ("starting",), "started now, not counted")
    table["backoff", "stop"] = Cell(_leave_backoff, ("stopped",), "the restart is called off")
    table["backoff", "kill"] = Cell(_leave_backoff, ("down",), "the restart is called off; the next call wakes it")
    table["backoff", "close"] = Cell(_leave_backoff, ("down",), "the restart is called off")
    table["backoff", "remove"] = Cell(_leave_backoff, ("gone",), "the restart is called off, its data is deleted")
    table["backoff", "call"] = _nothing("backoff", "the call waits for the next process")
    table["backoff", "backoff_over"] = Cell(_backoff_over, ("starting",), "started again")


def _add_stopping(table: Table) -> None:
    same: tuple[Phase, ...] = ("stopping",)
    for verb in ("start", "resume", "restart"):
        table["stopping", verb] = Cell(_start_after, same, "started once this process is over (not when closing or removed)")
    table["stopping", "stop"] = Cell(_stop_after, same, "stopped once it is over")
    table["stopping", "kill"] = Cell(_kill_after, same, "ended now; no restart (one that was stopped stays stopped)")
    table["stopping", "close"] = Cell(_close_after, same, "down once it is over; nothing starts any more")
    table["stopping", "remove"] = Cell(_remove_after, same, "ended now; its data is deleted")
    table["stopping", "call"] = Cell(_call_after, same, "wakes what was killed, waits for a restart, else is refused")
    table["stopping", "forked"] = Cell(_forked_late, same, "there is something to kill now")
    table["stopping", "ready"] = _nothing("stopping", "too late to matter")
    ends: tuple[Phase, ...] = ("stopped", "down", "gone", *_AFTER_UNASKED)
    table["stopping", "start_failed"] = Cell(_ended_asked, tuple(dict.fromkeys(ends)), "nothing was left to end; as asked")
    table["stopping", "ended"] = Cell(_ended_asked, tuple(dict.fromkeys(ends)), "as asked; policy decides for what was condemned")
    table["stopping", "condemned"] = Cell(_hasten, same, "not waited for any longer")
    table["stopping", "zygote_lost"] = Cell(_hasten, same, "not waited for any longer")
    table["stopping", "stop_timeout"] = Cell(_hasten, same, "the grace is over: ended now")
    table["stopping", "reap_timeout"] = Cell(_abandon, same, "its record does not come: keeper lost")


TABLE: Final[Table] = _build()


def step(
    state: Lifecycle, event: LifecycleEvent, now: float, rng: Callable[[], float]
) -> tuple[Lifecycle, tuple[Action, ...]]:
    """Take one step: the next state, and what is to be done, in order.

    now: monotonic seconds. rng: uniform in [0, 1). Raises InvalidTransition with the session's story for an event that
    cannot happen in this phase; the state is then unchanged.
    """
    if event.kind in FACTS and event.inc and event.inc != state.incarnation:
        return state, ()  # about a process that is over: late, and no business of this one (law 9)
    cell = TABLE.get((state.phase, event.kind))
    if cell is None:
        raise InvalidTransition(f"{event.kind} cannot happen to a session that is {state.phase}", story=state.story)
    if event.kind in WAITS_UP and not state.up_waiting:
        state = replace(state, up_waiting=True)
    elif event.kind in WAITS_OVER and not state.over_waiting:
        state = replace(state, over_waiting=True)
    if cell.handler is None:
        return state, ()
    made = _Step(state, event, now, rng)
    cell.handler(made)
    after = made.state
    assert after.phase in cell.to, f"{state.phase} x {event.kind} led to {after.phase}"
    told = Transition(at=now, event=event.kind, before=state.phase, after=after.phase, detail=str(event.exit or ""))
    return replace(after, story=(*after.story, told)[-STORY_LENGTH:]), tuple(made.actions)


def table_markdown() -> str:
    """Draw the table for the docs: the picture of who leads where, then every cell."""
    edges: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, kind), cell in TABLE.items():
        for to in cell.to:
            if to != phase:
                edges.setdefault((phase, to), []).append(kind)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    lines += [f"    {a} --> {b} : {', '.join(kinds)}" for (a, b), kinds in sorted(edges.items(), key=_by_phase)]
    lines += ["    gone --> [*]", "```"]
    for phase in PHASES:
        lines += ["", f"### {phase}", "", "| event | leads to | what happens |", "|---|---|---|"]
        for kind in EVENT_KINDS:
            found = TABLE.get((phase, kind))
            if found is None:
                lines.append(f"| {kind} | **invalid** | cannot happen: `InvalidTransition` with the session's story |")
            else:
                leads = "" if found.to == (phase,) else ", ".join(found.to)
                lines.append(f"| {kind} | {leads} | {found.note} |")
    return "\n".join(lines) + "\n"


def _by_phase(item: tuple[tuple[Phase, Phase], list[str]]) -> tuple[int, int]:
    return PHASES.index(item[0][0]), PHASES.index(item[0][1])
