"""R-22: so many at once, so many a second, the rest counted."""

import pytest

from procession.host.core.allowance import Allowance


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
