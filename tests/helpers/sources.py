"""Read the project's own source as syntax trees: what the law tests judge.

Nothing is imported and nothing is run. A name's module is found as Python would find it: `from . import x`,
`from procession import ipc` and `import procession.ipc.core` all give the dotted module.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("ipc", "agent_proc", "host", "api")
PACKAGE = "procession"


@dataclass(frozen=True)
class Source:
    """One Python file of ours."""

    path: Path
    """Relative to the repository."""

    @property
    def room(self) -> str:
        """The room it stands in."""
        return self.path.parts[0]

    @property
    def is_core(self) -> bool:
        """Say whether it is one of the pure files."""
        return "core" in self.path.parts[1:-1]

    @property
    def module(self) -> str:
        """Its dotted name below `procession`."""
        parts = self.path.with_suffix("").parts
        return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))

    @property
    def text(self) -> str:
        """What it says."""
        return (REPOSITORY / self.path).read_text(encoding="utf-8")

    def tree(self) -> ast.Module:
        """Return its syntax tree; the same object each time."""
        return _parse(self.path)

    def __str__(self) -> str:
        """Show the path, as a test id."""
        return self.path.as_posix()


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse((REPOSITORY / path).read_text(encoding="utf-8"), filename=str(path))


def room_sources(*rooms: str) -> list[Source]:
    """List the Python files of the rooms, all four by default."""
    return list(_sources_below(rooms or ROOMS))


def test_sources() -> list[Source]:
    """List the Python files of the tests."""
    return list(_sources_below(("tests",)))


test_sources.__test__ = False  # type: ignore[attr-defined]


def _sources_below(folders: tuple[str, ...]) -> Iterator[Source]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if "__pycache__" not in path.parts:
                yield Source(path.relative_to(REPOSITORY))


def imported_modules(source: Source) -> Iterator[tuple[int, str]]:
    """List (line, dotted module or module.name) of every import, wherever it stands in the file.

    `from a.b import c` gives `a.b.c`: whether `c` is a module or a name in one, a prefix rule judges it rightly.
    """
    package = source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def dotted(node: ast.expr) -> str:
    """Write `a.b.c` of a name or an attribute chain; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""


def local_names(source: Source) -> dict[str, str]:
    """Map each name that an import binds in this file to the dotted thing it stands for."""
    bound: dict[str, str] = {}
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return bound


def resolved(node: ast.expr, names: dict[str, str]) -> str:
    """Write what an expression refers to, its first name replaced by what was imported under it."""
    path = dotted(node)
    first, dot, rest = path.partition(".")
    return names.get(first, first) + dot + rest
