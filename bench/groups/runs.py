"""P13: a run of a function that does nothing, over an echo, beside a bare fork. Two forks: a keeper and a worker."""

from __future__ import annotations

from collections.abc import Iterator

from bench.goals import Measured
from bench.ours import SMALL, open_session
from bench.peers.forker import BareFork
from bench.timing import Effort, median_of, per_call_s, take_turns


def nothing() -> None:
    """Do nothing."""


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield the line of P13."""
    count = effort.count(20, quick=8)
    fork = BareFork()
    with open_session() as (_, session):
        session.run(nothing)
        took = take_turns(
            {
                "fork": lambda: median_of([fork.fork_s() for _ in range(count)]),
                "echo": lambda: per_call_s(lambda: session.echo(SMALL), count * 10),
                "run": lambda: per_call_s(lambda: session.run(nothing), count),
            },
            effort.rounds,
        )
    fork.close()
    over_echo = took["run"].less(took["echo"])
    yield Measured(
        "P13/run",
        "run of an empty function, less an echo",
        "pin0",
        "ms",
        over_echo.scaled(1e3),
        "bare fork",
        took["fork"].scaled(1e3),
    )
