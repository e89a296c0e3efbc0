"""Tables and pairs: fitted to a terminal, whole in a pipe.

A terminal gets a table no wider than itself: columns say how they give way. Anything else gets plain columns that nothing
cuts, and rich is not even imported. Rules: no word is broken that fits its column; what is cut ends, or begins, with `…`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from procession.api.cli.output import STYLES, Cell, clean, colours, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_GAP: Final = 2


class Column(NamedTuple):
    """A column, and how it gives way when the table is too wide.

    goes: it is left out, the one with the highest number first; 0 stays. shrinks: its texts lose their end or their
    beginning, or are wrapped between words, down to `least` characters (other columns go first). brief: a shorter form of a
    text, taken before anything else gives way.
    """

    name: str
    goes: int = 0
    shrinks: Literal["not", "end", "start", "wraps"] = "not"
    brief: Callable[[str], str] | None = None
    least: int = 12


class Fitted(NamedTuple):
    """A table's columns that stay, by their numbers, with their widths; and all its texts."""

    kept: list[int]
    widths: list[int]
    texts: list[list[str]]


def fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, cells: Callable[[str], int] = len
) -> Fitted:
    """Choose columns and widths so that the table is no wider than `width`, if it can be. cells: the width of a text."""
    texts = [list(row) for row in rows]
    kept = list(range(len(columns)))

    def whole(index: int) -> int:
        return max(map(cells, (columns[index].name, *(row[index] for row in texts))))

    def least(index: int) -> int:
        column = columns[index]
        return whole(index) if column.shrinks == "not" else min(whole(index), column.least)

    def total(measure: Callable[[int], int]) -> int:
        return sum(map(measure, kept)) + _GAP * (len(kept) - 1)

    if total(whole) > width:
        for row in texts:
            row[:] = [column.brief(text) if column.brief else text for column, text in zip(columns, row, strict=True)]
    while total(least) > width and any(columns[index].goes for index in kept):
        kept.remove(max(kept, key=lambda index: columns[index].goes))
    widths = {index: least(index) for index in kept}
    spare = width - total(least)
    needy = sorted(
        (index for index in kept if whole(index) > least(index)), key=lambda index: whole(index) - least(index)
    )
    for place, index in enumerate(needy):  # each its equal share; what one does not need goes to those behind it
        more = max(0, min(whole(index) - least(index), spare // (len(needy) - place)))
        widths[index] += more
        spare -= more
    return Fitted(kept, [widths[index] for index in kept], texts)


def shorten(text: str, width: int, shrinks: str) -> str:
    """Cut a text to `width` characters, at its end or its start."""
    if len(text) <= width:
        return text
    return "…" + text[len(text) - width + 1 :] if shrinks == "start" else text[: width - 1] + "…"


def under_home(path: str) -> str:
    """Write a path with `~` for the home folder."""
    home = os.path.expanduser("~").rstrip("/")
    return "~" + path[len(home) :] if home and (path == home or path.startswith(home + "/")) else path


# --- tables -------------------------------------------------------------------------------------------------
def print_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table: rich's on a terminal, plain columns elsewhere."""
    if sys.stdout.isatty():
        console().print(rich_table(columns, rows))
    else:
        print(plain_table(columns, rows), flush=True)


def plain_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> str:
    """Return columns aligned with spaces, nothing cut."""
    lines = [[_column(one).name for one in columns], *([clean(_text(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join(
        (" " * _GAP).join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rich_table(columns: Sequence[str | Column], rows: Iterable[Sequence[Cell]]) -> Table:
    """Return a table for a terminal, no wider than it."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    made = [_column(one) for one in columns]
    cells = [list(row) for row in rows]
    fitted = fit(made, [[clean(_text(cell)) for cell in row] for row in cells], console().width, cell_len)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for index, width in zip(fitted.kept, fitted.widths, strict=True):
        wraps = made[index].shrinks == "wraps"
        table.add_column(made[index].name, width=width, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis")
    for texts, row in zip(fitted.texts, cells, strict=True):
        table.add_row(
            *(
                Text(
                    shorten(texts[index], width, "start") if made[index].shrinks == "start" else texts[index],
                    style=_style(row[index]),
                )
                for index, width in zip(fitted.kept, fitted.widths, strict=True)
            )
        )
    return table


def console() -> Console:
    """Return rich's console for stdout; it keeps to NO_COLOR by itself."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


# --- pairs ----------------------------------------------------------------------------------------------------
def print_pairs(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one a line; on a terminal long values are wrapped between words."""
    found = [(name, cell) for name, cell in pairs if _text(cell)]
    width = max((len(name) for name, _ in found), default=0)
    bold, off = ("\x1b[1m", "\x1b[0m") if colours(sys.stdout) else ("", "")
    for name, cell in found:
        lines = clean(_text(cell), lines=True).splitlines()
        first, *rest = [part for line in lines for part in wrapped(line, sys.stdout, indent=width + _GAP)]
        print(f"{bold}{name.ljust(width)}{off}  {first}")
        for line in rest:
            print(f"{'':{width}}  {line}")
    sys.stdout.flush()


def _column(one: str | Column) -> Column:
    return one if isinstance(one, Column) else Column(one)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else STYLES.get(cell[1], "")
