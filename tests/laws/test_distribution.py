"""What is shipped is the tree: the wheel and the sdist hold each file of the rooms, as a file, once."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from helpers.sources import PACKAGE, REPOSITORY, ROOMS

BUILD_TIMEOUT_S = 55


def tree_files() -> dict[str, bytes]:
    """Return every file of the package as the tree has it, by its path in a wheel."""
    found = {}
    for folder, name in [(REPOSITORY / "src" / PACKAGE, PACKAGE), *((REPOSITORY / r, f"{PACKAGE}/{r}") for r in ROOMS)]:
        for path in folder.rglob("*"):
            if path.is_file() and (path.suffix == ".py" or path.name == "py.typed"):
                inside = path.relative_to(folder)
                if inside.parts[0] not in ROOMS or name != PACKAGE:
                    found[f"{name}/{inside.as_posix()}"] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist, and a wheel from that sdist, from a copy of the tree: a build writes beside its sources."""
    copy = tmp_path_factory.mktemp("tree")
    kept = ["pyproject.toml", "LICENSE", "CHANGELOG.md", "README.md", "src", *ROOMS]
    present = [name for name in kept if (REPOSITORY / name).exists()]
    subprocess.run(["cp", "-a", *present, str(copy)], check=True, cwd=REPOSITORY, timeout=20)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(copy / "out"), str(copy)],
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "out"


@pytest.mark.process
@pytest.mark.slow
def test_the_wheel_holds_exactly_the_files_of_the_tree(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
        notes = {name.partition(".dist-info/")[2]: archive.read(name).decode() for name in archive.namelist()}
    assert sorted(packed) == sorted(tree_files())
    assert packed == tree_files()
    assert "procession = procession.api.cli.main:main" in notes["entry_points.txt"]
    assert "licenses/LICENSE" in notes


@pytest.mark.process
@pytest.mark.slow
def test_the_sdist_holds_the_rooms_as_files(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if member.issym() or member.islnk()] == []
    inside = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert {f"src/{name}" for name in tree_files()} <= inside


def test_constraints_pin_every_dependency_and_name_no_address() -> None:
    pin = re.compile(r"^([a-z0-9][a-z0-9._-]*)==[0-9][\w.]*( ; .+)?$")
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = set()
    for line in lines:
        match = pin.match(line)
        assert match, f"not a bare pin: {line!r}"
        pinned.add(match[1])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    names = {re.split(r"[<>=!~ \[;]", text)[0].lower() for text in asked}
    assert names <= pinned
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
