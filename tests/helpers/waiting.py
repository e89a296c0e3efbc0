"""The one place of the tests that polls: wait for a condition that sends no event.

A process of someone else's that ends, a file that another program writes, an entry that leaves /proc: none of them can
be waited for by a handle that a test holds. Each wait has a deadline and says what it waited for. Whatever has an event
(a pidfd, a pipe, a Future) is waited for by that, never here.
"""

import time
from collections.abc import Callable

POLL_PERIOD_S = 0.005  # short beside every figure asserted, long beside one look at /proc


def poll_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Look until the condition holds or the time is over; say which."""
    deadline = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_PERIOD_S)


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 10.0) -> None:
    """Look until the condition holds; raise AssertionError naming `what` did not happen in time."""
    if not poll_until(condition, timeout_s=timeout_s):
        raise AssertionError(f"not within {timeout_s:g} s: {what}")
