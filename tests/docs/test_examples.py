"""The examples of README.md and docs/*.md run as they stand.

A ```python block is a program of its own, run in a fresh interpreter in an empty folder; `python no-run` leaves it
out, `python fails` must exit non-zero. In a ```console run block each line that begins with `$ ` is a shell command
that must succeed. A block is named by its file and line, so that a failure points at the page.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.runs import REPOSITORY

EXAMPLE_TIMEOUT_S = 45.0  # below the test's own, so that the output is shown
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One fenced block of a page."""

    page: str
    line: int
    info: tuple[str, ...]
    body: str

    def __str__(self) -> str:
        """Show where it stands, as a test id."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """List the pages that there are."""
    return [page for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))) if page.exists()]


def examples_of(page: Path) -> Iterator[Example]:
    """List the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(REPOSITORY).as_posix() if page.is_relative_to(REPOSITORY) else page.name
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Example(name, line, tuple(match["info"].split()), match["body"])


def commands_of(example: Example) -> list[str]:
    """List the commands of a console block."""
    return [line[2:] for line in example.body.splitlines() if line.startswith("$ ")]


EXAMPLES = [example for page in pages() for example in examples_of(page)]
PROGRAMS = [example for example in EXAMPLES if example.info[:1] == ("python",) and "no-run" not in example.info]
CONSOLES = [example for example in EXAMPLES if example.info[:2] == ("console", "run")]


def environment() -> dict[str, str]:
    """Return the environment of an example: ours, with this interpreter's commands first."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


@pytest.mark.process
@pytest.mark.parametrize("example", PROGRAMS, ids=str)
def test_a_python_example_runs(example: Example, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(example.body, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program.name],
        check=False,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_TIMEOUT_S,
    )
    assert (done.returncode != 0) == ("fails" in example.info), f"{example}\n{done.stdout}\n{done.stderr}"


@pytest.mark.process
@pytest.mark.parametrize("example", CONSOLES, ids=str)
def test_a_console_example_runs(example: Example, tmp_path: Path) -> None:
    assert commands_of(example), f"{example} has no line that begins with '$ '"
    script = "set -e\n" + "\n".join(commands_of(example))
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_TIMEOUT_S,
    )
    assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"


def test_blocks_are_found_by_their_info_and_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# x\n\n```python\nprint(1)\n```\n```python no-run\n...\n```\n```console run\n$ true\nout\n```\n")
    found = list(examples_of(page))
    assert [(example.line, example.info) for example in found] == [
        (3, ("python",)),
        (6, ("python", "no-run")),
        (9, ("console", "run")),
    ]
    assert found[0].body == "print(1)\n"
    assert commands_of(found[2]) == ["true"]
