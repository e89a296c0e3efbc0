"""What a state of one's own may hold: counted as it comes, measured only where that might be too much."""

from __future__ import annotations

import pytest

from procession.agent_proc.state_budget import STATE_BYTES_MAX, StateBudget, check_change
from procession.ipc.core.bounds import CHANGE_BYTES_MAX, MESSAGE_BYTES_MAX, RESULT_NODES_MAX
from procession.ipc.core.errors import MessageTooLarge

MIB = 1 << 20


def test_a_state_that_shrank_meanwhile_has_its_room_back() -> None:
    budget = StateBudget(10)
    for _ in range(20):
        budget.check(10 * MIB, {"text": "x" * 10 * MIB})  # each replaces the one before


def test_a_state_over_its_bytes_is_refused_and_the_next_that_fits_is_not() -> None:
    budget = StateBudget(0)
    with pytest.raises(MessageTooLarge) as caught:
        budget.check(STATE_BYTES_MAX + 1, {"text": "x" * STATE_BYTES_MAX})
    assert (caught.value.code, caught.value.applied) == ("state_too_large", False)
    budget.check(10, {"text": "x"})


def test_a_state_with_more_values_than_can_be_read_back_is_refused() -> None:
    budget = StateBudget(0)
    half = [0] * (RESULT_NODES_MAX // 2)
    budget.check(len(half) + 10, {"a": half})
    with pytest.raises(MessageTooLarge) as caught:
        budget.check(len(half) + 10, {"a": half, "b": half})
    assert caught.value.code == "state_too_large"
    budget.check(1, {"a": half, "b": 1})


def test_a_change_fits_a_message_with_its_answer() -> None:
    check_change(CHANGE_BYTES_MAX)
    assert CHANGE_BYTES_MAX < MESSAGE_BYTES_MAX
    with pytest.raises(MessageTooLarge) as caught:
        check_change(CHANGE_BYTES_MAX + 1)
    assert caught.value.code == "change_too_large"
