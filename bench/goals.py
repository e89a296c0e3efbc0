"""The goals as data, and the one judgement: is a figure within its goal, within the bar to reach now, or a miss.

Pure. A goal speaks of a ratio to another side of the same run, or of a figure of our own (memory, survivors, overrun).
A key is `GOAL/detail`; a measurement without a row here is reported and not judged.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

from bench.timing import Figure

Unit = Literal["us", "ms", "MB", "calls/s", "GB/s", "count", "%"]
Verdict = Literal["goal", "now", "miss", "-", "broken"]


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio (`of="ratio"`) or on our own figure; `now` is the bar until the goal itself is reached."""

    key: str
    at_most: bool
    bound: float
    now: float | None = None
    of: Literal["ratio", "ours"] = "ratio"

    def text(self, bound: float | None) -> str:
        """Write a bound as the table shows it."""
        if bound is None:
            return ""
        return f"{'<=' if self.at_most else '>='} {bound:g}{'x' if self.of == 'ratio' else ''}"

    def holds(self, figure: float, bound: float) -> bool:
        return figure <= bound if self.at_most else figure >= bound


@dataclass(frozen=True)
class Measured:
    """One line of the report. `beside` names the other side; without one there is no ratio."""

    key: str
    what: str
    mode: str
    unit: Unit
    ours: Figure
    beside: str = ""
    theirs: Figure | None = None
    note: str = ""

    @property
    def ratio(self) -> Figure | None:
        return self.ours.over(self.theirs) if self.theirs is not None else None


#: performance.md's bounds; `now` is what the foundation has to reach.
GOALS: Final = {
    goal.key: goal
    for goal in (
        Goal("P1/owner", True, 2.5, 3.75),
        Goal("P1/any", True, 5.0, 7.5),
        Goal("P2/asyncio", True, 5.0, 7.5),
        Goal("P2/uvloop", True, 3.5, 5.25),
        Goal("P3/pipe", False, 2.0, 1.0),
        Goal("P3/pool", False, 15.0),
        Goal("P4/deadline", False, 0.9),
        Goal("P5/fork", True, 2.5, 3.0),
        Goal("P5/forkserver", True, 0.5),
        Goal("P6/spare", True, 0.5),
        Goal("P7/idle", True, 3.0, 5.0, of="ours"),
        Goal("P8/error", True, 3.0),
        Goal("P8/next", True, 3.0),
        Goal("P9/overrun-p99", True, 50.0, 50.0, of="ours"),
        Goal("P9/survivors", True, 0.0, 0.0, of="ours"),
        Goal("P10/memory", False, 0.7),
        Goal("P10/batch", False, 0.3),
        Goal("P10/sync", False, 20.0),
        Goal("R33/eager", True, 3_000.0, of="ours"),
        Goal("R64/100", True, 500.0, of="ours"),
        Goal("R64/2000", True, 500.0, of="ours"),
        Goal("R64/20000", True, 500.0, of="ours"),
        Goal("P12/argument", False, 3.0),
        Goal("P12/result", False, 3.0),
        Goal("P13/run", True, 3.0),
        Goal("A1/append", True, 2.0),
        Goal("A2/page", True, 1.2),
        Goal("A3/state", True, 1.5),
        Goal("A3/status", True, 1.5),
        Goal("A3/append", True, 1.5),
    )
}


def judge(measured: Measured) -> Verdict:
    """Say which bar a measurement reached: its goal, the one to reach now, or neither."""
    goal = GOALS.get(measured.key)
    if goal is None:
        return "-"
    figure = measured.ours if goal.of == "ours" else measured.ratio
    if figure is None:
        return "broken"
    if goal.holds(figure.median, goal.bound):
        return "goal"
    if goal.now is not None and goal.holds(figure.median, goal.now):
        return "now"
    return "miss"


def dump(measured: Measured) -> str:
    """Write a measurement as one line of JSON."""
    return json.dumps(asdict(measured))


def load(line: str) -> Measured:
    """Read it back."""
    data = json.loads(line)
    for side in ("ours", "theirs"):
        if data[side] is not None:
            data[side] = Figure(tuple(data[side]["rounds"]))
    return Measured(**data)
