"""What each cell of the lifecycle table does: small moves over one step that is being made.

Pure, and only ever called by `step` in lifecycle.py, which knows which move belongs where. A move changes the state of
the step and appends actions; it never looks at what phase leads here, the table has seen to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, assert_never

from procession.host.core.lifecycle_values import (
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
from procession.ipc.core.bounds import READY_TIMEOUT_S, REAP_TIMEOUT_S
from procession.ipc.core.restart_policy import Exit, ExitKind, GiveUp, Leave, Restart, RestartHistory, decide

#: A start survives this many zygotes that die under it: one is chance, four is what is being started.
ZYGOTES_PER_START: Final = 3

#: How a verb that ends a session is answered to those who wanted it up.
_ANSWERS: Final[dict[Intent, Answer]] = {
    "stop": "stopped",
    "kill": "killed",
    "hibernate": "hibernated",
    "close": "closed",
    "remove": "removed",
}
_RESTS: Final[dict[Intent, Phase]] = {"stop": "stopped", "kill": "down", "hibernate": "hibernated", "close": "down"}
_INTENTS: Final[dict[EventKind, Intent]] = {"stop": "stop", "kill": "kill", "close": "close", "remove": "remove"}


def _answer_of(state: Lifecycle) -> Answer:
    """Return how the verb that ends it is answered; one that sleeps in a host that closes is closed, for who calls."""
    return "closed" if state.intent == "hibernate" and state.closed else _ANSWERS[state.intent]


def _clean(history: RestartHistory) -> RestartHistory:
    """Forget the ends that counted, for a start that somebody asked for; the total stays."""
    return replace(history, counted_at=())


class Step:
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
            self.do(FailPending("closed"))
            self.answer("up", "closed")
            return
        incarnation = self.state.incarnation + 1
        self.state = replace(
            self.state,
            phase="starting",
            intent="run",
            process="asked",
            incarnation=incarnation,
            explicit=explicit,
            killing=False,
            doomed=None,
            ready_at=None,
            reason="",
        )
        self.do(Fork(incarnation, restart), Announce("session.starting"))

    def rest(self, phase: Phase, kind: Answer, reason: str = "") -> None:
        """Come to rest without a process: answer everybody who waits for one."""
        self.state = replace(
            self.state,
            phase=phase,
            intent="run",
            process="none",
            explicit=False,
            killing=False,
            doomed=None,
            ready_at=None,
            zygotes_lost=0,
            reason=reason or ("" if kind in ("stopped", "hibernated") else kind),
        )
        self.do(Announce(f"session.{phase}", self.state.reason))  # before whoever is told can cause the next event
        if phase != "hibernated" or self.state.closed:  # what waits for one that sleeps wakes it
            self.do(FailPending(kind))
        self.answer("up", kind)
        self.answer("over", "over")

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

    def ask_to_end(self, grace_s: float, *, for_good: bool = True) -> None:
        """Ask the process to end, and see to it after the grace."""
        if grace_s <= 0:
            self.kill()
            return
        self.state = replace(self.state, phase="stopping")
        self.do(SendShutdown(grace_s, for_good), ArmTimer("stop", grace_s))

    def doom(self, exit: Exit) -> None:
        """End the process for the host's own reason, which then is its exit."""
        self.state = replace(self.state, doomed=exit, intent="run")
        self.kill()

    def intend(self, intent: Intent) -> None:
        """Take over a verb that ends the session, or puts it to sleep: those who wanted it up hear so at once."""
        self.state = replace(self.state, intent=intent, explicit=False, doomed=None)
        if intent != "hibernate":
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
            if exit.kind not in (ExitKind.START_FAILED, ExitKind.NOT_RESTORED):
                self.unasked_end(Exit(ExitKind.START_FAILED, str(exit), exit.pending))
                return
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
                    self.state,
                    phase="backoff",
                    intent="run",
                    process="none",
                    explicit=False,
                    killing=False,
                    doomed=None,
                    ready_at=None,
                    reason=str(exit),
                )
                self.do(BeginBackoff(after_s))
            case GiveUp() | Leave() if self.state.up_waiting:
                # Somebody asked for it while it was being ended: that is the later word.
                self.do(SettleCalls(keep=True, kind="failed"))
                self.state = replace(self.state, history=_clean(self.state.history))
                self.begin(explicit=True)
            case GiveUp(reason):
                self.do(SettleCalls(keep=False, kind="failed"))
                self.rest("failed", "failed", reason)
            case Leave(reason, crash):
                kind: Answer = "failed" if crash else "finished"
                self.do(SettleCalls(keep=False, kind=kind))
                self.rest("failed" if crash else "stopped", kind, reason)
            case _:
                assert_never(decision)


Handler = Callable[[Step], None]


# --- handlers: at rest --------------------------------------------------------------------------------------
def start(step: Step) -> None:
    """Start because somebody asks: with a clean slate."""
    step.state = replace(step.state, history=_clean(step.state.history))
    step.begin(explicit=True)


def wake(step: Step) -> None:
    """Start because somebody calls."""
    if step.state.phase == "hibernated" and not step.state.closed:
        step.do(Announce("session.woken"))
    step.begin(explicit=False)


def refuse_call(step: Step) -> None:
    """Tell the caller why no process will come."""
    answers: dict[Phase, Answer] = {"stopped": "stopped", "failed": "failed", "gone": "removed"}
    step.do(FailPending(answers[step.state.phase]))


def refuse_gone(step: Step) -> None:
    """Tell those who want it up that it was removed."""
    step.answer("up", "removed")


def rest_stopped(step: Step) -> None:
    """Be over, without having been up."""
    step.rest("stopped", "stopped")


def rest_closed(step: Step) -> None:
    """Be down, without having been up."""
    step.state = replace(step.state, closed=True)
    step.rest("down", "closed")


def close_at_rest(step: Step) -> None:
    """Start nothing from now on."""
    step.state = replace(step.state, closed=True)
    step.answer("over", "over")


def over_already(step: Step) -> None:
    """Tell those who want it over that it is."""
    step.answer("over", "over")


def sleep_on(step: Step) -> None:
    """Count what has no process, and wakes on the next call, as put to sleep."""
    step.rest("hibernated", "hibernated")


def refuse_sleep(step: Step) -> None:
    """Tell who wants it to sleep that it cannot: it is over, or about to be up."""
    answers: dict[Phase, Answer] = {"stopped": "stopped", "failed": "failed", "gone": "removed"}
    step.answer("over", answers.get(step.state.phase, "busy"))


def forget(step: Step) -> None:
    """Delete it."""
    step.forget()


# --- handlers: starting -------------------------------------------------------------------------------------
def forked(step: Step) -> None:
    """There is a process; give it its time to get ready."""
    step.state = replace(step.state, process="live")
    step.do(ArmTimer("ready", READY_TIMEOUT_S))


def ready(step: Step) -> None:
    """Deliver what waits and tell who waits."""
    step.state = replace(step.state, phase="ready", process="live", ready_at=step.now, explicit=False, zygotes_lost=0)
    step.do(CancelTimer("ready"), Flush(), Announce("session.ready"))
    step.answer("up", "ready")


def not_ready_in_time(step: Step) -> None:
    """End a start that takes too long."""
    step.doom(Exit(ExitKind.START_FAILED, f"not ready in {READY_TIMEOUT_S:g} s"))


def end_now(step: Step) -> None:
    """A verb that ends a process which cannot, or is not to, be asked."""
    intent = _INTENTS[step.event.kind]
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.intend(intent)
    step.kill()


# --- handlers: ready ----------------------------------------------------------------------------------------
def is_ready(step: Step) -> None:
    """Tell those who want it up that it is."""
    step.answer("up", "ready")


def restart(step: Step) -> None:
    """End the process, to start at once when it is over."""
    step.state = replace(step.state, intent="run")
    step.ask_to_end(step.event.grace_s, for_good=False)


def hibernate(step: Step) -> None:
    """End the process, to start again by the next call."""
    step.intend("hibernate")
    step.ask_to_end(step.event.grace_s, for_good=False)


def end_gently(step: Step) -> None:
    """Carry out a verb that lets the process finish."""
    intent = _INTENTS[step.event.kind]
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.intend(intent)
    step.ask_to_end(step.event.grace_s)


def condemned(step: Step) -> None:
    """End it for the host's own reason."""
    step.doom(step.event.exit or Exit(ExitKind.STUCK))


def zygote_lost(step: Step) -> None:
    """End what hangs on a zygote that is gone."""
    step.doom(Exit(ExitKind.ZYGOTE_LOST))


def ended_unasked(step: Step) -> None:
    """Let policy decide about an end out of nowhere."""
    step.do(CancelTimer("ready"))
    step.unasked_end(step.event.exit or Exit(ExitKind.KEEPER_LOST))


def start_failed(step: Step) -> None:
    """Treat a fork that gave no process."""
    step.do(CancelTimer("ready"))
    step.unasked_end(step.event.exit or Exit(ExitKind.START_FAILED))


# --- handlers: backoff --------------------------------------------------------------------------------------
def backoff_over(step: Step) -> None:
    """Start again after a crash."""
    step.begin(explicit=False, restart=True)


def restart_now(step: Step) -> None:
    """Start without waiting for the rest of the back-off."""
    step.do(CancelTimer("backoff"))
    step.begin(explicit=False)


def leave_backoff(step: Step) -> None:
    """Call the restart off."""
    step.do(CancelTimer("backoff"))
    intent = _INTENTS[step.event.kind]
    if intent == "remove":
        step.forget()
        return
    if intent == "close":
        step.state = replace(step.state, closed=True)
    step.rest(_RESTS[intent], _ANSWERS[intent])


# --- handlers: stopping -------------------------------------------------------------------------------------
def start_after(step: Step) -> None:
    """Let this end be followed by a start."""
    state = step.state
    if state.closed or state.intent == "remove":
        step.answer("up", "removed" if state.intent == "remove" else "closed")
    elif state.intent != "run":
        step.state = replace(state, intent="run", explicit=True, doomed=None, history=_clean(state.history))


def stop_after(step: Step) -> None:
    """Let this end be a stop."""
    if step.state.intent != "remove":
        step.intend("stop")


def hibernate_after(step: Step) -> None:
    """Let this end be a sleep; what was stopped, closed or removed stays that."""
    if step.state.intent in {"run", "kill"}:
        step.intend("hibernate")


def kill_after(step: Step) -> None:
    """End it now; what was stopped or put to sleep stays so."""
    if step.state.intent == "run":
        step.intend("kill")
    step.kill()


def close_after(step: Step) -> None:
    """Let this end be followed by nothing."""
    step.state = replace(step.state, closed=True)
    if step.state.intent in {"run", "kill"}:
        step.intend("close")
    elif step.state.intent == "hibernate":
        step.do(FailPending("closed"))


def remove_after(step: Step) -> None:
    """Let this end be the last."""
    step.intend("remove")
    step.kill()


def call_after(step: Step) -> None:
    """Let a call wake what was killed or is put to sleep, or refuse it."""
    intent = step.state.intent
    if intent in {"kill", "hibernate"} and not step.state.closed:
        step.state = replace(step.state, intent="run")
    elif intent != "run":
        step.do(FailPending(_answer_of(step.state)))


def forked_late(step: Step) -> None:
    """Repeat the kill, now that there is something to kill."""
    step.state = replace(step.state, process="live")
    if step.state.killing:
        step.do(KillDomain(), ArmTimer("reap", REAP_TIMEOUT_S))


def hasten(step: Step) -> None:
    """End it now."""
    step.kill()


def abandon(step: Step) -> None:
    """Stop waiting for the keeper's record."""
    step.do(Abandon())


def ended_asked(step: Step) -> None:
    """Do what the last verb wanted."""
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
        answer = _answer_of(state)
        step.do(SettleCalls(keep=answer == "hibernated", kind=answer))
        if state.intent == "remove":
            step.forget()
        else:
            step.rest(_RESTS[state.intent], answer)
