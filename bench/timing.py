"""Time two or more sides of one question in turn, and say what the rounds gave.

Nothing here knows what is measured. A side is a function that does one round and returns its figure; sides are taken in
turn within each round, so that whatever disturbs the machine disturbs them alike, and a ratio is formed within a round.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Side = Callable[[], float]

#: Fewer rounds than this and a median means nothing.
ROUNDS_MIN = 5


@dataclass(frozen=True)
class Effort:
    """How much is done: `quick` for a glance, `soak` for the full counts."""

    rounds: int
    quick: bool = False
    soak: bool = False

    def count(self, usual: int, *, quick: int, soak: int | None = None) -> int:
        """Choose the repetitions of one round, or of a whole measurement."""
        if self.soak and soak is not None:
            return soak
        return quick if self.quick else usual


def effort_of(*, quick: bool, soak: bool) -> Effort:
    """Return the effort of a run; never fewer rounds than a median needs."""
    return Effort(rounds=ROUNDS_MIN if quick else 9, quick=quick, soak=soak)


@dataclass(frozen=True)
class Figure:
    """The rounds of one side, in one unit."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def low(self) -> float:
        return min(self.rounds)

    @property
    def high(self) -> float:
        return max(self.rounds)

    def percentile(self, percent: float) -> float:
        """Return the value that `percent` of the rounds do not exceed (nearest rank)."""
        ordered = sorted(self.rounds)
        return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered)) - 1))]

    def scaled(self, factor: float) -> Figure:
        return Figure(tuple(value * factor for value in self.rounds))

    def over(self, other: Figure) -> Figure:
        """Return the ratios, each formed within its round."""
        return Figure(tuple(ours / theirs for ours, theirs in zip(self.rounds, other.rounds, strict=True)))

    def less(self, other: Figure) -> Figure:
        """Return the differences, each formed within its round."""
        return Figure(tuple(ours - theirs for ours, theirs in zip(self.rounds, other.rounds, strict=True)))


def take_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, Figure]:
    """Run every side once in each round, each round beginning with another one, after one round that does not count."""
    names = list(sides)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            figure = sides[name]()
            if turn:
                taken[name].append(figure)
    return {name: Figure(tuple(values)) for name, values in taken.items()}


def per_call_s(call: Callable[[], object], count: int) -> float:
    """Return the median seconds of one call among `count`, each timed by itself."""
    clock = time.perf_counter
    took = []
    for _ in range(count):
        began = clock()
        call()
        took.append(clock() - began)
    return statistics.median(took)


def once_s(call: Callable[[], object]) -> float:
    """Return the seconds one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def pin_to_one_core() -> None:
    """Keep this process, and all it starts from now on, on one core: the first it may use."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def wait_until(done: Callable[[], bool], limit_s: float, pause_s: float = 0.001) -> bool:
    """Poll for something that no descriptor tells, at most `limit_s` seconds; say whether it came."""
    until = time.monotonic() + limit_s
    while not done():
        if time.monotonic() >= until:
            return False
        time.sleep(pause_s)
    return True


def median_of(values: Sequence[float]) -> float:
    return statistics.median(values)
