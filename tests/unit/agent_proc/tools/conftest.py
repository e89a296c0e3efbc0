"""A project with something outside of it, both ways of opening, and tools carried out in it."""

import errno
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from helpers.builtin_tools import SECRET, Tool, kernel_has_openat2, refusing
from procession.agent_proc.tools import openat2
from procession.agent_proc.tools.carry_out import carry_out


@pytest.fixture(params=["openat2", "by hand"])
def opening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the kernel's way of opening, and with ours on a kernel without it."""
    way: str = request.param
    if way == "by hand":
        monkeypatch.setattr(openat2, "open_beneath", refusing(errno.ENOSYS))
    elif not kernel_has_openat2():
        pytest.skip("this kernel has no openat2, or a filter forbids it")
    return way


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder beside the project, with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def project(tmp_path: Path, outside: Path) -> Path:
    """Return the folder of a project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def tool(project: Path) -> Tool:
    """Return what carries a tool out in the project."""

    def carried_out(name: str, /, *, reads: Collection[str] = (), **arguments: Any) -> dict[str, Any]:
        return carry_out(name, arguments, str(project), "c4d7", reads)

    return carried_out
