"""Habits held by reading: no sleep as synchronisation, no skip without a reason, nothing of one machine in the tree."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.sources import REPOSITORY, Source, local_names, resolved, test_sources

SLEEPS = frozenset({"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"})
PAYLOAD_COMMENT = "# payload:"
POLLING_FILE = Path("tests/helpers/waiting.py")  # the one sanctioned poll, with its reason in its docstring

NEED_A_REASON = {
    "pytest.skip": 0,
    "pytest.xfail": 0,
    "pytest.importorskip": None,
    "pytest.mark.skip": 0,
    "pytest.mark.skipif": None,
    "pytest.mark.xfail": None,
}
"""Call to the position where its reason may stand unnamed; None: only as `reason=`."""

OF_ONE_MACHINE = re.compile(
    r"(?<![\w.}])/(?:work|root|home/[a-z]\w*|Users/\w+|opt/[\w-]*wheels?)/"
    r"|\bpyp[i]\.org|\bpythonhost[e]d\.org|\bindex[-]url\b|\bfind[-]links\b|\bregistry\.npm[j]s"
)
"""Folders of the machine that a file was written on, and addresses of package registries."""

MAY_NAME_THEM = frozenset({Path("tests/laws/test_habits.py"), Path("tests/laws/test_distribution.py")})

SOURCES = test_sources()


def sleeps(source: Source) -> Iterator[str]:
    """List the calls that sleep and are not the payload of a session."""
    names = local_names(source)
    lines = source.text.splitlines()
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.Call) or resolved(node.func, names) not in SLEEPS:
            continue
        yields_only = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
        said = any(PAYLOAD_COMMENT in line for line in lines[node.lineno - 1 : node.end_lineno])
        if not (yields_only or said):
            yield f"{source}:{node.lineno} sleeps"


def silent_skips(source: Source) -> Iterator[str]:
    """List the skips and expected failures that do not say why."""
    names = local_names(source)
    called = {id(node.func) for node in ast.walk(source.tree()) if isinstance(node, ast.Call)}
    for node in ast.walk(source.tree()):
        if (
            isinstance(node, ast.Attribute)
            and id(node) not in called
            and (bare := resolved(node, names)) in NEED_A_REASON
        ):
            yield f"{source}:{node.lineno} {bare} without a reason"
        if not isinstance(node, ast.Call) or (what := resolved(node.func, names)) not in NEED_A_REASON:
            continue
        position = NEED_A_REASON[what]
        named = any(keyword.arg == "reason" for keyword in node.keywords)
        if not named and (position is None or len(node.args) <= position):
            yield f"{source}:{node.lineno} {what} without a reason"


def tracked_files() -> list[Path]:
    """List the files that are or will be committed; skip where there is no git to ask."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no git here to list the tracked files")
    if done.returncode != 0:
        pytest.skip(f"not a git work tree ({done.stderr.strip()})")
    return [Path(name) for name in done.stdout.split("\0") if name]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_no_test_sleeps_to_wait(source: Source) -> None:
    if source.path != POLLING_FILE:
        assert list(sleeps(source)) == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_skip_says_why(source: Source) -> None:
    assert list(silent_skips(source)) == []


@pytest.mark.process
def test_no_file_names_a_folder_of_one_machine_or_a_registry() -> None:
    found = []
    for path in tracked_files():
        place = REPOSITORY / path
        if path in MAY_NAME_THEM or place.is_symlink() or not place.is_file():
            continue
        for number, line in enumerate(place.read_bytes().decode(errors="replace").splitlines(), start=1):
            found += [f"{path}:{number} {hit.group()}" for hit in OF_ONE_MACHINE.finditer(line)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "from time import sleep\nsleep(0.1)",
        "import asyncio as a\nasync def f():\n    await a.sleep(delay=1)",
    ],
)
def test_the_sleep_law_catches(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(sleeps(_written(text, tmp_path, monkeypatch)))


def test_the_sleep_law_lets_payloads_and_yields_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import time, asyncio\ntime.sleep(60)  # payload: outlives its deadline\nasyncio.sleep(0)\n'time.sleep(1)'"
    assert not list(sleeps(_written(text, tmp_path, monkeypatch)))


@pytest.mark.parametrize(
    "text",
    ["import pytest\npytest.skip()", "import pytest\npytest.mark.xfail()", "import pytest\nm = pytest.mark.skip"],
)
def test_the_skip_law_catches(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(silent_skips(_written(text, tmp_path, monkeypatch)))


def _written(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    (folder / "x.py").write_text(text)
    monkeypatch.setattr("helpers.sources.REPOSITORY", folder)
    monkeypatch.setattr("helpers.sources._parse", lambda _path: ast.parse(text))
    return Source(Path("x.py"))
