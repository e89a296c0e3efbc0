"""How the demo looks: a live table on a terminal that has room for it, a line for each case elsewhere, and the verdict.

Rule: what is shown of a case comes from its row alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from procession.api.cli.output import Cell, clean, count, say, seconds, verdict, wrapped
from procession.api.cli.tables import Column, console, rich_table
from procession.api.demo.cases import CASES
from procession.api.demo.runner import Row, Tell

#: What a narrow terminal shows of a title; `--case` takes it too.
_NAMES: Final[dict[str, str]] = {case.title: case.name for case in CASES}
COLUMNS: Final = (
    Column("CASE", brief=_NAMES.__getitem__),
    Column("HOW IT ENDED"),
    Column("TIME"),
    Column("FOUND", goes=2),
    Column("LEFT", goes=1),
    Column("WHAT THE CALLER GOT", shrinks="wraps", least=34),
    Column(""),
)
_MARKS: Final[dict[str, Cell]] = {
    "waiting": ("", "dim"),
    "running": ("…", "odd"),
    "right": ("ok", "good"),
    "wrong": ("WRONG", "bad"),
    "skipped": ("skip", "odd"),
}
_TITLE_WIDTH: Final = 34
#: From here on no row of the table is wrapped; below, every second one at most.
_WIDE_CHARS: Final = 150


@contextmanager
def live(cases: int) -> Iterator[Tell]:
    """Give a function that shows the rows as they are told; a screen too low for the whole table gets lines."""
    screen = console()
    most = cases + (0 if screen.width >= _WIDE_CHARS else cases // 2) + 2
    if not sys.stdout.isatty() or screen.height < most:
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=screen, auto_refresh=False) as table:
        yield lambda rows: table.update(rich_table(COLUMNS, map(_cells, rows)), refresh=True)


class _Lines:
    """Prints each case once, when it is over."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.state not in ("waiting", "running") and row.case.name not in self._shown:
                self._shown.add(row.case.name)
                say("\n".join(wrapped(_line(row), sys.stdout)))


def _line(row: Row) -> str:
    mark = f"{_MARKS[row.state][0]:<5}"
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
    wrong = sum(row.state == "wrong" for row in rows)
    skipped = len(rows) - right - wrong
    found = sum(row.seen.receipt.found for row in rows if row.seen and row.seen.receipt)
    left = sum(row.seen.receipt.left for row in rows if row.seen and row.seen.receipt)
    words = f"{count(wrong, 'case')} did not end as they should" if wrong else "every case ended as it should"
    words += f", {skipped} skipped" if skipped else ""
    verdict(
        f"{right} of {len(rows)}: {words}; {count(found, 'process', 'processes')} found at ends, {left} left; "
        f"{seconds(elapsed_s)}",
        good=not wrong,
    )
    return not wrong
