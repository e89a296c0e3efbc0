"""When a session has had nothing to do for so long that it is ended: never early, and a little late at most."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from procession.host.core.idleness import LOOKS, PERIOD_S_MAX, PERIOD_S_MIN, Idleness, Look


def quiet(calls: int = 0) -> Look:
    return Look(calls, busy=False)


def test_a_session_that_does_nothing_is_asked_at_its_time_and_ended_when_it_says_the_same() -> None:
    idleness = Idleness(8.0, now=100.0)
    assert idleness.period_s == 1.0
    assert [idleness.look(quiet(), 100.0 + second) for second in range(1, 10)] == ["wait"] * 8 + ["ask"]
    assert idleness.answered(quiet(1), 109.0) == "end"


def test_work_an_owner_or_a_call_begins_its_time_anew() -> None:
    for busy, calls in ((True, 0), (False, 1)):
        idleness = Idleness(8.0, now=0.0)
        idleness.look(quiet(), 1.0)
        assert idleness.look(Look(calls, busy), 7.0) == "wait"
        assert idleness.look(quiet(calls), 14.9) == "wait"
        assert idleness.look(quiet(calls), 15.0) == "ask"


def test_one_that_was_called_while_it_was_asked_or_has_commands_is_not_ended() -> None:
    for answer in (quiet(2), Look(1, busy=True)):
        idleness = Idleness(8.0, now=0.0)
        idleness.look(quiet(), 1.0)
        assert idleness.look(quiet(), 9.0) == "ask"
        assert idleness.answered(answer, 9.1) == "wait"
        assert idleness.look(quiet(answer.calls), 17.0) == "wait"
        assert idleness.look(quiet(answer.calls), 17.1) == "ask"


def test_a_touch_begins_its_time_anew_while_it_is_asked_too() -> None:
    idleness = Idleness(8.0, now=0.0)
    idleness.look(quiet(), 1.0)
    idleness.touch(5.0)
    assert idleness.look(quiet(), 12.9) == "wait"
    assert idleness.look(quiet(), 13.0) == "ask"
    idleness.touch(13.1)
    assert idleness.answered(quiet(1), 13.2) == "wait"


@given(st.floats(0.01, 10_000.0), st.lists(st.booleans(), max_size=40))
@settings(max_examples=100)
def test_nobody_is_asked_early_or_much_too_late(timeout_s: float, calling: list[bool]) -> None:
    idleness, now, calls, last = Idleness(timeout_s, 0.0), 0.0, 0, 0.0
    period_s = idleness.period_s
    assert PERIOD_S_MIN <= period_s <= PERIOD_S_MAX
    for called in [*calling, *[False] * (3 * LOOKS + int(timeout_s / PERIOD_S_MAX))]:
        now += period_s
        if called:
            calls, last = calls + 1, now
        if idleness.look(quiet(calls), now) == "ask":
            assert timeout_s <= now - last <= timeout_s + 2 * period_s
            return
    raise AssertionError("it was never asked")
