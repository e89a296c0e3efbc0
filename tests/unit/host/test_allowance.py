"""R-22: so many at once, so many a second, the rest counted, or waited for."""

import pytest

from procession.host.core.allowance import Allowance, Pace


@pytest.mark.guarantee("R-22")
def test_a_burst_then_the_rate_and_the_rest_is_counted() -> None:
    allowance = Allowance(rate_s=10, burst=5, now=0.0)
    assert [allowance.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert allowance.take_refused() == 2
    assert allowance.take_refused() == 0
    assert [allowance.take(0.1), allowance.take(0.1)] == [True, False]
    assert sum(allowance.take(100.0) for _ in range(20)) == 5  # a long rest is not owed


def test_a_clock_that_stands_still_gives_nothing() -> None:
    allowance = Allowance(rate_s=1_000, burst=1, now=7.0)
    assert [allowance.take(7.0) for _ in range(3)] == [True, False, False]


def test_a_pace_refuses_nothing_and_says_how_long_to_wait() -> None:
    pace = Pace(rate_s=10, burst=5, now=0.0)
    assert [pace.take(0.0) for _ in range(5)] == [0.0] * 5
    assert [pace.take(0.0), pace.take(0.0)] == pytest.approx([0.1, 0.2])
    assert pace.take(0.2) == pytest.approx(0.1)
    assert [pace.take(100.0) for _ in range(5)] == [0.0] * 5
    assert pace.take(100.0) == pytest.approx(0.1)
    assert pace.take(200.0, 7) == pytest.approx(0.2)
