"""The token bucket: a burst, then the rate, whatever the clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from procession.agent_proc.core.rate import TokenBucket


def test_a_full_burst_then_the_rate() -> None:
    bucket = TokenBucket(100.0, 1000, now=5.0)
    assert bucket.available(5.0) == 1000
    bucket.take(1000)
    assert bucket.available(5.0) == 0
    assert bucket.available(5.5) == 50
    assert bucket.available(7.0) == 200
    assert bucket.available(1000.0) == 1000


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(100.0, 10, now=5.0)
    bucket.take(bucket.available(5.0))
    assert bucket.available(4.0) == 0
    assert bucket.available(5.0) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 500)), max_size=50))
def test_never_more_than_burst_and_rate_allow(steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(50.0, 200, now=0.0), 0.0, 0
    for pause_s, wanted in steps:
        now += pause_s
        count = min(wanted, bucket.available(now))
        bucket.take(count)
        taken += count
        assert taken <= 200 + 50.0 * now + 1e-6


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_bucket_that_could_never_give_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="a bucket"):
        TokenBucket(rate, burst, 0.0)
