"""Durable hosts: a folder for one of this process, or one in a process of its own that may be killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.host_program import HostProgram


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    """Return a host program on a folder of the test's own."""
    (tmp_path / "data").mkdir(mode=0o700)
    made = HostProgram(tmp_path / "data")
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for the data of a host."""
    return tmp_path / "data"
