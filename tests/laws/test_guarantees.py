"""Rows and tests match, both ways: no promise without a test, no id without a row, no page that says otherwise."""

import ast
from pathlib import Path

import pytest

from helpers.guarantees import PAGE_FILE, ROWS_FILE, Mark, Row, _marks_below, collect_marks, read_rows, render_page
from helpers.sources import REPOSITORY

ROWS = read_rows()
MARKS = collect_marks()


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.id)
def test_a_row_that_is_due_has_a_test(row: Row) -> None:
    assert not row.due or any(mark.id == row.id for mark in MARKS), f"no test carries {row.id}: {row.fault}"


def test_every_id_carried_has_a_row() -> None:
    unknown = [f"{mark.path}::{mark.test} carries {mark.id}" for mark in MARKS if mark.id not in ROWS]
    assert unknown == [], f"add the row to {ROWS_FILE}"


def test_only_tests_carry_ids() -> None:
    carriers = [mark for mark in MARKS if not mark.path.name.startswith("test_")]
    assert carriers == []
    nameless = [mark for mark in MARKS if mark.test and not mark.test.split("::")[-1].startswith(("test_", "Test"))]
    assert nameless == []


def test_the_page_is_the_one_generated() -> None:
    written = (REPOSITORY / PAGE_FILE).read_text(encoding="utf-8")
    assert written == render_page(ROWS, MARKS), "run `make guarantees`"


def test_marks_are_found_wherever_pytest_takes_them() -> None:
    text = (
        "import pytest\npytestmark = pytest.mark.guarantee('R-01')\n"
        "@pytest.mark.guarantee('R-02', 'R-03')\ndef test_a(): ...\n"
        "class TestB:\n    @pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.guarantee('R-04'))])\n"
        "    async def test_c(self, x): ...\n"
    )
    path = Path("tests/test_x.py")
    assert set(_marks_below(ast.parse(text), path, "")) == {
        Mark("R-01", path, ""),
        Mark("R-02", path, "test_a"),
        Mark("R-03", path, "test_a"),
        Mark("R-04", path, "TestB::test_c"),
    }


def test_a_computed_id_is_refused() -> None:
    with pytest.raises(ValueError, match="written out"):
        list(_marks_below(ast.parse("guarantee(f'R-{n}')"), Path("tests/test_x.py"), ""))
