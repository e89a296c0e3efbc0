"""How many examples a property test takes: fewer in `make check`, which is to be quick, and many more in a soak."""

import os

CHECK_VARIABLE = "PROCESSION_CHECK"
SOAK_VARIABLE = "PROCESSION_SOAK"
LEAST = 20


def examples(count: int) -> int:
    """Return how many of `count` examples are taken now."""
    if os.environ.get(SOAK_VARIABLE):
        return 20 * count
    if os.environ.get(CHECK_VARIABLE):
        return max(LEAST, count // 4)
    return count
