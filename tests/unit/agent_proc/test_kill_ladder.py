"""The kill ladder's table: every phase, every event, the cause that is kept, and what presses."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.core.kill_ladder import ABORT_GRACE_S, Action, Event, Ladder, NoSuchStep, Phase
from procession.ipc.core.bounds import PROOF_TIMEOUT_S

GRACE_S = 0.25
NOW = 100.0
ENDS = {
    Event.KILL: "asked",
    Event.OWNER_CLOSED: "asked",
    Event.PARENT_GONE: "parent_gone",
    Event.HOST_GONE: "host_gone",
    Event.OVER_MEMORY: "memory",
    Event.OVER_CPU: "cpu",
    Event.OVER_PROCESSES: "processes",
    Event.MAIN_EXITED: "exit",
}
ORDER = [Phase.RUNNING, Phase.TERMINATING, Phase.ABORTING, Phase.KILLING, Phase.OVER]


def ladder_after(*events: Event) -> Ladder:
    ladder = Ladder(GRACE_S)
    for event in events:
        ladder, _ = ladder.step(event, NOW)
    return ladder


REACHING = {
    Phase.RUNNING: (),
    Phase.TERMINATING: (Event.TERMINATE,),
    Phase.ABORTING: (Event.ABORT,),
    Phase.KILLING: (Event.KILL,),
    Phase.OVER: (Event.KILL, Event.EMPTY),
}
IMPOSSIBLE = {
    (Phase.RUNNING, Event.EMPTY),
    (Phase.RUNNING, Event.DEADLINE),
    (Phase.TERMINATING, Event.EMPTY),
    (Phase.ABORTING, Event.EMPTY),
    (Phase.OVER, Event.EMPTY),
    (Phase.OVER, Event.DEADLINE),
}


@pytest.mark.parametrize(("phase", "event"), list(product(Phase, Event)), ids=lambda value: value.value)
def test_every_event_has_a_cell_or_is_impossible(phase: Phase, event: Event) -> None:
    ladder = ladder_after(*REACHING[phase])
    assert ladder.phase is phase
    if (phase, event) in IMPOSSIBLE:
        with pytest.raises(NoSuchStep, match=f"{event.value} while {phase.value}"):
            ladder.step(event, NOW)
    else:
        after, _ = ladder.step(event, NOW)
        assert ORDER.index(after.phase) >= ORDER.index(phase)


@pytest.mark.parametrize("before", [(), (Event.TERMINATE,), (Event.ABORT,)], ids=["running", "terminating", "aborting"])
@pytest.mark.parametrize("event", ENDS, ids=lambda event: event.value)
def test_what_ends_a_domain_kills_it_at_once(event: Event, before: tuple[Event, ...]) -> None:
    ladder, action = ladder_after(*before).step(event, NOW + 0.1)
    assert action is Action.KILL_TREE
    assert ladder.deadline == pytest.approx(NOW + 0.1 + PROOF_TIMEOUT_S)
    assert ladder.cause == ("asked" if before else ENDS[event])


def test_asked_to_terminate_gives_the_grace_and_then_kills() -> None:
    ladder, action = Ladder(GRACE_S).step(Event.TERMINATE, NOW)
    assert action is Action.TERMINATE_TREE
    assert ladder.wait_s(NOW) == pytest.approx(GRACE_S)
    ladder, action = ladder.step(Event.DEADLINE, NOW + GRACE_S)
    assert (ladder.phase, action) == (Phase.KILLING, Action.KILL_TREE)
    assert ladder.wait_s(NOW + GRACE_S) == pytest.approx(PROOF_TIMEOUT_S)
    assert ladder.began == NOW


def test_asked_to_abort_gives_a_second_and_then_kills() -> None:
    ladder, action = Ladder(GRACE_S).step(Event.ABORT, NOW)
    assert action is Action.ABORT_MAIN
    assert ladder.wait_s(NOW) == pytest.approx(ABORT_GRACE_S)
    assert ladder.step(Event.DEADLINE, NOW + ABORT_GRACE_S)[1] is Action.KILL_TREE


def test_a_second_terminate_does_not_lengthen_the_grace() -> None:
    ladder = ladder_after(Event.TERMINATE)
    again, action = ladder.step(Event.TERMINATE, NOW + 0.2)
    assert (again, action) == (ladder, Action.NOTHING)


def test_interrupting_ends_nothing() -> None:
    ladder, action = Ladder(GRACE_S).step(Event.INTERRUPT, NOW)
    assert (ladder, action) == (Ladder(GRACE_S), Action.INTERRUPT_MAIN)
    assert ladder.wait_s(NOW) is None


@pytest.mark.parametrize("event", [Event.EMPTY, Event.DEADLINE])
def test_the_record_is_written_when_empty_or_not_proved_in_time(event: Event) -> None:
    ladder, action = ladder_after(Event.KILL).step(event, NOW + 0.5)
    assert (ladder.phase, action) == (Phase.OVER, Action.RECORD)
    assert ladder.wait_s(NOW + 9) is None


def test_a_deadline_that_has_passed_waits_no_longer() -> None:
    assert ladder_after(Event.TERMINATE).wait_s(NOW + 5) == 0


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_an_end_only_gets_harder_and_keeps_its_first_cause(events: list[Event]) -> None:
    ladder = Ladder(GRACE_S)
    records = 0
    for event in events:
        before = ladder
        try:
            ladder, action = ladder.step(event, NOW)
        except NoSuchStep:
            assert (before.phase, event) in IMPOSSIBLE
            continue
        records += action is Action.RECORD
        assert ORDER.index(ladder.phase) >= ORDER.index(before.phase)
        assert before.cause in ("", ladder.cause)
        assert bool(ladder.cause) == (ladder.phase is not Phase.RUNNING)
    assert records == (ladder.phase is Phase.OVER)
