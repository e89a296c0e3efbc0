"""The import law: which room may import which, and what a pure file may know. Read from the source, never run."""

from pathlib import Path

import pytest

from helpers.sources import PACKAGE, REPOSITORY, ROOMS, Source, imported_modules, room_sources

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "ipc": (),
    "agent_proc": ("ipc",),
    "host": ("ipc",),  # never agent_proc: it is started by module name
    "api": ("ipc", "host"),
}
"""Room to the other rooms it may import. The whole law; docs/architecture.md draws it."""

MAY_IMPORT_BESIDES = {"api": ("agent_proc.agent",)}
"""The one exception: the pure part of an agent, handed on to authors."""

PACKAGE_NAMES_FOR_ALL = ("_version",)
"""Modules of the package itself that every room may import."""

IMPURE = frozenset(
    "os io socket time random secrets threading _thread asyncio subprocess multiprocessing select selectors fcntl mmap "
    "tempfile shutil sqlite3 psutil queue concurrent sched pty termios resource logging uvloop anyio".split()
)
"""What no file in core/ imports: it would do IO, read a clock, or wait. Names of signals and errnos are only names."""

CLOCKS = frozenset({"time", "random", "secrets"})
"""In host/ only clock.py imports these, so that every policy gets time and chance as arguments."""

CLOCK_FILES = {"host": Path("host/clock.py")}

SOURCES = room_sources()
CORE_SOURCES = [source for source in SOURCES if source.is_core]


def room_of(module: str) -> str | None:
    """Name the room that a dotted module of ours lies in; the rest of its path follows the room."""
    inside = module.removeprefix(f"{PACKAGE}.")
    return inside if inside != module and inside.partition(".")[0] in ROOMS else None


def broken_room_laws(source: Source) -> list[str]:
    """List the imports of a file that its room may not make."""
    allowed = (source.room, *MAY_IMPORT[source.room], *MAY_IMPORT_BESIDES.get(source.room, ()))
    broken = []
    for line, module in imported_modules(source):
        if module.partition(".")[0] in ROOMS:
            broken.append(f"{source}:{line} imports bare {module}: write {PACKAGE}.{module}")
        inside = room_of(module)
        if inside is not None and not any(f"{inside}.".startswith(f"{prefix}.") for prefix in allowed):
            broken.append(f"{source}:{line} imports {module}: {source.room} may import {', '.join(allowed)}")
        if inside is None and module.partition(".")[0] == PACKAGE and not _is_package_name(module, source):
            broken.append(f"{source}:{line} imports {module}: a room imports rooms, not the public face")
    return broken


def _is_package_name(module: str, source: Source) -> bool:
    names = ("__version__", *PACKAGE_NAMES_FOR_ALL)
    return module.removeprefix(f"{PACKAGE}.").partition(".")[0] in (*names, *(ROOMS if source.room == "api" else ()))


def broken_core_laws(source: Source) -> list[str]:
    """List the imports of a pure file that a pure file may not make."""
    broken = []
    for line, module in imported_modules(source):
        if module.partition(".")[0] in IMPURE:
            broken.append(f"{source}:{line} imports {module}: a pure file does no IO and reads no clock")
        inside = room_of(module)
        if inside is not None and "core" not in inside.split("."):
            broken.append(f"{source}:{line} imports {module}: a pure file imports no shell file")
    return broken


def test_the_law_names_every_room_and_every_room_has_files() -> None:
    assert set(MAY_IMPORT) == set(ROOMS)
    assert {source.room for source in SOURCES} == set(ROOMS)
    assert {source.room for source in CORE_SOURCES} == set(ROOMS)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_room_imports_only_what_it_may(source: Source) -> None:
    assert broken_room_laws(source) == []


@pytest.mark.parametrize("source", CORE_SOURCES, ids=str)
def test_a_core_file_is_pure(source: Source) -> None:
    assert broken_core_laws(source) == []


def test_in_a_room_with_a_clock_file_only_that_file_reads_a_clock() -> None:
    readers = {
        source.path
        for source in room_sources(*CLOCK_FILES)
        for _, module in imported_modules(source)
        if module.partition(".")[0] in CLOCKS
    }
    assert readers <= set(CLOCK_FILES.values())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ipc/x.py", "from procession.host import supervisor"),
        ("ipc/x.py", "import procession"),
        ("host/x.py", "def f():\n    import procession.agent_proc.zygote"),
        ("host/x.py", "from procession import agent_proc"),
        ("host/x.py", "from ..api import host"),
        ("agent_proc/x.py", "from procession.host.clock import now"),
        ("api/x.py", "from procession.agent_proc.worker import run"),
        ("api/x.py", "from ipc.core import frames"),
    ],
)
def test_the_room_law_catches(path: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_room_laws(_written(path, text, tmp_path, monkeypatch))


@pytest.mark.parametrize(
    "text", ["import os.path", "from time import monotonic", "from procession.ipc import transport"]
)
def test_the_core_law_catches(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_core_laws(_written("ipc/core/x.py", text, tmp_path, monkeypatch))


def test_the_laws_let_through_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from procession.agent_proc.agent import signals\nfrom procession.host.clock import now\nimport os"
    assert not broken_room_laws(_written("api/x.py", text, tmp_path, monkeypatch))
    text = "import signal, errno\nfrom procession.ipc.core.limits import Limits"
    assert not broken_core_laws(_written("host/core/x.py", text, tmp_path, monkeypatch))


def _written(path: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Write a file into a repository of its own and return it as a source."""
    target = folder / path
    target.parent.mkdir(parents=True)
    target.write_text(text)
    monkeypatch.setattr("helpers.sources.REPOSITORY", folder)
    monkeypatch.setattr("helpers.sources._parse", lambda path: __import__("ast").parse((folder / path).read_text()))
    return Source(Path(path))


def test_the_rooms_are_reached_by_relative_links() -> None:
    for room in ROOMS:
        link = REPOSITORY / "src" / PACKAGE / room
        assert link.is_symlink()
        assert link.readlink() == Path("../..") / room
    assert not (REPOSITORY / "__init__.py").exists()
