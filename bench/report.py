"""Write the one table, and the same as JSON. Pure text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.goals import GOALS, Measured, Unit, judge
from bench.timing import Figure

_HEAD: Final = (
    "goal",
    "measured",
    "mode",
    "ours",
    "(min..max)",
    "beside",
    "it took",
    "ratio",
    "(min..max)",
    "now",
    "goal",
    "",
)
_DIGITS: Final[dict[Unit, int]] = {"us": 1, "ms": 2, "MB": 2, "calls/s": 0, "GB/s": 2, "count": 0, "%": 1}


def _number(value: float, unit: Unit) -> str:
    return f"{value:,.{_DIGITS[unit]}f}"


def _span(figure: Figure, digits: int) -> str:
    return f"({figure.low:,.{digits}f}..{figure.high:,.{digits}f})" if figure.low != figure.high else ""


def row_of(measured: Measured) -> tuple[str, ...]:
    """Return the cells of one line."""
    goal = GOALS.get(measured.key)
    unit, ratio, theirs = measured.unit, measured.ratio, measured.theirs
    return (
        measured.key.partition("/")[0],
        measured.what,
        measured.mode,
        f"{_number(measured.ours.median, unit)} {unit}",
        _span(measured.ours, _DIGITS[unit]),
        measured.beside,
        f"{_number(theirs.median, unit)} {unit}" if theirs is not None else "",
        f"{ratio.median:.2f}x" if ratio is not None else "",
        _span(ratio, 2) if ratio is not None else "",
        goal.text(goal.now) if goal is not None else "",
        goal.text(goal.bound) if goal is not None else "",
        judge(measured),
    )


def table(rows: Sequence[Measured]) -> str:
    """Return the table, its columns as wide as they need to be."""
    cells = [_HEAD, *(row_of(row) for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(_HEAD))]
    right = {3, 6, 7}
    lines = []
    for line in cells:
        padded = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    notes = [f"  {row.key.partition('/')[0]} {row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, *(["", "notes", *notes] if notes else [])])


def summary(rows: Sequence[Measured], broken: Sequence[str]) -> str:
    """Return one line: how many goals were reached, how many only the bar to reach now, how many neither."""
    verdicts = [judge(row) for row in rows]
    parts = [
        f"{verdicts.count('goal')} at their goal",
        f"{verdicts.count('now')} within the bar to reach now",
        f"{verdicts.count('miss')} missed",
    ]
    if broken:
        parts.append(f"{len(broken)} broken: {', '.join(broken)}")
    return "; ".join(parts)


def as_data(row: Measured) -> dict[str, object]:
    """Return one line as plain data for `--json`."""
    ratio, goal = row.ratio, GOALS.get(row.key)
    return {
        "key": row.key,
        "what": row.what,
        "mode": row.mode,
        "unit": row.unit,
        "ours": list(row.ours.rounds),
        "beside": row.beside,
        "theirs": list(row.theirs.rounds) if row.theirs is not None else None,
        "ratio": ratio.median if ratio is not None else None,
        "goal": goal.bound if goal is not None else None,
        "now": goal.now if goal is not None else None,
        "verdict": judge(row),
        "note": row.note,
    }
