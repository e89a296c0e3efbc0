"""Join the rows of tests/laws/guarantees.toml with the tests that carry their ids; write docs/guarantees.md.

`make guarantees` writes it; a law test holds the file to it, both ways. Marks are read from the source, so that a row
is tied to a test that exists whether or not it ran today.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.sources import REPOSITORY, Source, test_sources

ROWS_FILE = Path("tests/laws/guarantees.toml")
PAGE_FILE = Path("docs/guarantees.md")
MARK = "guarantee"

HEAD = """# Guarantees

What procession promises when something goes wrong, each row with the tests that fail when it stops being true. This
page is generated from `tests/laws/guarantees.toml` and the tests' marks: `make guarantees` writes it and a test holds
it to them. Figures are asserted with slack for a busy machine and measured exactly by `make bench`; `make soak` runs
the full counts.

Not promised: exactly-once effects outside the process (a command that ran before its session died has run); the end of
a process in uninterruptible sleep before the kernel lets go of it; containment against a fork bomb better than `doctor`
names, on a machine that gives procession neither cgroups nor namespaces.

| row | fault | promise here | test |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One promise."""

    id: str
    fault: str
    promise: str
    due: bool
    """Whether a missing test is a failure."""


@dataclass(frozen=True)
class Mark:
    """One test, class or file that carries an id."""

    id: str
    path: Path
    test: str
    """The test's name within its file; empty when the whole file carries the id."""


def read_rows() -> dict[str, Row]:
    """Read the rows, by id, in the order of the file."""
    table = tomllib.loads((REPOSITORY / ROWS_FILE).read_text(encoding="utf-8"))
    return {row_id: Row(row_id, row["fault"], row["promise"], row["due"]) for row_id, row in table.items()}


def collect_marks(sources: list[Source] | None = None, kind: str = MARK) -> list[Mark]:
    """Find every mark of a kind in the tests; raise ValueError for an id that is not written out."""
    found = sources or test_sources()
    return [mark for source in found for mark in _marks_below(source.tree(), source.path, "", kind)]


def _marks_below(node: ast.AST, path: Path, name: str, kind: str = MARK) -> Iterator[Mark]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _marks_below(child, path, f"{name}::{child.name}" if name else child.name, kind)
            continue
        if isinstance(child, ast.Call) and _called(child.func) == kind:
            for argument in child.args:
                if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                    raise ValueError(f"{path}:{child.lineno}: the id of a {kind} is written out, not computed")
                yield Mark(argument.value, path, name)
        yield from _marks_below(child, path, name, kind)


def _called(function: ast.expr) -> str:
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def render_page(rows: dict[str, Row], marks: list[Mark]) -> str:
    """Write the page: the rows that have a test, in order of their ids."""
    lines = []
    for row in sorted(rows.values(), key=lambda row: row.id):
        tests = sorted({link(mark) for mark in marks if mark.id == row.id})
        if tests:
            lines.append(f"| {row.id} | {row.fault} | {row.promise} | {'<br>'.join(tests)} |\n")
    return HEAD + "".join(lines)


def link(mark: Mark) -> str:
    return f"[{mark.test or mark.path.name}](../{mark.path.as_posix()})"


def main() -> None:
    """Write the page and say what it lacks."""
    rows, marks = read_rows(), collect_marks()
    page = REPOSITORY / PAGE_FILE
    page.parent.mkdir(exist_ok=True)
    page.write_text(render_page(rows, marks), encoding="utf-8")
    held = {mark.id for mark in marks}
    print(f"{PAGE_FILE}: {len(held & rows.keys())} rows held")
    if missing := [row.id for row in rows.values() if row.due and row.id not in held]:
        print("due and without a test:", *missing)
    if unknown := sorted(held - rows.keys()):
        print(f"marked but not in {ROWS_FILE}:", *unknown)
        sys.exit(1)


if __name__ == "__main__":
    main()
