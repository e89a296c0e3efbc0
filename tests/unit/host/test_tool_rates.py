"""Rates of tool calls: any 60 seconds, each session and tool for itself, exact, bounded, off unless set."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.host.core.tool_rates import (
    CALLS_MAX,
    LEGACY_RATES,
    RETRY_AFTER_S_MIN,
    TOOLS_MAX,
    WINDOW_S,
    ToolRates,
    check_rates,
)
from procession.ipc.core.errors import InvalidRequest


@pytest.mark.contract("2.5 rate limits")
def test_off_unless_set():
    rates = ToolRates()
    assert {rates.take("s", "exec", "execute", 0.0) for _ in range(10_000)} == {None}
    assert len(rates) == 0


def test_a_tier_that_is_not_set_has_no_limit():
    rates = ToolRates({"execute": 1})
    assert [rates.take("s", "read", "read_only", 0.0) for _ in range(3)] == [None] * 3
    assert rates.take("s", "exec", "execute", 0.0) is None
    assert rates.take("s", "exec", "execute", 0.0) == WINDOW_S


@pytest.mark.contract("2.5 rate limits")
@pytest.mark.parametrize(("tier", "calls"), [("read_only", 100), ("write", 30), ("execute", 10), ("privileged", 5)])
def test_the_legacy_numbers(tier, calls):
    assert LEGACY_RATES[tier] == calls
    rates = ToolRates(LEGACY_RATES)
    answers = [rates.take("s", "tool", tier, 0.0) for _ in range(calls + 1)]
    assert answers == [None] * calls + [60.0]


@pytest.mark.contract("2.5 rate limits")
def test_the_window_slides_and_the_answer_is_exact():
    rates = ToolRates({"write": 2})
    assert [rates.take("s", "w", "write", at) for at in (0.0, 20.0)] == [None, None]
    assert rates.take("s", "w", "write", 50.0) == 10.0
    assert rates.take("s", "w", "write", 60.0) is None  # the one at 0 counts no more
    assert rates.take("s", "w", "write", 60.0) == 20.0
    assert rates.take("s", "w", "write", 80.0) is None


def test_a_refused_call_is_not_counted():
    rates = ToolRates({"write": 1})
    rates.take("s", "w", "write", 0.0)
    assert [rates.take("s", "w", "write", at) for at in (10.0, 30.0, 59.0)] == [50.0, 30.0, 1.0]
    assert rates.take("s", "w", "write", 60.0) is None


@pytest.mark.contract("2.5 rate limits")
def test_the_wait_is_never_nothing():
    rates = ToolRates({"write": 1})
    rates.take("s", "w", "write", 0.0)
    assert rates.take("s", "w", "write", 59.9999999) == RETRY_AFTER_S_MIN


@pytest.mark.contract("2.5 rate limits")
def test_sessions_and_tools_are_counted_apart():
    rates = ToolRates({"write": 1})
    assert [rates.take(s, t, "write", 0.0) for s in "ab" for t in "xy"] == [None] * 4
    assert [rates.take(s, t, "write", 0.0) for s in "ab" for t in "xy"] == [60.0] * 4


def test_a_session_that_is_gone_is_forgotten():
    rates = ToolRates({"write": 1})
    rates.take("a", "w", "write", 0.0)
    rates.take("b", "w", "write", 0.0)
    rates.forget("a")
    rates.forget("never seen")
    assert len(rates) == 1
    assert rates.take("a", "w", "write", 0.0) is None
    assert rates.take("b", "w", "write", 0.0) == 60.0


def test_a_session_has_room_for_so_many_tools_and_no_other_suffers():
    rates = ToolRates({"write": 3})
    for n in range(TOOLS_MAX):
        assert rates.take("a", f"t{n}", "write", float(n) / 100) is None
    assert rates.take("a", "one_more", "write", 10.0) == 50.0  # until the first is over
    assert rates.take("a", "t5", "write", 10.0) is None  # what is counted already still is
    assert rates.take("b", "w", "write", 10.0) is None
    assert rates.take("a", "one_more", "write", 60.0) is None


def test_what_counts_no_more_is_dropped():
    rates = ToolRates({"write": 3})
    for n in range(50):
        for tool in range(20):
            rates.take(f"s{n}", f"t{tool}", "write", 0.0)
    assert len(rates) == 1_000
    rates.take("s7", "t3", "write", 30.0)
    rates.take("new", "t", "write", WINDOW_S)
    assert len(rates) == 1 + 20  # s7 lives on; its other windows go when it is looked at
    rates.take("s7", "t4", "write", WINDOW_S)
    assert len(rates) == 1 + 2


@pytest.mark.parametrize("calls", [0, -1, CALLS_MAX + 1, 1.0, True, "3", None])
def test_a_rate_that_is_none_is_refused(calls):
    with pytest.raises(InvalidRequest, match=f"1 to {CALLS_MAX} calls") as caught:
        ToolRates({"write": calls})
    assert caught.value.code == "invalid_rate_limit"


def test_a_rate_of_no_tier_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        check_rates({"root": 3})
    assert caught.value.code == "invalid_tier"
    assert check_rates({"write": CALLS_MAX}) == {"write": CALLS_MAX}


steps = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 25)), max_size=60)


@given(steps, st.integers(1, 4))
@settings(max_examples=examples(150), deadline=None)
def test_it_answers_as_a_full_list_of_all_calls_would(taken, limit):
    rates = ToolRates({"execute": limit})
    counted: list[tuple[str, str, float]] = []
    now = 0.0
    for session, tool, passed_s in taken:
        now += passed_s
        within = [at for s, t, at in counted if (s, t) == (session, tool) and at > now - WINDOW_S]
        answer = rates.take(session, tool, "execute", now)
        if len(within) < limit:
            assert answer is None
            counted.append((session, tool, now))
        else:
            assert answer == within[-limit] + WINDOW_S - now
