"""Join the rows of tests/laws/contract.toml with the tests that carry them; write docs/contract.md.

Written with the other pages (`helpers.pages`); a law test holds the file to it. It is *not* the contract: that says what is
to be; this says how it is called here, and which test shows it across a real process.
"""

import tomllib
from pathlib import Path

from helpers.guarantees import Mark, collect_marks, link
from helpers.sources import REPOSITORY

ROWS_FILE = Path("tests/laws/contract.toml")
PAGE_FILE = Path("docs/contract.md")
MARK = "contract"

HEAD = """# The session contract, row by row

What a code session has to do, what that is called here, and the tests that hold it through the Session API and a real
process. The numbers are the sections of the contract that this program was built from; section 0 says where it decides
otherwise. Generated from `tests/laws/contract.toml` and the tests' marks.

| row | here | test |
|---|---|---|
"""


def read_rows() -> dict[str, str]:
    """Read the rows, in the order of the file."""
    return tomllib.loads((REPOSITORY / ROWS_FILE).read_text(encoding="utf-8"))


def marks() -> list[Mark]:
    """Find the marks of the tests."""
    return collect_marks(kind=MARK)


def render_page(rows: dict[str, str], found: list[Mark]) -> str:
    """Write the page."""
    lines = []
    for row, ours in rows.items():
        tests = "<br>".join(sorted({link(mark) for mark in found if mark.id == row}))
        lines.append(f"| {row} | {ours} | {tests} |\n")
    return HEAD + "".join(lines)


def main() -> None:
    """Write the page."""
    (REPOSITORY / PAGE_FILE).write_text(render_page(read_rows(), marks()), encoding="utf-8")
    print(f"{PAGE_FILE} written")
