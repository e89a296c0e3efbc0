"""Write the map of files at the end of docs/architecture.md: each file of the rooms with the first sentence of its docstring.

What stands above the marker is written by hand and left alone.
"""

import ast
from itertools import groupby
from pathlib import Path

from helpers.sources import REPOSITORY, Source, room_sources

PAGE_FILE = Path("docs/architecture.md")
MARKER = "<!-- from here on generated: PYTHONPATH=tests .venv/bin/python -m helpers.pages -->\n"
SAMPLES = "sample_project"
"""Files that are the material of a demonstration, not parts of the program."""


def render_page(page: str) -> str:
    """Return the page with its map written anew. Raises ValueError when it has no place for one."""
    above, marker, _ = page.partition(MARKER)
    if not marker:
        raise ValueError(f"{PAGE_FILE} has lost its marker")
    return above + marker + render_map(room_sources())


def render_map(sources: list[Source]) -> str:
    """Write one table per folder."""
    lines = []
    shown = [source for source in sources if SAMPLES not in source.path.parts]
    shown.sort(key=lambda source: (source.path.parent, source.path.name))
    for folder, inside in groupby(shown, key=lambda source: source.path.parent):
        files = [source for source in inside if source.path.name != "__init__.py"]
        if files:
            lines += [f"\n### {folder.as_posix()}/\n", "| file | what it is |", "|---|---|"]
            lines += [f"| `{source.path.as_posix()}` | {first_sentence(source)} |" for source in files]
    return "\n".join(lines) + "\n"


def first_sentence(source: Source) -> str:
    """Return what a file's docstring says first."""
    paragraph = (ast.get_docstring(source.tree()) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def main() -> None:
    """Write the map."""
    page = REPOSITORY / PAGE_FILE
    page.write_text(render_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE_FILE} written")


if __name__ == "__main__":
    main()
