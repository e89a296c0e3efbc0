"""A cell's source as code: statements to run, and the last expression by itself so that its value comes back.

Pure. The cell is compiled as its own unit: nothing of this file's own compiler flags reaches it.
"""

from __future__ import annotations

import ast
from types import CodeType
from typing import NamedTuple


class CellCode(NamedTuple):
    """body: the statements, None when there are none. value: the last expression, None when the cell ends otherwise."""

    body: CodeType | None
    value: CodeType | None


def compile_cell(source: str, filename: str) -> CellCode:
    """Compile a cell. Raises SyntaxError, ValueError (a NUL), RecursionError or MemoryError for what is no program.

    A last expression that is followed by a semicolon is a statement, as in a notebook.
    """
    tree = ast.parse(source, filename, "exec")
    value: CodeType | None = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _ends_with_semicolon(source, tree.body[-1]):
        last = tree.body.pop()
        assert isinstance(last, ast.Expr)
        value = compile(ast.Expression(last.value), filename, "eval", dont_inherit=True)
    body = compile(tree, filename, "exec", dont_inherit=True) if tree.body else None
    return CellCode(body, value)


def _ends_with_semicolon(source: str, last: ast.Expr) -> bool:
    """Say whether a semicolon follows the last statement on its line; columns count UTF-8 bytes."""
    lines = source.splitlines()
    line = lines[last.end_lineno - 1] if last.end_lineno and last.end_lineno <= len(lines) else ""
    return line.encode("utf-8", "replace")[last.end_col_offset :].lstrip().startswith(b";")
