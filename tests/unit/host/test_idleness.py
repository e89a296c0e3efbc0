"""When a session has had nothing to do for so long that it is put to sleep or ended: never early, and a little late at most."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.idleness import (
    LOOKS,
    PERIOD_S_MAX,
    PERIOD_S_MIN,
    Candidate,
    Idleness,
    Look,
    Said,
    longest_idle,
)

NOTHING = Said(busy=False)


def quiet(calls: int = 0) -> Look:
    return Look(calls, busy=False)


def ending(after_s: float = 8.0) -> Idleness:
    return Idleness(after_s, None, 0.0)


def sleeping(after_s: float = 8.0) -> Idleness:
    return Idleness(None, after_s, 0.0)


@pytest.mark.parametrize(("idleness", "verdict"), [(ending(), "end"), (sleeping(), "sleep")])
def test_a_session_that_does_nothing_is_asked_at_its_time_and_taken_at_its_word(
    idleness: Idleness, verdict: str
) -> None:
    assert idleness.period_s == 1.0
    assert [idleness.look(quiet(), float(second)) for second in range(1, 10)] == ["wait"] * 8 + ["ask"]
    assert idleness.answered(NOTHING, quiet(), 9.0) == verdict


@pytest.mark.parametrize("make", [ending, sleeping])
@pytest.mark.parametrize("seen", [Look(0, busy=True), Look(1, busy=False)])
def test_work_or_a_call_begins_its_time_anew(make, seen: Look) -> None:
    idleness = make()
    idleness.look(quiet(), 1.0)
    assert idleness.look(seen, 7.0) == "wait"
    assert idleness.look(quiet(seen.calls), 14.9) == "wait"
    assert idleness.look(quiet(seen.calls), 15.0) == "ask"


def test_an_owner_or_children_keep_it_from_being_ended_and_not_from_sleeping() -> None:
    wanted = Look(0, busy=False, wanted=True)
    both = Idleness(8.0, 8.0, 0.0)
    both.look(wanted, 1.0)
    assert both.look(wanted, 9.0) == "ask"
    assert both.answered(NOTHING, wanted, 9.0) == "sleep"
    only_ends = ending()
    assert [only_ends.look(wanted, float(second)) for second in range(1, 30)] == ["wait"] * 29
    assert only_ends.look(quiet(), 37.0) == "ask"
    assert only_ends.answered(NOTHING, wanted, 37.1) == "wait"  # somebody came while it was asked


@pytest.mark.parametrize("make", [ending, sleeping])
@pytest.mark.parametrize(
    ("said", "seen"), [(NOTHING, quiet(1)), (NOTHING, Look(0, busy=True)), (Said(busy=True), quiet())]
)
def test_one_that_was_called_while_it_was_asked_or_has_work_is_left_alone(make, said: Said, seen: Look) -> None:
    idleness = make()
    idleness.look(quiet(), 1.0)
    assert idleness.look(quiet(), 9.0) == "ask"
    assert idleness.answered(said, seen, 9.1) == "wait"
    assert idleness.look(quiet(seen.calls), 17.0) == "wait"
    assert idleness.look(quiet(seen.calls), 17.1) == "ask"


def test_what_would_be_lost_with_its_process_keeps_it_from_sleeping_and_not_from_being_ended() -> None:
    holds = Said(busy=False, holds=True)
    idleness = Idleness(20.0, 8.0, 0.0)
    idleness.look(quiet(), 1.0)
    assert idleness.look(quiet(), 9.0) == "ask"
    assert idleness.answered(holds, quiet(), 9.0) == "wait"
    assert idleness.look(quiet(), 16.9) == "wait"
    assert idleness.look(quiet(), 17.0) == "ask"
    assert idleness.answered(holds, quiet(), 17.0) == "wait"
    assert idleness.look(quiet(), 21.0) == "ask"
    assert idleness.answered(holds, quiet(), 21.0) == "end"


def test_one_that_sleeps_is_ended_in_its_time_and_need_not_be_asked() -> None:
    asleep = Look(0, busy=False, asleep=True)
    idleness = Idleness(20.0, 8.0, 0.0)
    idleness.look(quiet(), 1.0)
    assert [idleness.look(asleep, at) for at in (10.0, 20.9, 21.0)] == ["wait", "wait", "end"]
    assert [sleeping().look(asleep, at) for at in (1.0, 1e9)] == ["wait", "wait"]


def test_a_touch_begins_its_time_anew_while_it_is_asked_too() -> None:
    idleness = ending()
    idleness.look(quiet(), 1.0)
    idleness.touch(5.0)
    assert idleness.look(quiet(), 12.9) == "wait"
    assert idleness.look(quiet(), 13.0) == "ask"
    idleness.touch(13.1)
    assert idleness.answered(NOTHING, quiet(), 13.2) == "wait"


def test_the_one_that_was_used_longest_ago_goes_first_and_one_with_work_never() -> None:
    busy, old, new = Candidate("a", False, 1.0), Candidate("b", True, 2.0), Candidate("c", True, 3.0)
    assert longest_idle([new, busy, old]) == "b"
    assert longest_idle([new, Candidate("d", True, 3.0)]) == "c"
    assert longest_idle([busy]) is None
    assert longest_idle([]) is None


@given(st.floats(0.01, 10_000.0), st.lists(st.booleans(), max_size=40), st.booleans())
@settings(max_examples=examples(100))
def test_nobody_is_asked_early_or_much_too_late(after_s: float, calling: list[bool], sleeps: bool) -> None:
    idleness, now, calls, last = (sleeping if sleeps else ending)(after_s), 0.0, 0, 0.0
    period_s = idleness.period_s
    assert PERIOD_S_MIN <= period_s <= PERIOD_S_MAX
    for called in [*calling, *[False] * (3 * LOOKS + int(after_s / PERIOD_S_MAX))]:
        now += period_s
        if called:
            calls, last = calls + 1, now
        if idleness.look(quiet(calls), now) == "ask":
            assert after_s <= now - last <= after_s + 2 * period_s
            return
    raise AssertionError("it was never asked")
