"""P5 and P6: from asking for a session to its first reply, beside a bare fork and multiprocessing's forkserver.

The host is warm (its zygote has imported everything); each start is of a new session, which is stopped outside the
timing. With a hot spare the host has one forked session waiting; the pause in which it makes the next is not timed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from bench.goals import Measured
from bench.ours import Starter
from bench.peers.forker import LIKE_THE_ZYGOTE, BareFork
from bench.peers.standard import ForkServer
from bench.timing import Effort, median_of, take_turns, wait_until

SPARE_TIMEOUT_S: Final = 10.0
#: A spare that was forked this long ago waits for its name and does nothing else.
SETTLE_S: Final = 0.03


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the lines of P5 and P6."""
    count = effort.count(8, quick=3)
    fork, forkserver = BareFork(), ForkServer(LIKE_THE_ZYGOTE)
    with Starter() as cold, Starter(spares=1) as hot:

        def spare_s() -> float:
            took = hot.start_s()
            await_spare()  # the next one is made now, not while another side is timed
            return took

        def await_spare() -> None:
            if not wait_until(hot.has_spare, SPARE_TIMEOUT_S):
                raise TimeoutError("the host made no hot spare")
            time.sleep(SETTLE_S)

        await_spare()

        took = take_turns(
            {
                "fork": lambda: median_of([fork.fork_s() for _ in range(count)]),
                "ours": lambda: median_of([cold.start_s() for _ in range(count)]),
                "spare": lambda: median_of([spare_s() for _ in range(count)]),
                "forkserver": lambda: median_of([forkserver.start_s() for _ in range(count)]),
            },
            effort.rounds,
        )
    fork.close()
    forkserver.close()
    ms = {name: figure.scaled(1e3) for name, figure in took.items()}
    what = "session start to first reply"
    yield Measured("P5/fork", what, "pin0", "ms", ms["ours"], "bare fork", ms["fork"])
    yield Measured("P5/forkserver", what, "pin0", "ms", ms["ours"], "forkserver, preloaded", ms["forkserver"])
    yield Measured("P6/spare", "the same, hot spare", "pin0", "ms", ms["spare"], "bare fork", ms["fork"])
