"""Gaps of a process: what is due after one has as much time left as it had before it, and a little more; in host and session."""

import pytest

from procession.agent_proc import loop as session_loop
from procession.agent_proc.loop import Loop
from procession.host.core.call_ledger import CallLedger, Entry
from procession.host.core.idleness import Idleness, Look
from procession.host.idle_watch import IdleWatch
from procession.ipc.core import gap
from procession.ipc.core.bounds import STOPPED_END_S
from procession.ipc.transport.timers import TimerHeap


def test_late_by_a_little_is_no_gap() -> None:
    assert gap.lost_s(0.0, 5.0) == gap.lost_s(5.0, 5.0) == 0.0
    assert gap.lost_s(60.0, 5.0) == 60.0 + gap.GRACE_S


def test_a_session_sees_no_gap_that_its_host_would_have_ended_it_for() -> None:
    assert gap.SESSION_GAP_S >= STOPPED_END_S + 2.0
    assert (
        gap.LOOK_S + gap.GRACE_S <= 2.0
    )  # by so much may what host and session give back differ: less than the host's grace


# --- the host's timers --------------------------------------------------------------------------------------------------
def heap_of(*times: float) -> TimerHeap:
    heap = TimerHeap()
    for when in times:
        heap.add(when, lambda: None)
    return heap


def test_timers_keep_what_was_left_of_their_time_and_their_order() -> None:
    heap = heap_of(11.0, 12.0, 13.0)
    assert heap.put_back(10.0) == 0.0
    assert heap.put_back(71.0) == 60.0 + gap.GRACE_S
    assert heap.take_due(71.0) == []
    assert [timer.when for timer in heap.take_due(1000.0)] == [when + 60.0 + gap.GRACE_S for when in (11.0, 12.0, 13.0)]


@pytest.mark.parametrize("late_s", [0.0, 1.0, 5.0])
def test_a_loop_that_is_only_late_puts_nothing_back(late_s: float) -> None:
    heap = heap_of(11.0)
    assert heap.put_back(10.0) == 0.0
    assert heap.put_back(11.0 + late_s) == 0.0
    assert len(heap.take_due(11.0 + late_s)) == 1


def test_a_timer_for_a_time_long_past_is_no_gap() -> None:
    heap = heap_of(1000.0)
    assert heap.put_back(500.0) == 0.0
    heap.add(1.0, lambda: None)
    assert heap.put_back(500.1) == 0.0
    assert len(heap.take_due(500.1)) == 1


def test_a_gap_is_seen_with_nothing_but_cancelled_timers_before_it() -> None:
    heap = heap_of(12.0)
    heap.add(11.0, lambda: None).cancel()
    assert heap.put_back(10.0) == 0.0
    assert heap.put_back(30.0) == 18.0 + gap.GRACE_S
    heap = heap_of()
    heap.add(11.0, lambda: None).cancel()
    assert heap.put_back(30.0) == 0.0


# --- calls --------------------------------------------------------------------------------------------------------------
def test_open_calls_are_due_later_and_closed_ones_stay_over() -> None:
    ledger: CallLedger[Entry] = CallLedger()
    calls = [Entry("run", "run", 0.0, timeout_s) for timeout_s in (1.0, 5.0, None)]
    for call in calls:
        ledger.open(call)
    ledger.close(calls[0].seq, "done", 0.5)
    ledger.put_back(60.0)
    assert ledger.next_due() == 65.0
    assert ledger.expired(64.9) == []
    assert ledger.expired(65.0) == [calls[1]]
    assert ledger.next_due() is None


# --- a session's loop ---------------------------------------------------------------------------------------------------
class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        patch.setattr(session_loop, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def turning(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Return a loop that waits for nothing but its clock."""

    class NoDescriptors:
        def poll(self, _: float) -> list[tuple[int, int]]:
            return []

    made = Loop()
    made._epoll = NoDescriptors()  # type: ignore[assignment]
    return made


def test_after_a_gap_deadlines_have_what_they_had_and_other_timers_are_due(clock: Clock, turning: Loop) -> None:
    due: list[str] = []
    turning.deadline(130.0, lambda: due.append("deadline"))
    turning.at(110.0, lambda: due.append("timer"))
    for _ in range(5):
        clock.now += gap.LOOK_S
        turning.turn()
    clock.now += 60.0
    turning.turn()
    assert due == ["timer"]
    while clock.now < 130.0 + 60.0:
        assert due == ["timer"]
        clock.now += gap.LOOK_S
        turning.turn()
    for _ in range(2):
        clock.now += gap.LOOK_S
        turning.turn()
    assert due == ["timer", "deadline"]


def test_a_session_that_was_stopped_for_a_moment_keeps_its_deadlines(clock: Clock, turning: Loop) -> None:
    due: list[str] = []
    turning.deadline(105.0, lambda: due.append("deadline"))
    clock.now = 100.0 + gap.SESSION_GAP_S
    turning.turn()
    assert due == ["deadline"]


def test_a_loop_without_deadlines_sees_no_gap_in_its_sleep(clock: Clock, turning: Loop) -> None:
    due: list[str] = []
    turning.at(1000.0, lambda: due.append("timer"))
    clock.now = 999.0
    turning.deadline(1001.0, lambda: due.append("deadline")).cancel()
    turning.deadline(1002.0, lambda: due.append("deadline"))
    clock.now = 1002.0
    turning.turn()
    assert due == ["timer", "deadline"]


# --- idleness -----------------------------------------------------------------------------------------------------------
class _Reactor:
    def now(self) -> float:
        return 100.0


class _Engine:
    reactor = _Reactor()


def test_nobody_was_idle_while_the_host_was_gone() -> None:
    watch, idle = IdleWatch(_Engine()), Idleness(10.0, None, 0.0)  # type: ignore[arg-type]
    assert idle.look(Look(calls=0, busy=False), 1.0) == "wait"
    watch._watched["s"] = idle
    watch.start_afresh()
    assert idle.look(Look(calls=0, busy=False), 109.0) == "wait"
    assert idle.look(Look(calls=0, busy=False), 110.0) == "ask"
