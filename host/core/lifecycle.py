"""The life of a session as a table: (phase, event) -> what follows. A missing cell is the error, and tells its story.

Pure: `step(state, event, now, rng)` gives the next state and the actions for the shell, in order. It is *not* the
policy (restart_policy.py decides about a crash, the table asks it) and knows no process, descriptor or clock.

Rules: the last accepted verb says what is to be, whenever it comes. Where it all ends depends on the order of the
verbs, never on how fast a process happened to end. Only an end that nobody asked for counts. Whoever waits is answered
exactly once. There is never more than one process: `Fork` comes only when the one before is proved over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple

from procession.host.core import lifecycle_moves as moves
from procession.host.core.lifecycle_values import (
    EVENT_KINDS,
    FACTS,
    PHASES,
    TIMEOUTS,
    WAITS_OVER,
    WAITS_UP,
    Action,
    EventKind,
    Lifecycle,
    LifecycleEvent,
    Phase,
)
from procession.ipc.core.errors import InvalidTransition
from procession.ipc.core.records import Transition
from procession.ipc.core.restart_policy import RestartHistory, RestartPolicy

#: Steps a session remembers: enough for several whole lives, small enough for an error message.
STORY_LENGTH: Final = 64
STORY_ASLEEP: Final = 8
"""Of one that sleeps, of which there may be thousands: how it came to sleep."""


class Cell(NamedTuple):
    """What follows: a handler (None: nothing, on purpose), the phases it may lead to, and why, for the docs."""

    handler: moves.Handler | None
    to: tuple[Phase, ...]
    note: str


Table = dict[tuple[Phase, EventKind], Cell]
_WITHOUT_PROCESS: Final[tuple[Phase, ...]] = ("new", "stopped", "down", "hibernated", "failed")
_WAKEFUL: Final[tuple[Phase, ...]] = ("new", "down", "hibernated")
_DEAF: Final[tuple[Phase, ...]] = ("stopped", "failed", "gone")
_WANTS_UP: Final[tuple[EventKind, ...]] = ("start", "resume", "restart")
_JOINS: Final[tuple[EventKind, ...]] = ("start", "resume")
_WANTS_OVER: Final[tuple[EventKind, ...]] = ("stop", "kill", "close", "remove")
_GENTLE: Final[tuple[EventKind, ...]] = ("stop", "close")
_AT_ONCE: Final[tuple[EventKind, ...]] = ("kill", "remove")
_NEWS: Final[tuple[EventKind, ...]] = ("forked", "ready")
_AT_REST: Final[tuple[Phase, ...]] = ("new", "hibernated")
_COMING_UP: Final[tuple[Phase, ...]] = ("starting", "backoff")
_KEPT: Final[tuple[Phase, ...]] = ("stopped", "hibernated", "failed")
_AFTER_UNASKED: Final[tuple[Phase, ...]] = ("starting", "backoff", "failed", "stopped")


def _nothing(phase: Phase, note: str) -> Cell:
    return Cell(None, (phase,), note)


def _build() -> Table:
    table: Table = {}
    for phase in PHASES:
        _late_words(table, phase)
    for phase in _WITHOUT_PROCESS:
        for verb in _WANTS_UP:
            table[phase, verb] = Cell(moves.start, ("starting", phase), "made; a failure is told, not retried")
        table[phase, "stop"] = Cell(moves.rest_stopped, ("stopped",), "over")
        table[phase, "kill"] = Cell(moves.over_already, (phase,), "there is nothing to kill")
        table[phase, "close"] = Cell(moves.close_at_rest, (phase,), "nothing to end; nothing starts any more")
        table[phase, "remove"] = Cell(moves.forget, ("gone",), "its data is deleted")
    table["new", "close"] = Cell(moves.rest_closed, ("down",), "nothing to end; nothing starts any more")
    table["stopped", "stop"] = Cell(moves.over_already, ("stopped",), "stopping twice is stopping")
    for phase in _WAKEFUL:
        table[phase, "call"] = Cell(moves.wake, ("starting", phase), "it wakes; the call waits")
    for phase in _DEAF:
        table[phase, "call"] = Cell(moves.refuse_call, (phase,), "refused at once")
    _add_starting(table)
    _add_ready(table)
    _add_backoff(table)
    _add_stopping(table)
    _add_hibernate(table)
    for kind in _WANTS_UP:
        table["gone", kind] = Cell(moves.refuse_gone, ("gone",), "refused: removed")
    for kind in _WANTS_OVER:
        table["gone", kind] = Cell(moves.over_already, ("gone",), "it is over already")
    return table


def _late_words(table: Table, phase: Phase) -> None:
    """Write down what races with an end or with a cancelled timer, and then means nothing."""
    for kind in TIMEOUTS:
        table[phase, kind] = _nothing(phase, "the timer fired while it was being cancelled")
    table[phase, "zygote_lost"] = _nothing(phase, "it has no process of that zygote")
    if phase != "new":
        for kind in _NEWS:
            table[phase, kind] = _nothing(phase, "the word came after the end")
        table[phase, "condemned"] = _nothing(phase, "the verdict came after the end")


def _add_starting(table: Table) -> None:
    for verb in _WANTS_UP:
        table["starting", verb] = _nothing("starting", "joins the start under way")
    for verb in _WANTS_OVER:
        table["starting", verb] = Cell(moves.end_now, ("stopping",), "what is being made is ended")
    table["starting", "call"] = _nothing("starting", "the call waits")
    table["starting", "forked"] = Cell(moves.forked, ("starting",), "it has 20 s to say that it is ready")
    table["starting", "ready"] = Cell(moves.ready, ("ready",), "what waits is delivered, in order")
    table["starting", "start_failed"] = Cell(moves.start_failed, _AFTER_UNASKED, "told, or counted and tried again")
    table["starting", "ended"] = Cell(moves.ended_unasked, _AFTER_UNASKED, "told, or counted and tried again")
    table["starting", "condemned"] = Cell(moves.condemned, ("stopping",), "a wrong handshake: ended, a failed start")
    table["starting", "zygote_lost"] = Cell(moves.zygote_lost, ("stopping",), "ended; the fork is asked for again")
    table["starting", "ready_timeout"] = Cell(moves.not_ready_in_time, ("stopping",), "ended; a failed start")


def _add_ready(table: Table) -> None:
    for verb in _JOINS:
        table["ready", verb] = Cell(moves.is_ready, ("ready",), "it is up already")
    table["ready", "restart"] = Cell(moves.restart, ("stopping",), "asked to end, then started at once, not counted")
    for verb in _GENTLE:
        table["ready", verb] = Cell(moves.end_gently, ("stopping",), "asked to end, ended after the grace")
    for verb in _AT_ONCE:
        table["ready", verb] = Cell(moves.end_now, ("stopping",), "ended now")
    table["ready", "call"] = _nothing("ready", "the call goes straight to the process")
    table["ready", "forked"] = _nothing("ready", "the zygote's word came after the session's own")
    del table["ready", "ready"]
    table["ready", "ended"] = Cell(moves.ended_unasked, ("backoff", "failed", "stopped"), "policy decides")
    table["ready", "condemned"] = Cell(moves.condemned, ("stopping",), "ended; policy decides as for a crash")
    table["ready", "zygote_lost"] = Cell(moves.zygote_lost, ("stopping",), "ended; started again at once, not counted")


def _add_backoff(table: Table) -> None:
    for verb in _JOINS:
        table["backoff", verb] = _nothing("backoff", "joins the restart that is due")
    table["backoff", "restart"] = Cell(moves.restart_now, ("starting",), "started now, not counted")
    table["backoff", "stop"] = Cell(moves.leave_backoff, ("stopped",), "the restart is called off")
    table["backoff", "kill"] = Cell(moves.leave_backoff, ("down",), "the restart is called off; the next call wakes it")
    table["backoff", "close"] = Cell(moves.leave_backoff, ("down",), "the restart is called off")
    table["backoff", "remove"] = Cell(moves.leave_backoff, ("gone",), "the restart is called off, its data is deleted")
    table["backoff", "call"] = _nothing("backoff", "the call waits for the next process")
    table["backoff", "backoff_over"] = Cell(moves.backoff_over, ("starting",), "started again")


def _add_stopping(table: Table) -> None:
    same: tuple[Phase, ...] = ("stopping",)
    for verb in _WANTS_UP:
        table["stopping", verb] = Cell(moves.start_after, same, "started once it is over, unless closing")
    table["stopping", "stop"] = Cell(moves.stop_after, same, "stopped once it is over")
    table["stopping", "kill"] = Cell(
        moves.kill_after, same, "ended now, then down; what was stopped or put to sleep stays so"
    )
    table["stopping", "close"] = Cell(moves.close_after, same, "down once it is over; nothing starts any more")
    table["stopping", "remove"] = Cell(moves.remove_after, same, "ended now; its data is deleted")
    table["stopping", "call"] = Cell(
        moves.call_after, same, "wakes what was killed or put to sleep; else as the last verb says"
    )
    table["stopping", "forked"] = Cell(moves.forked_late, same, "there is something to kill now")
    table["stopping", "ready"] = _nothing("stopping", "too late to matter")
    ends: tuple[Phase, ...] = (*_AFTER_UNASKED, "down", "hibernated", "gone")
    table["stopping", "start_failed"] = Cell(moves.ended_asked, ends, "nothing was left to end; as asked")
    table["stopping", "ended"] = Cell(moves.ended_asked, ends, "as asked; policy decides for what was condemned")
    table["stopping", "condemned"] = Cell(moves.hasten, same, "not waited for any longer")
    table["stopping", "zygote_lost"] = Cell(moves.hasten, same, "not waited for any longer")
    table["stopping", "stop_timeout"] = Cell(moves.hasten, same, "the grace is over: ended now")
    table["stopping", "reap_timeout"] = Cell(moves.abandon, same, "its record does not come: keeper lost")


def _add_hibernate(table: Table) -> None:
    """Whether it is idle is not asked here: whoever says the verb has asked (session_lull.py)."""
    for phase in _AT_REST:
        table[phase, "hibernate"] = Cell(moves.over_already, (phase,), "there is no process to give back")
    for phase in _COMING_UP:
        table[phase, "hibernate"] = Cell(moves.refuse_sleep, (phase,), "refused: it is about to be up")
    for phase in _DEAF:
        table[phase, "hibernate"] = Cell(moves.refuse_sleep, (phase,), "refused: it is over")
    table["ready", "hibernate"] = Cell(moves.hibernate, ("stopping",), "asked to end; the next call wakes it")
    after = "asleep once it is over; what was stopped or closed stays so"
    table["stopping", "hibernate"] = Cell(moves.hibernate_after, ("stopping",), after)
    table["down", "hibernate"] = Cell(moves.sleep_on, ("hibernated",), "it has no process already")


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
    made = moves.Step(state, event, now, rng)
    cell.handler(made)
    after = made.state
    assert after.phase in cell.to, f"{state.phase} x {event.kind} led to {after.phase}"
    told = Transition(at=now, event=event.kind, before=state.phase, after=after.phase, detail=str(event.exit or ""))
    length = STORY_ASLEEP if after.phase == "hibernated" else STORY_LENGTH
    return replace(after, story=(*after.story, told)[-length:]), tuple(made.actions)


def recovered(policy: RestartPolicy, phase: str, *, incarnation: int, restarts: int, reason: str) -> Lifecycle:
    """Return the life of a session as a new host takes it up that finds `phase` on record: at rest, whatever it was.

    What had a process, or was to get one, is `down`, and wakes on the next call.
    """
    rests: dict[str, Phase] = {kept: kept for kept in _KEPT}
    return Lifecycle(
        policy=policy,
        phase=rests.get(phase, "down"),
        incarnation=incarnation,
        history=RestartHistory(restarts=restarts),
        reason=reason,
    )


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
