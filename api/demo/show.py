"""How the demo looks: a live table on a terminal, a line for each case elsewhere, and the verdict.

Rule: what is shown of a case comes from its row alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from procession.api.cli.output import Cell, clean, console, count, rich_table, say, seconds, verdict
from procession.api.demo.runner import Row, Tell

COLUMNS: Final = ("CASE", "HOW IT ENDED", "TIME", "FOUND", "LEFT", "WHAT THE CALLER GOT", "")
_MARKS: Final[dict[str, Cell]] = {
    "waiting": ("", "dim"),
    "running": ("…", "odd"),
    "right": ("ok", "good"),
    "wrong": ("WRONG", "bad"),
}
_TITLE_WIDTH: Final = 34


@contextmanager
def live() -> Iterator[Tell]:
    """Give a function that shows the rows as they are told."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as table:
        yield lambda rows: table.update(rich_table(COLUMNS, map(_cells, rows)), refresh=True)


class _Lines:
    """Prints each case once, when it is over."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.state in ("right", "wrong") and row.case.name not in self._shown:
                self._shown.add(row.case.name)
                say(_line(row))


def _line(row: Row) -> str:
    mark = "ok   " if row.state == "right" else "WRONG"
    if row.seen is None:
        return f"{mark}  {row.case.title:<{_TITLE_WIDTH}}  {clean('; '.join(row.wrong))}"
    processes = f"found {row.found} left {row.left}"
    return (
        f"{mark}  {row.case.title:<{_TITLE_WIDTH}}  {row.seen.ended:<14}  {seconds(row.elapsed_s):>7}  "
        f"{processes:<14}  {clean(row.seen.got)}"
    )


def _cells(row: Row) -> tuple[Cell, ...]:
    if row.state in ("waiting", "running"):
        return (
            row.case.title,
            (row.state, "dim"),
            "",
            "",
            "",
            (f"expected: {row.case.expected}", "dim"),
            _MARKS[row.state],
        )
    ended, got = (row.seen.ended, row.seen.got) if row.seen else ("", "; ".join(row.wrong))
    return row.case.title, ended, seconds(row.elapsed_s), row.found, row.left, got, _MARKS[row.state]


def print_verdict(rows: Sequence[Row], elapsed_s: float) -> bool:
    """Print what was wrong, if anything, and the verdict in one line; return whether every case ended as it should."""
    for row in rows:
        for words in row.wrong:
            say(f"wrong in {row.case.name}: {clean(words)}")
    right = sum(row.state == "right" for row in rows)
    found = sum(row.seen.receipt.found for row in rows if row.seen and row.seen.receipt)
    left = sum(row.seen.receipt.left for row in rows if row.seen and row.seen.receipt)
    good = right == len(rows)
    words = (
        "every case ended as it should" if good else f"{count(len(rows) - right, 'case')} did not end as they should"
    )
    verdict(
        f"{right} of {len(rows)}: {words}; {count(found, 'process', 'processes')} found at ends, {left} left; "
        f"{seconds(elapsed_s)}",
        good=good,
    )
    return good
